"""Which images form which step: closed formulas of the seed and the step, without any state.

All images of a batch share one bucket, so the images of each bucket form a stream of their own:
an endless sequence of permutations, one after the other. Batch j of a stream takes its elements
jB to (j+1)B, across the seam of two permutations where it must, so that no image is ever left
over. Epoch e consists of the batches that the streams complete while they pass through their
e-th permutation, in a random order.
"""

from bisect import bisect_right
from functools import lru_cache
from typing import NamedTuple

import numpy as np

# The fourth number of a seed, so that no two purposes share random numbers; those of augmentation
# are in streams.py.
_ORDER_OF_IMAGES = 1
_ORDER_OF_BATCHES = 2

PADDING = -1  # the index of a slot without an image


class TrainBatch(NamedTuple):
    """The images of one training step.

    bucket: index of the bucket that they share.
    indices: [B] int64, into the samples.
    epochs: [B] int64, how often the stream had passed each image before; seeds its augmentation.
    epoch: the epoch that the step belongs to.
    """

    bucket: int
    indices: np.ndarray
    epochs: np.ndarray
    epoch: int


class EvalBatch(NamedTuple):
    """The images of one evaluation batch: bucket, and [B] int64 indices, PADDING where none."""

    bucket: int
    indices: np.ndarray


class TrainSampler:
    """The order of training images as a function of (seed, step)."""

    def __init__(self, bucket_of_record: np.ndarray, batch_size: int, seed: int):
        """Groups the records by bucket.

        Args:
            bucket_of_record: [N] int, the bucket of each record.
            batch_size: B, images of a step over all processes.
            seed: non-negative; another seed gives another order.

        Raises:
            ValueError: no records, a batch size below 1 or a negative seed.
        """
        if batch_size < 1:
            raise ValueError(f"the batch size is {batch_size}; at least 1 is needed")
        if seed < 0:
            raise ValueError(f"the seed is {seed}; it must not be negative")
        self._streams = _group(bucket_of_record)
        self._batch_size = batch_size
        self._seed = seed
        self._permutation = lru_cache(maxsize=2 * len(self._streams))(self._draw_permutation)
        self._epoch_order = lru_cache(maxsize=2)(self._draw_epoch_order)
        self.batch = lru_cache(maxsize=64)(self._batch)

    def steps_in_epochs(self, epochs: int) -> int:
        """Returns the number of steps in the first `epochs` epochs."""
        return sum(len(records) * epochs // self._batch_size for records in self._streams.values())

    def epoch_of(self, step: int) -> int:
        """Returns the epoch that a step belongs to."""
        total = sum(len(records) for records in self._streams.values())
        # Each stream may lag by less than one batch, so the answer is below this bound.
        bound = (step + 1 + len(self._streams)) * self._batch_size // total + 1
        return bisect_right(range(bound + 1), step, key=self.steps_in_epochs) - 1

    def _batch(self, step: int) -> TrainBatch:
        """Returns the images of a step (0, 1, ...); as `batch`, with the last results kept."""
        if step < 0:
            raise ValueError(f"there is no step {step}")
        epoch = self.epoch_of(step)
        position = int(self._epoch_order(epoch)[step - self.steps_in_epochs(epoch)])
        bucket, number = self._batch_of_epoch(epoch, position)
        elements = number * self._batch_size + np.arange(self._batch_size)
        epochs, places = np.divmod(elements, len(self._streams[bucket]))
        indices = np.empty_like(elements)
        for e in np.unique(epochs):
            now = epochs == e
            indices[now] = self._permutation(bucket, int(e))[places[now]]
        indices.flags.writeable = epochs.flags.writeable = False
        return TrainBatch(bucket, indices, epochs, epoch)

    def _batch_of_epoch(self, epoch: int, position: int) -> tuple[int, int]:
        """Returns bucket and number within the stream of an epoch's batch, before reordering."""
        for bucket, records in self._streams.items():
            first = len(records) * epoch // self._batch_size
            end = len(records) * (epoch + 1) // self._batch_size
            if position < end - first:
                return bucket, first + position
            position -= end - first
        raise AssertionError("an epoch has as many batches as its streams complete in it")

    def _draw_epoch_order(self, epoch: int) -> np.ndarray:
        steps = self.steps_in_epochs(epoch + 1) - self.steps_in_epochs(epoch)
        return np.random.default_rng([self._seed, epoch, 0, _ORDER_OF_BATCHES]).permutation(steps)

    def _draw_permutation(self, bucket: int, epoch: int) -> np.ndarray:
        rng = np.random.default_rng([self._seed, epoch, bucket, _ORDER_OF_IMAGES])
        return rng.permutation(self._streams[bucket])


class EvalSampler:
    """Every record once, in order within its bucket, the last batch of a bucket padded."""

    def __init__(self, bucket_of_record: np.ndarray, batch_size: int):
        """Lists the batches; arguments and errors as for `TrainSampler`."""
        if batch_size < 1:
            raise ValueError(f"the batch size is {batch_size}; at least 1 is needed")
        self.batches: list[EvalBatch] = []
        for bucket, records in _group(bucket_of_record).items():
            for start in range(0, len(records), batch_size):
                indices = np.full(batch_size, PADDING, np.int64)
                chosen = records[start : start + batch_size]
                indices[: len(chosen)] = chosen
                self.batches.append(EvalBatch(bucket, indices))


def _group(bucket_of_record: np.ndarray) -> dict[int, np.ndarray]:
    """Returns the ascending record indices of each bucket that has any, in order of buckets."""
    bucket_of_record = np.asarray(bucket_of_record)
    if bucket_of_record.size == 0:
        raise ValueError("the data set has no images; check its folder and its annotations")
    return {int(b): np.flatnonzero(bucket_of_record == b) for b in np.unique(bucket_of_record)}
