"""How far a prediction is, and how fast: one line that renews itself on a terminal."""

import sys
import time

from maskrcnn_jax.console import amount

_RENEWED = 0.2  # seconds between two states of the line on a terminal
_SPARSE = 10.0  # seconds between two lines elsewhere


class Progress:
    """Counts images, and says on the stream of errors how many are done, and how many a second."""

    def __init__(self, total: int | None):
        """Takes how many images there will be, None where that is not known."""
        self.total = total
        self.images = self.objects = 0
        self._start = self._told = time.monotonic()
        self._first: float | None = None  # when the first image was done, and programs compiled
        self._shown = 0  # characters of the line on the terminal

    def add(self, objects: int) -> None:
        """Counts an image with its objects, and renews the line when it is time."""
        now = time.monotonic()
        self.images += 1
        self.objects += objects
        self._first = self._first or now
        is_terminal = sys.stderr.isatty()
        if now - self._told >= (_RENEWED if is_terminal else _SPARSE):
            self._told = now
            done = f"{self.images:,} of " if self.total else ""
            speed = f", {self.rate:.1f} images/s" if self.images > 1 else ""
            text = f"{done}{amount(self.total or self.images, 'image')}{speed}"
            self._show(text) if is_terminal else print(text, file=sys.stderr, flush=True)

    def say(self, text: str, is_fault: bool = False) -> None:
        """Prints a line, on the stream of errors where it says what went wrong."""
        self._show("")
        print(text, file=sys.stderr if is_fault else sys.stdout, flush=True)

    def end(self, what: str) -> None:
        """Prints the total; `what` says what was written."""
        seconds = time.monotonic() - self._start
        speed = f", {self.rate:.1f} images/s after the first" if self.images > 1 else ""
        counts = f"{amount(self.images, 'image')} with {amount(self.objects, 'object')}"
        self.say(f"{counts} in {seconds:.1f} s{speed}; {what}")

    @property
    def rate(self) -> float:
        """Images per second after the first one, which waits for the compiler."""
        first = self._first or self._start
        return (self.images - 1) / max(time.monotonic() - first, 1e-9)

    def _show(self, text: str) -> None:
        """Replaces the line on the terminal."""
        if text or self._shown:
            start = f"\r{' ' * self._shown}\r" if not text else "\r"
            print(
                f"{start}{text:<{self._shown if text else 0}}", end="", file=sys.stderr, flush=True
            )
            self._shown = len(text)
