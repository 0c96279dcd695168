"""The engine of batches on a pool of Python threads; `tfdata` makes the same ones on tf.data.

Reading, decoding and resizing release Python's lock, so threads work in parallel.
"""

from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from threading import Lock

import numpy as np

Row = Sequence[np.ndarray]  # the arrays of one slot, or of a batch with one axis more in front


def batches(
    prepare: Callable[[int], Row],
    spec: Mapping[str, tuple[tuple[int | None, ...], type]],
    positions: range,
    batch_size: int,
    workers: int,
    prefetch: int,
) -> Generator[Row]:
    """Yields the rows of consecutive positions, stacked, in order.

    Nothing starts before the first is asked for. At most `prefetch` batches, and as many more as
    give every worker a row, are prepared ahead. Close the iterator to stop the threads; it waits
    for the rows that they are at.

    Args:
        prepare: makes the row of a position; called in several threads.
        spec: not used; the arrays of the rows have their shapes and dtypes.
        positions: a multiple of `batch_size` of them.
        batch_size: rows of a batch.
        workers: threads, rows prepared at the same time.
        prefetch: batches that wait while all workers are busy with later ones.

    Yields:
        Read-only arrays.

    Raises:
        Exception: what `prepare` raised, where its batch would come.
    """
    firsts = iter(positions[::batch_size])
    ahead = prefetch + -(-workers // batch_size)
    pool = ThreadPoolExecutor(workers, "batches")

    def started(first: int) -> Future[Row]:
        batch = _Batch(batch_size)
        for slot in range(batch_size):
            pool.submit(batch.fill, slot, prepare, first + slot)
        return batch.stacked

    try:
        waiting = deque(started(first) for first in islice(firsts, ahead))
        while waiting:
            arrays = waiting.popleft().result()
            waiting.extend(started(first) for first in islice(firsts, 1))
            yield arrays
    finally:
        pool.shutdown(cancel_futures=True)


class _Batch:
    """Collects rows from several threads; the one that brings the last row stacks them."""

    def __init__(self, size: int):
        self.stacked: Future[Row] = Future()
        self._rows: list[Row] = [()] * size
        self._missing = size
        self._lock = Lock()

    def fill(self, slot: int, prepare: Callable[[int], Row], position: int) -> None:
        try:
            self._rows[slot] = prepare(position)
            with self._lock:
                self._missing -= 1
                is_last = not self._missing
            if is_last:
                self.stacked.set_result(
                    [_stacked(arrays) for arrays in zip(*self._rows, strict=True)]
                )
        except BaseException as error:
            with self._lock:  # several rows may fail
                if not self.stacked.done():
                    self.stacked.set_exception(error)


def _stacked(arrays: Sequence[np.ndarray]) -> np.ndarray:
    joined = np.stack(arrays)
    joined.flags.writeable = False
    return joined
