"""SIGTERM and Ctrl-C: the step that is running is finished and saved, then the run stops.

Where several processes train together a signal to one of them stops all, after the same step.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import jax

from maskrcnn_jax.parallel.agreement import Agreement

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):
    """A signal has stopped the run; what it had done is saved.

    Attributes:
        signal_number: `SIGINT` or `SIGTERM`; the conventional exit status is 128 + this.
    """

    def __init__(self, signal_number: int, message: str):
        super().__init__(message)
        self.signal_number = signal_number


class Interrupts:
    """Notes the two signals while it is entered, so that the loop can stop between two steps.

    A second Ctrl-C ends the process at once.

    Attributes:
        received: the signal's number, or None.
    """

    def __init__(self):
        self.received: int | None = None
        self._raise = False
        self._agree = Agreement()
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        self._previous = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def agreed(self) -> int | None:
        """Returns the signal that all processes know of now, or None.

        To be called by all of them equally often. Where there are several, the answer is one call
        late.
        """
        return self._agree(self.received or 0) or None

    @contextmanager
    def at_once(self) -> Iterator[Callable[[], None]]:
        """Within it a signal raises `Interrupted` at once: for work that a rerun can repeat.

        Where there are several processes, they all raise it together, out of the function that
        it gives.

        Yields:
            A function for all processes to call equally often.
        """
        self._raise = jax.process_count() == 1
        try:
            if self._raise and self.received is not None:
                raise Interrupted(self.received, "interrupted")
            yield self._raise_together
        finally:
            self._raise = False

    def _raise_together(self) -> None:
        if number := self.agreed():
            raise Interrupted(number, f"interrupted by {signal.Signals(number).name}")

    def _note(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.received is not None and number == signal.SIGINT:
            # os.write: print may be what the signal has interrupted.
            os.write(sys.stderr.fileno(), b"\nleaving at once; the last checkpoint stands\n")
            os._exit(128 + number)
        self.received = number
        if self._raise:
            raise Interrupted(number, f"interrupted by {name}")
        message = f"\n{name}: stopping after this step; Ctrl-C (again) leaves at once\n"
        os.write(sys.stderr.fileno(), message.encode())
