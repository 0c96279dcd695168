"""A prediction from sources to files, with decoding and drawing in threads beside the device."""

import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing
from itertools import count, groupby, islice
from typing import Any, NamedTuple, TypeVar

import numpy as np

from maskrcnn_jax.console import amount, printable
from maskrcnn_jax.inference.predictor import Predictor
from maskrcnn_jax.inference.result import Result
from maskrcnn_jax.predict import video
from maskrcnn_jax.predict.outputs import Found, Outputs, overlay_path
from maskrcnn_jax.predict.progress import Progress
from maskrcnn_jax.predict.sources import Source

T = TypeVar("T")
# As `Predictor.stream`: images to pairs of their numbers, from 0, and results.
Detect = Callable[[Iterable[np.ndarray]], Iterator[tuple[int, Result]]]
_THREADS = min(8, (os.cpu_count() or 1) + 1)


class Settings(NamedTuple):
    """How images are predicted on.

    Attributes:
        detect: gives the results of images.
        max_frames: of each video and camera; None: all.
        rate: frames per second of numbered files; None: as usual.
        seen: called with each image that was read, in the order in which `detect` gets them.
    """

    detect: Detect
    max_frames: int | None = None
    rate: float | None = None
    seen: Callable[[Source], None] = lambda source: None


def run(
    predictor: Predictor, sources: Sequence[Source], outputs: Outputs, settings: Settings
) -> list[str]:
    """Predicts on all sources and writes the outputs; returns a message for each unreadable one.

    Raises:
        OSError: an output cannot be written; it says which, and what is finished.
    """
    total = len(sources) if all(source.is_image for source in sources) else None
    run = _Run(predictor, outputs, settings, Progress(total))
    with ThreadPoolExecutor(_THREADS, "predict") as pool:
        try:
            for is_image, group in groupby(sources, key=lambda source: source.is_image):
                if is_image:
                    run.predict_images(list(group), pool)
                else:
                    for source in group:
                        run.predict_video(source, pool)
        except OSError as error:  # the disk is full, say
            done = f"{amount(run.progress.images, 'image')} finished, in {outputs.out}"
            raise OSError(f"{error}; {done}") from error
        finally:  # also of those before a Ctrl-C
            _finish(outputs, run.progress.images)
    run.progress.end(f"{', '.join(outputs.wanted)} in {printable(outputs.out)}")
    return run.faults


class _Run:
    """What the images and videos of one prediction have in common."""

    def __init__(
        self, predictor: Predictor, outputs: Outputs, settings: Settings, progress: Progress
    ):
        self.predictor, self.outputs, self.settings = predictor, outputs, settings
        self.progress = progress
        self.faults: list[str] = []
        self._next_id = 1

    def predict_images(self, sources: list[Source], pool: ThreadPoolExecutor) -> None:
        """Predicts on image files and addresses, which are read some ahead."""
        read_ones = count()
        shown: dict[int, tuple[Source, int, np.ndarray]] = {}

        def read() -> Generator[np.ndarray]:
            places = _ahead(pool, lambda source: self.predictor.read(source.place), sources)
            with closing(places):
                for source, image in places:
                    number = self._id()
                    try:
                        pixels = image.result()
                    except (ValueError, OSError) as error:
                        self._fault(error)
                        continue
                    self.settings.seen(source)
                    shown[next(read_ones)] = source, number, pixels
                    yield pixels

        def found() -> Iterator[Found]:
            for index, result in self.settings.detect(images):
                yield Found(*shown.pop(index), result)

        with closing(read()) as images:
            self._write(found(), pool, lambda one, _: self._tell(one.source, len(one.result)))

    def predict_video(self, source: Source, pool: ThreadPoolExecutor) -> None:
        """Predicts on the frames of a video, a camera or numbered files."""
        limit = self.predictor.image_config.max_pixels
        counts: list[int] = []
        try:
            with ExitStack() as stack:
                film = stack.enter_context(
                    video.opened(source, self.predictor.read, limit, self.settings.rate)
                )
                if film.has_sound:
                    self.progress.say(f"{printable(source)}: the sound is left out", True)
                writer = None
                if "overlays" in self.outputs.wanted:
                    path = overlay_path(source, self.outputs.out)
                    writer = stack.enter_context(closing(video.VideoWriter(path, film.rate)))
                frames = min(film.total or 0, self.settings.max_frames or sys.maxsize)
                self.progress.total = self.progress.images + frames if frames else None

                def done(one: Found, picture: np.ndarray | None) -> None:
                    counts.append(len(one.result))
                    if writer is not None and picture is not None:
                        writer.write(picture, one.seconds)

                self._write(self._frames(source, film, pool, stack), pool, done)
        except ValueError as error:
            self._fault(error)
        if counts:
            self._tell(source, sum(counts), f"{amount(len(counts), 'frame')}, ")

    def _frames(
        self, source: Source, film: video.Video, pool: ThreadPoolExecutor, stack: ExitStack
    ) -> Iterator[Found]:
        frames: deque[video.Frame] = deque()
        decoded = stack.enter_context(
            closing(_one_ahead(pool, islice(film.frames, self.settings.max_frames)))
        )

        def read() -> Iterator[np.ndarray]:
            for frame in decoded:
                frames.append(frame)
                yield frame.image

        for number, result in self.settings.detect(read()):  # all of one size, so in their order
            frame = frames.popleft()
            yield Found(source, self._id(), frame.image, result, number, frame.seconds)

    def _write(
        self,
        found: Iterable[Found],
        pool: ThreadPoolExecutor,
        done: Callable[[Found, np.ndarray | None], None],
    ) -> None:
        """Writes the files of what is found in threads, and calls `done` with each, in order."""
        waiting: deque[tuple[Found, Future]] = deque()

        def take() -> None:
            one, written = waiting.popleft()
            picture = written.result()
            self.outputs.add(one)
            self.progress.add(len(one.result))
            done(one, picture)

        try:
            for one in found:
                waiting.append((one, pool.submit(self.outputs.write, one)))
                if len(waiting) > 2 * _THREADS:
                    take()
        finally:  # also what a Ctrl-C or a damaged frame finds here
            while waiting:
                take()

    def _id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def _fault(self, error: Exception) -> None:
        self.faults.append(str(error))
        self.progress.say(f"skipped: {printable(error)}", True)

    def _tell(self, source: Source, objects: int, what: str = "") -> None:
        line = f"{printable(source)}: {what}{amount(objects, 'object')}"
        if "overlays" in self.outputs.wanted:
            line += f" -> {printable(overlay_path(source, self.outputs.out))}"
        self.progress.say(line)


def _ahead(
    pool: ThreadPoolExecutor, work: Callable[[T], Any], items: Sequence[T]
) -> Generator[tuple[T, Future]]:
    """Yields the items in order, each with its work, which is done some items ahead."""
    rest = iter(items)
    waiting = deque((item, pool.submit(work, item)) for item in islice(rest, _THREADS))
    try:
        while waiting:
            yield waiting.popleft()
            waiting.extend((item, pool.submit(work, item)) for item in islice(rest, 1))
    finally:
        for _, future in waiting:
            future.cancel()


def _one_ahead(pool: ThreadPoolExecutor, items: Iterator[T]) -> Generator[T]:
    """Yields the items, of which the next is made by a thread meanwhile."""
    end: Any = object()
    future = pool.submit(next, items, end)
    try:
        while (item := future.result()) is not end:
            future = pool.submit(next, items, end)
            yield item
    finally:
        wait([future])


def _finish(outputs: Outputs, images: int) -> None:
    try:
        outputs.finish()
    except OSError as error:
        raise OSError(
            f"{error}; the files of {amount(images, 'image')} are in {outputs.out}, but what was "
            "found in them is not written down: make room and run the command again"
        ) from error
