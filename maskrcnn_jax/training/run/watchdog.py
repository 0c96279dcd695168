"""A thread that tells where a step hangs: data that never come, devices that wait for ever."""

import os
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import jax

from maskrcnn_jax.files import own
from maskrcnn_jax.parallel import processes
from maskrcnn_jax.training.config import TrainConfig
from maskrcnn_jax.training.run.activity import Activity, Now

EXIT_STATUS = 75  # "temporary failure" among the conventional ones: starting again may help
_MOST_SECONDS_BETWEEN_LOOKS = 1.0


class Watchdog:
    """Reports steps that take far longer than those before them; used as a context manager.

    A step is reported once, on stderr and in WORKDIR/stacks-PROCESS.txt, when it has taken
    `train.watchdog_factor` times the median and at least `train.watchdog_seconds`. While there is
    no median yet, `factor` times `seconds` take its place. Compilation and evaluation are not
    watched. After `train.watchdog_abort_seconds` the process ends.

    Args:
        activity: of the thread that trains.
        settings: `config.train`.
        workdir: gets the file.
        leave: ends the process with an exit status.
    """

    def __init__(
        self,
        activity: Activity,
        settings: TrainConfig,
        workdir: Path,
        leave: Callable[[int], None] = os._exit,
    ):
        self._activity, self._leave = activity, leave
        self._factor, self._floor = settings.watchdog_factor, settings.watchdog_seconds
        self._abort = settings.watchdog_abort_seconds
        self._file = Path(workdir) / f"stacks-{jax.process_index()}.txt"
        self._reported: Now | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        if self._floor or self._abort:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def look(self) -> None:
        """Looks at the step once, and reports what is to be reported."""
        now = self._activity.now()
        if self._reported and now.step > self._reported.step:
            self._say(f"step {self._reported.step} has ended after all")
            self._reported = None
        if now.is_paused:
            return
        is_abort = 0 < self._abort <= now.seconds
        if not self._reported and (is_abort or self._is_late(now)):
            self._reported = now
            self._report(now)
        if is_abort:
            self._say(
                f"step {now.step} has taken {now.seconds:.0f} s, and "
                f"config.train.watchdog_abort_seconds is {self._abort:g}: this process ends. The "
                f"last checkpoint stands, and the same command resumes from there"
            )
            sys.stdout.flush()
            self._leave(EXIT_STATUS)

    def _watch(self) -> None:
        shortest = min(seconds for seconds in (self._floor, self._abort) if seconds)
        while not self._ended.wait(min(shortest / 4, _MOST_SECONDS_BETWEEN_LOOKS)):
            self.look()

    def _is_late(self, now: Now) -> bool:
        if not self._floor:
            return False
        usual = self._floor if now.usual is None else now.usual
        return now.seconds >= max(self._floor, self._factor * usual)

    def _report(self, now: Now) -> None:
        usual = "too few steps were done" if now.usual is None else f"{now.usual:.3g} s"
        line = (
            f"step {now.step} has taken {now.seconds:.1f} s so far (median of the steps before it: "
            f"{usual}). What it is at: {now.doing}"
        )
        stacks = stacks_of_threads()
        try:
            with open(self._file, "a", encoding="utf-8", opener=own) as file:
                file.write(f"{datetime.now().isoformat(timespec='seconds')} {line}\n{stacks}\n")
            where = f"What each thread is doing is in {self._file}, too:"
        except OSError as error:
            where = f"{self._file} cannot be written ({error}). What each thread is doing:"
        self._say(f"{line}. {where}\n{stacks}")

    def _say(self, text: str) -> None:
        with suppress(OSError, ValueError):  # where stderr is closed
            print(f"watchdog: {processes.name()}{text}", file=sys.stderr, flush=True)


def stacks_of_threads() -> str:
    """Returns the Python stack of every thread but the caller's, the main thread first.

    Threads of native code are seen only while they run Python, as those of tf.data do.
    """
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sys._current_frames()
    frames.pop(threading.get_ident(), None)
    main = threading.main_thread().ident
    parts = []
    for ident in sorted(frames, key=lambda ident: (ident != main, ident)):
        name = names.get(ident, "not started by Python")
        parts.append(f"thread {name} ({ident}), innermost call last:\n")
        parts += traceback.format_stack(frames[ident])
    return "".join(parts)
