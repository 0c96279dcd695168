"""One loop over files in threads, which wait for the disk, or decode outside Python's lock."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from maskrcnn_jax.console import counted

_THREADS = 16  # they wait for the disk, or the network behind it

T = TypeVar("T")
R = TypeVar("R")


def each_in_threads(function: Callable[[T], R], items: Sequence[T], what: str) -> list[R]:
    """Returns what a function that reads files gives for each item; says how far it has come.

    Args:
        function: of one item.
        items: its arguments.
        what: happens to them, for the lines on the progress.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            return list(counted(pool.map(function, items), len(items), what))
        except BaseException:  # an interrupt, say; without this, the other items came first
            pool.shutdown(cancel_futures=True)
            raise
