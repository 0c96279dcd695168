"""Frames of videos, numbered files and cameras, and videos made of pictures.

Files are read and written by PyAV, FFmpeg's libraries for Python, which writes H.264, what every
browser and player shows, where OpenCV's FFmpeg has no encoder of it. Cameras are read by OpenCV,
which knows those of every system. Frames keep their times, so that a film of changing rate plays as
it did. Sound is left out.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from maskrcnn_jax.files import regular
from maskrcnn_jax.predict.sources import CAMERA, Source, frames_of

_TICKS = 90_000  # of a second: what times are counted in, as usual for films
_USUAL_RATE = 25.0  # frames per second, where none is known
# What FFmpeg may take a file for. Others, such as playlists, make it open further files.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm"
# Less than the usual half of the time for files a tenth larger; drawn over frames, detail matters.
_ENCODER = {"preset": "veryfast", "crf": "20"}


class Frame(NamedTuple):
    """One picture of a video.

    Attributes:
        image: `[h, w, C]`, RGB where C is 3.
        seconds: from the start.
    """

    image: np.ndarray
    seconds: float


class Video(NamedTuple):
    """An open source of frames.

    Attributes:
        frames: in order; ValueError where one cannot be read.
        rate: frames per second.
        total: how many there are, if known; not reliable.
        has_sound: whether there is sound, which is left out.
    """

    frames: Iterator[Frame]
    rate: float
    total: int | None
    has_sound: bool


def library() -> Any:
    """Returns the package av.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise ValueError(f"videos need the package av ({error}): pip install av") from error
    return av


@contextmanager
def opened(
    source: Source, read: Callable[[str], np.ndarray], max_pixels: int, rate: float | None
) -> Iterator[Video]:
    """Opens a video, numbered files or a camera.

    Args:
        source: of one of these kinds.
        read: gives the image of a file.
        max_pixels: a video of larger frames is refused.
        rate: frames per second of numbered files; None: 25.

    Raises:
        ValueError: it is no readable video, or there is no such camera.
        OSError: it is not there.
    """
    if source.kind == "sequence":
        files, rate = frames_of(source.place), rate or _USUAL_RATE
        yield Video(_numbered(files, read, rate), rate, len(files), False)
        return
    kind = _camera if source.kind == "camera" else _file
    with kind(source.place, max_pixels) as video:
        yield video


def _numbered(files: list[Path], read: Callable[[str], np.ndarray], rate: float) -> Iterator[Frame]:
    size: tuple[int, ...] = ()
    for number, file in enumerate(files):
        try:
            image = read(str(file))
        except OSError as error:  # that of an output would end it all
            raise ValueError(f"{file} cannot be read: {error}") from error
        size = size or image.shape[:2]
        if image.shape[:2] != size:
            raise ValueError(
                f"{file} has {image.shape[1]} x {image.shape[0]} pixels and the frames before it "
                f"{size[1]} x {size[0]}; those of a video are all of one size"
            )
        yield Frame(image, number / rate)


@contextmanager
def _file(path: str, max_pixels: int) -> Iterator[Video]:
    av = library()
    with ExitStack() as stack:
        try:
            content = stack.enter_context(open(path, "rb", opener=regular))
            container = av.open(content, options={"format_whitelist": _FORMATS})
        except (av.error.FFmpegError, OSError, ValueError) as error:
            why = getattr(error, "strerror", "") or error
            raise ValueError(f"{path} is not a readable video, or is truncated: {why}") from error
        stack.enter_context(container)
        if not container.streams.video:
            raise ValueError(f"{path} has no pictures, only sound")
        stream = container.streams.video[0]
        height, width = stream.codec_context.height, stream.codec_context.width
        if height * width > max_pixels:
            raise ValueError(
                f"{path} has frames of {width} x {height} pixels, more than the {max_pixels} "
                "of config.data.max_pixels"
            )
        stream.thread_type = "AUTO"
        rate = float(stream.average_rate or stream.guessed_rate or _USUAL_RATE)
        yield Video(
            _decoded(container, stream, path, rate, (av.error.FFmpegError, OSError)),
            rate,
            stream.frames or _frames_in(container.duration, rate),
            bool(container.streams.audio),
        )


def _frames_in(duration: int | None, rate: float) -> int | None:
    return round(duration / 1e6 * rate) if duration else None


def _decoded(container, stream, path, rate, fault) -> Iterator[Frame]:
    number = 0
    try:
        for frame in container.decode(stream):
            turns = round(frame.rotation / 90) % 4
            image = np.rot90(frame.to_ndarray(format="rgb24"), turns)
            seconds = number / rate if frame.time is None else float(frame.time)
            yield Frame(np.ascontiguousarray(image), seconds)
            number += 1
    except fault as error:
        raise ValueError(f"{path}: frame {number} cannot be read: {error.strerror}") from error
    if not number:
        raise ValueError(f"{path} has no frame")


@contextmanager
def _camera(number: str, max_pixels: int) -> Iterator[Video]:
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # it is told below
    camera = cv2.VideoCapture(int(number))
    try:
        if not camera.isOpened():
            raise ValueError(f"{CAMERA}{number} cannot be opened; is it there, and not in use?")
        rate = camera.get(cv2.CAP_PROP_FPS)
        yield Video(_seen(camera), rate if 1 <= rate <= 240 else _USUAL_RATE, None, False)
    finally:
        camera.release()


def _seen(camera: Any) -> Iterator[Frame]:
    start = time.monotonic()
    while True:
        is_there, image = camera.read()
        if not is_there:
            return
        yield Frame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), time.monotonic() - start)


class VideoWriter:
    """Makes an MP4 file of pictures, which appears when it is closed.

    A height or width that is odd grows by a pixel, a copy of the last, as H.264's colours need.
    """

    def __init__(self, path: Path, rate: float):
        """Takes the path of the file, and about how many pictures a second there will be."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._rate, self._last = path, rate, -1
        self._unfinished = path.with_name(f".{path.name[:200]}.{os.getpid()}.mp4")
        self._container = library().open(str(self._unfinished), "w")
        self._stream: Any = None

    def write(self, picture: np.ndarray, seconds: float) -> None:
        """Adds a picture `[h, w, 3]` uint8 RGB, all of one size, to be shown from then on."""
        height, width = picture.shape[:2]
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
        if self._stream is None:
            self._stream = self._started(*picture.shape[:2])
        frame = library().VideoFrame.from_ndarray(picture, format="rgb24")
        self._last = frame.pts = max(self._last + 1, round(seconds * _TICKS))
        frame.time_base = Fraction(1, _TICKS)
        self._container.mux(self._stream.encode(frame))

    def _started(self, height: int, width: int) -> Any:
        rate = Fraction(self._rate).limit_denominator(1001)
        stream = self._container.add_stream("libx264", rate=rate, options=dict(_ENCODER))
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        stream.codec_context.time_base = Fraction(1, _TICKS)
        return stream

    def close(self) -> None:
        """Finishes the file; without any picture there is none."""
        try:
            if self._stream is not None:
                self._container.mux(self._stream.encode())
            self._container.close()
            if self._stream is not None:
                os.replace(self._unfinished, self._path)
        finally:
            self._unfinished.unlink(missing_ok=True)
