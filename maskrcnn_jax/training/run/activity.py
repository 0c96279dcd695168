"""What the training thread is doing and since when, for another thread that watches it."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import jax

_RECENT = 50  # steps whose median is what a step usually takes
_FEWEST = 5  # steps from which on there is such a median


class Now(NamedTuple):
    """A look at the training thread.

    Attributes:
        step: that is under way.
        seconds: that it has taken so far, pauses left out.
        usual: seconds, the median of the steps before it; None where these are too few.
        doing: in words.
        is_paused: whether this is no part of a step.
    """

    step: int
    seconds: float
    usual: float | None
    doing: str
    is_paused: bool


class Activity:
    """Notes what is being done, and how long steps take.

    Written by one thread; `now` may be called from others, so every change is one assignment.

    Args:
        start_step: steps done before.
        clock: gives the time in seconds.
    """

    def __init__(self, start_step: int, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._doing = ("the program itself, or what it waits for", False)
        self._step = (start_step + 1, clock(), 0.0)  # number, since when, pauses in it
        self._recent: tuple[float, ...] = ()

    @contextmanager
    def doing(self, what: str, is_pause: bool = False) -> Iterator[None]:
        """Says what is done within it, to a profiler as well.

        Args:
            what: in words.
            is_pause: whether its time is no part of the step's.
        """
        before, began = self._doing, self._clock()
        self._doing = (what, before[1] or is_pause)
        try:
            with jax.profiler.TraceAnnotation(what):
                yield
        finally:
            if is_pause and not before[1]:
                step, since, paused = self._step
                self._step = (step, since, paused + self._clock() - began)
            self._doing = before

    def step_done(self, step: int) -> None:
        """Begins the step after this one."""
        _, since, paused = self._step
        now = self._clock()
        self._recent = (*self._recent, now - since - paused)[-_RECENT:]
        self._step = (step + 1, now, 0.0)

    def now(self) -> Now:
        """Returns what is being done."""
        recent, (step, since, paused), (doing, is_paused) = self._recent, self._step, self._doing
        usual = statistics.median(recent) if len(recent) >= _FEWEST else None
        return Now(step, self._clock() - since - paused, usual, doing, is_paused)
