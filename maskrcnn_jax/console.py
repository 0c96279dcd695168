"""Saying how far a long look at many images has come."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TextIO, TypeVar

_EVERY = 5.0  # seconds

T = TypeVar("T")


def counted(
    items: Iterable[T], total: int, what: str, every: float = _EVERY, stream: TextIO | None = None
) -> Iterator[T]:
    """Yields the items, and says now and then how many have passed.

    Args:
        items: any.
        total: how many they are.
        what: happens to them, "images checked" say.
        every: seconds between two lines; nothing is said of what takes less.
        stream: takes the lines; by default that of errors.
    """
    last = time.monotonic()
    for number, item in enumerate(items, 1):
        yield item
        if time.monotonic() - last >= every:
            last = time.monotonic()
            print(f"{number:,} of {total:,} {what}", file=stream or sys.stderr, flush=True)
