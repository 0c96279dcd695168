"""What is printed: names that somebody else chose, amounts, and what takes long."""

import sys
import time
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, TypeVar

from maskrcnn_jax.timers import called_after

_EVERY = 5.0  # seconds
_SLOW = 2.0  # seconds after which it is said what is being done
# Unicode's categories of what moves the cursor, changes colours or the direction of text, or is no
# character: controls, formats, surrogates (bytes of a name that are no UTF-8), line separators.
_UNPRINTABLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}

T = TypeVar("T")


def printable(text: object, keep: str = "") -> str:
    r"""Returns text with visible escapes for what a terminal would act on or cannot show.

    A file can have any name: one with an escape code would clear the screen, or recolour or
    overwrite the lines around it; one that is no UTF-8 ends a program that prints it.

    Args:
        text: a name, or a message with names in it.
        keep: characters that stay as they are, say "\n" for several lines.

    Returns:
        The text, with `\x1b` for an escape code and `\xff` for a byte that is no character.
    """
    text = str(text)
    if text.isprintable():  # by far most
        return text
    return "".join(c if c in keep else _visible(c) for c in text)


def _visible(character: str) -> str:
    if unicodedata.category(character) not in _UNPRINTABLE:
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte of a name that it cannot decode
        code -= 0xDC00
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def program(name: str) -> str:
    """Returns how the user starts one of the programs, for a hint on what to type next.

    Args:
        name: `train`, `eval`, `predict`, `data` or `doctor`.

    Returns:
        `maskrcnn-eval` where this process was started as `maskrcnn-train`, say, or the package is
        installed without the scripts; `python eval.py` in a clone, with the folder that was typed.
    """
    started = Path(sys.argv[0])
    here = Path(__file__).resolve().parents[1]
    in_clone = (here / "train.py").is_file() and not started.name.startswith("maskrcnn-")
    if not in_clone:
        return f"maskrcnn-{name}"
    if name in ("data", "doctor"):
        return f"python -m maskrcnn_jax.{name}"
    typed = started.parent if started.name in ("train.py", "eval.py", "predict.py") else Path()
    return f"python {typed / name}.py"


class _SafeStream:
    """A text stream that shows what it cannot print, and never fails on a character."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        # A carriage return that begins what is printed is a line of progress of our own.
        start = "\r" if text.startswith("\r") else ""
        shown = start + printable(text[len(start) :], keep="\n\t")
        encoding = self._stream.encoding or "utf-8"
        self._stream.write(shown.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def safe_streams() -> Iterator[None]:
    """Makes all that is printed meanwhile pass through `printable`, to stdout and to stderr."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (stream and _SafeStream(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def amount(number: int, noun: str) -> str:
    """Returns a number with its noun: "1 object", "2 objects"; the plural is the noun and an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


@contextmanager
def said_if_slow(what: str, after: float = _SLOW, stream: TextIO | None = None) -> Iterator[None]:
    """Says on the stream of errors what is done within it, when that takes more than a moment.

    Args:
        what: "reading 118,000 annotations" say.
        after: seconds.
        stream: takes the line; by default that of errors.
    """

    def say() -> None:
        print(f"{what} ...", file=stream or sys.stderr, flush=True)

    with called_after(after, say):
        yield


def counted(
    items: Iterable[T], total: int, what: str, every: float = _EVERY, stream: TextIO | None = None
) -> Iterator[T]:
    """Yields the items, and says now and then how many have passed.

    Args:
        items: any.
        total: how many they are.
        what: happens to them, "images checked" say.
        every: seconds between two lines; nothing is printed for what takes less.
        stream: takes the lines; by default that of errors.
    """
    last = time.monotonic()
    for number, item in enumerate(items, 1):
        yield item
        if time.monotonic() - last >= every:
            last = time.monotonic()
            print(f"{number:,} of {total:,} {what}", file=stream or sys.stderr, flush=True)
