"""Which images form which step: closed formulas of the seed and the step, without any state.

All images of a batch share one bucket, so the images of each bucket form a stream of their own:
an endless sequence of permutations, one after the other. Batch j of a stream takes its elements
jB to (j+1)B, across the seam of two permutations where it must, so that no image is ever left
over. Epoch e consists of the batches that the streams complete while they pass through their
e-th permutation, in a random order.

Where images are repeated, each permutation is one of a list that has some of them several times.
Which ones is drawn again for each permutation, but all lists of a stream have the same length
(`repeat_factor.draw_counts`), so the formulas stay closed.
"""

from bisect import bisect_right
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from maskrcnn_jax.data.input.repeat_factor import counts_length, draw_counts, most_of_one

# The fourth number of a seed, so that no two purposes share random numbers; those of augmentation
# are in streams.py.
_ORDER_OF_IMAGES = 1
_ORDER_OF_BATCHES = 2

PADDING = -1  # the index of a slot without an image


class TrainBatch(NamedTuple):
    """The images of one training step.

    bucket: index of the bucket that they share.
    indices: [B] int64, into the samples.
    epochs: [B] int64, seeds the augmentation: how often the stream had passed each image before.
        Where images are repeated, numbers of which no image gets one twice.
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

    def __init__(
        self,
        bucket_of_record: np.ndarray,
        batch_size: int,
        seed: int,
        factors: np.ndarray | None = None,
    ):
        """Groups the records by bucket.

        Args:
            bucket_of_record: [N] int, the bucket of each record.
            batch_size: B, images of a step over all processes.
            seed: non-negative; another seed gives another order.
            factors: [N] float64, at least 1: how often an epoch has each record, on average; None:
                once.

        Raises:
            ValueError: no records, a batch size below 1 or a negative seed.
        """
        if batch_size < 1:
            raise ValueError(f"the batch size is {batch_size}; at least 1 is needed")
        if seed < 0:
            raise ValueError(f"the seed is {seed}; it must not be negative")
        self._streams = _group(bucket_of_record)
        factors = np.ones(len(bucket_of_record)) if factors is None else factors
        self._factors = {bucket: factors[records] for bucket, records in self._streams.items()}
        # Length of each stream's permutations, in images; the same for all of them.
        self._lengths = {bucket: counts_length(of) for bucket, of in self._factors.items()}
        self._most = most_of_one(factors)
        self._batch_size = batch_size
        self._seed = seed
        self._permutation = lru_cache(maxsize=2 * len(self._streams))(self._draw_permutation)
        self._epoch_order = lru_cache(maxsize=2)(self._draw_epoch_order)
        self.batch = lru_cache(maxsize=64)(self._batch)

    @property
    def epoch_length(self) -> int:
        """The number of images in an epoch, of which some may be the same."""
        return sum(self._lengths.values())

    def steps_in_epochs(self, epochs: int) -> int:
        """Returns the number of steps in the first `epochs` epochs."""
        return sum(length * epochs // self._batch_size for length in self._lengths.values())

    def epoch_of(self, step: int) -> int:
        """Returns the epoch that a step belongs to."""
        # Each stream may lag by less than one batch, so the answer is below this bound.
        bound = (step + 1 + len(self._streams)) * self._batch_size // self.epoch_length + 1
        return bisect_right(range(bound + 1), step, key=self.steps_in_epochs) - 1

    def _batch(self, step: int) -> TrainBatch:
        """Returns the images of a step (0, 1, ...); as `batch`, with the last results kept."""
        if step < 0:
            raise ValueError(f"there is no step {step}")
        epoch = self.epoch_of(step)
        position = int(self._epoch_order(epoch)[step - self.steps_in_epochs(epoch)])
        bucket, number = self._batch_of_epoch(epoch, position)
        elements = number * self._batch_size + np.arange(self._batch_size)
        passes, places = np.divmod(elements, self._lengths[bucket])
        indices, copies = np.empty_like(elements), np.empty_like(elements)
        for e in np.unique(passes):
            now = passes == e
            permuted, copy_numbers = self._permutation(bucket, int(e))
            indices[now], copies[now] = permuted[places[now]], copy_numbers[places[now]]
        epochs = passes * self._most + copies
        indices.flags.writeable = epochs.flags.writeable = False
        return TrainBatch(bucket, indices, epochs, epoch)

    def _batch_of_epoch(self, epoch: int, position: int) -> tuple[int, int]:
        """Returns bucket and number within the stream of an epoch's batch, before reordering."""
        for bucket, length in self._lengths.items():
            first = length * epoch // self._batch_size
            end = length * (epoch + 1) // self._batch_size
            if position < end - first:
                return bucket, first + position
            position -= end - first
        raise AssertionError("an epoch has as many batches as its streams complete in it")

    def _draw_epoch_order(self, epoch: int) -> np.ndarray:
        steps = self.steps_in_epochs(epoch + 1) - self.steps_in_epochs(epoch)
        return np.random.default_rng([self._seed, epoch, 0, _ORDER_OF_BATCHES]).permutation(steps)

    def _draw_permutation(self, bucket: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the records of a pass in their order, and which copy of its record each is."""
        rng = np.random.default_rng([self._seed, epoch, bucket, _ORDER_OF_IMAGES])
        counts = draw_counts(self._factors[bucket], rng)
        order = rng.permutation(self._lengths[bucket])
        firsts = np.repeat(np.cumsum(counts) - counts, counts)
        copies = np.arange(len(firsts)) - firsts
        return np.repeat(self._streams[bucket], counts)[order], copies[order]


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
