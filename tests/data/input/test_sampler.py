"""The order of images: every one once per epoch, from any start, however it is split."""

import time
from collections import Counter

import numpy as np
import pytest

from maskrcnn_jax.data.input.sampler import PADDING, EvalSampler, TrainSampler


def buckets(*counts: int) -> np.ndarray:
    """Records of `counts[b]` images in bucket b, interleaved at random."""
    return np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))


@pytest.mark.parametrize(
    ("counts", "batch_size"),
    [((10,), 2), ((7, 13), 4), ((1, 2, 29), 8), ((3,), 8), ((16, 0, 5), 1)],
)
def test_every_image_is_seen_once_per_epoch_of_its_stream(counts, batch_size):
    bucket_of_record = buckets(*counts)
    sampler = TrainSampler(bucket_of_record, batch_size, seed=3)
    epochs = 6
    seen = {b: [] for b in range(len(counts))}
    for step in range(sampler.steps_in_epochs(epochs)):
        batch = sampler.batch(step)
        assert batch.indices.shape == batch.epochs.shape == (batch_size,)
        assert np.all(bucket_of_record[batch.indices] == batch.bucket)
        seen[batch.bucket] += zip(batch.indices.tolist(), batch.epochs.tolist(), strict=True)
    for b, count in enumerate(counts):
        # Whole batches that fit into the six permutations, no image twice in the same one.
        assert len(seen[b]) == count * epochs // batch_size * batch_size
        assert max(Counter(seen[b]).values(), default=1) == 1
        complete = [e for i, e in seen[b]]
        for e in range(len(seen[b]) // count if count else 0):
            assert complete.count(e) == count


def test_batches_of_a_stream_run_across_the_seam_of_two_permutations():
    sampler = TrainSampler(np.zeros(3, int), batch_size=2, seed=0)
    steps = [sampler.batch(step) for step in range(3)]  # epochs 0 (one batch) and 1 (two)
    assert [batch.epoch for batch in steps] == [0, 1, 1]
    assert sampler.steps_in_epochs(1) == 1
    assert sampler.steps_in_epochs(2) == 3
    passed = sorted(tuple(batch.epochs.tolist()) for batch in steps)
    assert passed == [(0, 0), (0, 1), (1, 1)]


def test_epochs_and_seeds_give_different_orders():
    sampler = TrainSampler(np.zeros(1000, int), batch_size=1000, seed=0)
    other = TrainSampler(np.zeros(1000, int), batch_size=1000, seed=1)
    first, second = sampler.batch(0).indices, sampler.batch(1).indices
    assert np.mean(first == second) < 0.05
    assert np.mean(first == other.batch(0).indices) < 0.05
    assert np.mean(first == np.arange(1000)) < 0.05


def test_buckets_are_mixed_within_an_epoch():
    sampler = TrainSampler(buckets(400, 400), batch_size=4, seed=0)
    order = [sampler.batch(step).bucket for step in range(200)]
    assert order.count(0) == order.count(1) == 100
    assert 60 < sum(a != b for a, b in zip(order[1:], order, strict=False)) < 140


def test_a_step_does_not_depend_on_the_steps_asked_before():
    bucket_of_record = buckets(11, 6, 30)
    running = TrainSampler(bucket_of_record, 4, seed=5)
    batches = [running.batch(step) for step in range(60)]
    for step in (59, 17, 0, 31):
        fresh = TrainSampler(bucket_of_record, 4, seed=5).batch(step)
        np.testing.assert_array_equal(fresh.indices, batches[step].indices)
        np.testing.assert_array_equal(fresh.epochs, batches[step].epochs)
        assert (fresh.bucket, fresh.epoch) == (batches[step].bucket, batches[step].epoch)


@pytest.mark.parametrize("batch_size", [1, 3, 16, 100])
def test_the_epoch_of_a_step_agrees_with_the_counts(batch_size):
    sampler = TrainSampler(buckets(1, 5, 20), batch_size, seed=0)
    for epoch in range(40):
        for step in range(sampler.steps_in_epochs(epoch), sampler.steps_in_epochs(epoch + 1)):
            assert sampler.epoch_of(step) == epoch
    assert sampler.steps_in_epochs(100) == sum(n * 100 // batch_size for n in (1, 5, 20))


def test_a_late_step_of_a_large_set_is_found_at_once():
    start = time.perf_counter()
    sampler = TrainSampler(buckets(80_000, 30_000, 8_000, 287), 16, seed=0)
    batch = sampler.batch(10**9)
    assert time.perf_counter() - start < 1.0
    assert sampler.steps_in_epochs(batch.epoch) <= 10**9
    assert sampler.steps_in_epochs(batch.epoch + 1) > 10**9


@pytest.mark.parametrize("batch_size", [1, 4, 7, 64])
def test_evaluation_takes_every_image_once_in_order(batch_size):
    bucket_of_record = buckets(9, 0, 8, 3)
    batches = EvalSampler(bucket_of_record, batch_size).batches
    assert [batch.bucket for batch in batches] == sorted(batch.bucket for batch in batches)
    indices = np.concatenate([batch.indices for batch in batches])
    assert all(len(batch.indices) == batch_size for batch in batches)
    kept = indices[indices != PADDING]
    assert sorted(kept.tolist()) == list(range(20))
    for b in (0, 2, 3):
        of_bucket = kept[bucket_of_record[kept] == b]
        assert np.all(np.diff(of_bucket) > 0)
    for batch in batches:
        filled = batch.indices != PADDING
        assert filled[0]
        assert not np.any(filled[1:] & ~filled[:-1])  # padding only at the end


def test_senseless_arguments_are_refused():
    with pytest.raises(ValueError, match="batch size is 0"):
        TrainSampler(np.zeros(3, int), 0, seed=0)
    with pytest.raises(ValueError, match="batch size is 0"):
        EvalSampler(np.zeros(3, int), 0)
    with pytest.raises(ValueError, match="seed is -1"):
        TrainSampler(np.zeros(3, int), 1, seed=-1)
    with pytest.raises(ValueError, match="no images"):
        TrainSampler(np.zeros(0, int), 1, seed=0)
    with pytest.raises(ValueError, match="no step -1"):
        TrainSampler(np.zeros(3, int), 1, seed=0).batch(-1)


def test_without_factors_a_pass_is_a_plain_permutation():
    for factors in (None, np.ones(9)):
        sampler = TrainSampler(np.zeros(9, int), 9, 5, factors)
        for epoch in (0, 1):
            expected = np.random.default_rng([5, epoch, 0, 1]).permutation(np.arange(9))
            np.testing.assert_array_equal(sampler.batch(epoch).indices, expected)
            np.testing.assert_array_equal(sampler.batch(epoch).epochs, [epoch] * 9)


FACTORS = np.array([1, 1, 2.5, 1, 1.25, 3, 1, 1, 1.75, 1])


def test_every_epoch_has_the_same_number_of_repeated_images():
    bucket_of_record = np.repeat([0, 1], [6, 4])
    sampler = TrainSampler(bucket_of_record, 1, 3, FACTORS)
    # Bucket 0: 9 and 0.75 more, so 10; bucket 1: 4 and 0.75 more, so 5.
    assert sampler.epoch_length == 15
    assert [sampler.steps_in_epochs(e) for e in range(4)] == [0, 15, 30, 45]
    extra = set()
    for epoch in range(20):
        steps = [sampler.batch(step) for step in range(15 * epoch, 15 * (epoch + 1))]
        assert {batch.epoch for batch in steps} == {epoch}
        counts = np.bincount([batch.indices[0] for batch in steps], minlength=10)
        assert np.all(counts >= np.floor(FACTORS))
        assert counts[5] == 3
        extra |= set(np.flatnonzero(counts > np.floor(FACTORS)).tolist())
    assert extra == {2, 4, 8}  # drawn again for each epoch


@pytest.mark.parametrize("batch_size", [1, 4, 7])
def test_no_two_copies_of_an_image_share_their_augmentation(batch_size):
    sampler = TrainSampler(np.repeat([0, 1], [6, 4]), batch_size, 3, FACTORS)
    seen = Counter()
    for step in range(200):
        batch = sampler.batch(step)
        seen.update(zip(batch.indices.tolist(), batch.epochs.tolist(), strict=True))
    assert max(seen.values()) == 1


def test_repeated_images_need_no_replay():
    bucket_of_record = np.repeat([0, 1], [6, 4])
    running = TrainSampler(bucket_of_record, 4, 3, FACTORS)
    batches = [running.batch(step) for step in range(40)]
    for step in (39, 13, 0, 22):
        fresh = TrainSampler(bucket_of_record, 4, 3, FACTORS).batch(step)
        np.testing.assert_array_equal(fresh.indices, batches[step].indices)
        np.testing.assert_array_equal(fresh.epochs, batches[step].epochs)


def test_a_late_step_of_a_large_set_with_repeats_is_found_at_once():
    bucket_of_record = buckets(80_000, 30_000, 8_000, 287)
    factors = np.maximum(1, np.random.default_rng(1).uniform(-5, 8, len(bucket_of_record)))
    start = time.perf_counter()
    sampler = TrainSampler(bucket_of_record, 16, 0, factors)
    batch = sampler.batch(10**9)
    assert time.perf_counter() - start < 1.0
    assert sampler.steps_in_epochs(batch.epoch) <= 10**9 < sampler.steps_in_epochs(batch.epoch + 1)
