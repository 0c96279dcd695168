from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.ops import boxes as box_ops
from maskrcnn_jax.ops import matching

RPN = dict(high=0.7, low=0.3, allow_low_quality=True)
ROI = dict(high=0.5, low=0.5, allow_low_quality=False)

match = jax.jit(matching.match, static_argnames=("high", "low", "allow_low_quality"))
ignore_crowd = jax.jit(matching.ignore_crowd)


def test_match_by_hand():
    iou = jnp.array([[0.8, 0.5, 0.1, 0.0, 0.2], [0.1, 0.6, 0.2, 0.0, 0.7]])
    matched, label = match(iou, jnp.array([True, True]), 0.7, 0.3, False)
    np.testing.assert_array_equal(label, [1, -1, 0, 0, 1])
    np.testing.assert_array_equal(matched, [0, 0, 0, 0, 1])


def test_low_quality_matches_and_their_ties():
    # Object 1 is overlapped most, and equally, by boxes 0 and 2; box 0 overlaps object 0 more.
    iou = jnp.array([[0.6, 0.1, 0.0], [0.2, 0.1, 0.2]])
    matched, label = match(iou, jnp.array([True, True]), 0.7, 0.3, True)
    np.testing.assert_array_equal(label, [1, 0, 1])
    np.testing.assert_array_equal(matched, [0, 0, 1])


def test_an_object_that_no_box_touches_matches_none():
    iou = jnp.array([[0.0, 0.0, 0.0], [0.9, 0.0, 0.1]])
    _, label = match(iou, jnp.array([True, True]), **RPN)
    np.testing.assert_array_equal(label, [1, 0, 0])


@pytest.mark.parametrize("options", [RPN, ROI])
def test_without_objects_everything_is_negative(options):
    matched, label = match(jnp.full((3, 7), 0.9), jnp.zeros(3, bool), **options)
    np.testing.assert_array_equal(label, np.zeros(7))
    np.testing.assert_array_equal(matched, np.zeros(7))


@pytest.mark.parametrize("poison", [np.nan, 1e30, 1.0])
@pytest.mark.parametrize("options", [RPN, ROI])
def test_invalid_objects_never_match(options, poison):
    rng = np.random.default_rng(0)
    iou = rng.uniform(0, 0.9, (5, 60)).astype(np.float32)
    valid = np.array([True, False, True, False, True])
    poisoned = np.where(valid[:, None], iou, np.float32(poison))
    matched, label = match(poisoned, valid, **options)
    alone_matched, alone_label = match(iou[valid], np.ones(3, bool), **options)
    np.testing.assert_array_equal(label, alone_label)
    expected = np.where(alone_label == 1, np.flatnonzero(valid)[alone_matched], 0)
    np.testing.assert_array_equal(matched, expected)
    assert (label == 1).any()


def test_every_object_gets_its_best_box_when_compiled_together(random_boxes):
    """The maximum and what is compared with it must be the same number to the last bit."""

    @jax.jit
    def label_of(gt, boxes):
        return matching.match(box_ops.iou(gt, boxes), jnp.ones(len(gt), bool), **RPN)[1]

    rng = np.random.default_rng(3)
    for _ in range(20):
        # Coordinates with all their bits, so that rounding differs where it can.
        gt = random_boxes(rng, 7) + rng.uniform(0, 1, (7, 1)).astype(np.float32)
        boxes = random_boxes(rng, 501) * np.float32(0.977)
        label = np.asarray(label_of(gt, boxes))
        best = np.asarray(box_ops.iou(gt, boxes)).argmax(axis=1)
        np.testing.assert_array_equal(label[best], 1)


@pytest.mark.parametrize(("kind", "options"), [("rpn", RPN), ("roi", ROI)])
def test_match_as_torchvision(ops_reference, kind, options):
    matched, label = match(ops_reference["matcher.quality"], np.ones(5, bool), **options)
    torchvisions = np.where(label == 1, matched, np.where(label == 0, -1, -2))
    np.testing.assert_array_equal(torchvisions, ops_reference[f"matcher.{kind}"])


def test_ignore_crowd():
    boxes = jnp.array([[0.0, 0, 4, 4], [8, 0, 12, 4], [6, 0, 10, 4], [20, 20, 24, 24]])
    boxes = jnp.concatenate([boxes, jnp.full((1, 4), jnp.nan)])
    gt_boxes = jnp.array([[0.0, 0, 4, 4], [8, 0, 16, 16], [20, 20, 24, 24], [jnp.nan] * 4])
    crowd = jnp.array([False, True, False, False])
    label = ignore_crowd(jnp.array([1, 0, 0, 0, 0]), boxes, gt_boxes, crowd, 0.5)
    np.testing.assert_array_equal(label, [1, -1, -1, 0, 0])
    label = ignore_crowd(jnp.array([1, 0, 0, 0, 0]), boxes, gt_boxes, crowd, 0.51)
    np.testing.assert_array_equal(label, [1, -1, 0, 0, 0])
    label = ignore_crowd(jnp.array([1, 1, 0, 0, 0]), boxes, gt_boxes, crowd, 0.5)
    np.testing.assert_array_equal(label, [1, 1, -1, 0, 0])  # it matches a single object
    label = ignore_crowd(jnp.array([0, 0, 0, 0, 0]), boxes, gt_boxes, crowd, 0.0)
    np.testing.assert_array_equal(label, [-1] * 5)  # a share of 0 asks for nothing


def _labels(positives, negatives, ignored):
    label = np.repeat([1, 0, -1], [positives, negatives, ignored]).astype(np.int32)
    return np.random.default_rng(0).permutation(label)


sample_indices = jax.jit(matching.sample_indices, static_argnums=(2, 3))
sample_mask = jax.jit(matching.sample_mask, static_argnums=(2, 3))


@pytest.mark.parametrize(
    ("positives", "negatives", "num", "fraction", "expected"),
    [
        (30, 60, 16, 0.5, (8, 8)),  # enough of both
        (3, 60, 16, 0.5, (3, 13)),  # negatives fill up
        (30, 2, 16, 0.5, (8, 2)),  # positives do not
        (0, 5, 16, 0.5, (0, 5)),
        (5, 0, 16, 0.25, (4, 0)),
        (0, 0, 16, 0.5, (0, 0)),
        (30, 60, 10, 0.25, (2, 8)),  # int(2.5)
        (9, 60, 8, 0.0, (0, 8)),
        (9, 60, 8, 1.0, (8, 0)),
        (2, 60, 200, 0.5, (2, 60)),  # a sample larger than what there is
    ],
)
def test_sample_counts(positives, negatives, num, fraction, expected):
    label = _labels(positives, negatives, 100 - positives - negatives)
    index, valid = map(np.asarray, sample_indices(jax.random.key(1), label, num, fraction))
    assert index.shape == valid.shape == (num,)
    drawn = index[valid]
    assert ((label[drawn] == 1).sum(), (label[drawn] == 0).sum()) == expected
    assert len(set(drawn)) == len(drawn)
    assert (label[drawn] == np.repeat([1, 0], expected)).all()  # positives first
    np.testing.assert_array_equal(index[~valid], 0)

    mask = sample_mask(jax.random.key(1), label, num, fraction)
    np.testing.assert_array_equal(np.flatnonzero(mask), np.sort(drawn))


def test_samples_are_uniform_and_depend_on_the_key():
    label = _labels(20, 40, 40)
    keys = jax.random.split(jax.random.key(2), 2000)
    masks = np.asarray(jax.vmap(lambda key: matching.sample_mask(key, label, 20, 0.5))(keys))
    share = masks.mean(axis=0)
    np.testing.assert_allclose(share[label == 1], 10 / 20, atol=0.06)  # 5 standard deviations
    np.testing.assert_allclose(share[label == 0], 10 / 40, atol=0.06)
    np.testing.assert_array_equal(share[label == -1], 0)


@pytest.mark.parametrize(("num", "fraction"), [(1, 1.0), (8, 0.0), (64, 0.25), (2000, 0.5)])
@pytest.mark.parametrize("counts", [(0, 0, 50), (3, 0, 0), (0, 900, 20), (40, 900, 60)])
def test_samples_by_counting_are_those_by_sorting(counts, num, fraction):
    label, key = _labels(*counts), jax.random.key(4)
    expected = matching._mask_of_indices(key, label, num, fraction)
    ours = matching._mask_by_counting(key, label, num, fraction)
    np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("count", [0, 1, 30, 400, 2000])
def test_largest_keys_with_ties(count):
    key = np.random.default_rng(3).integers(0, 5, 1000).astype(np.uint32)
    order = np.lexsort((np.arange(1000), -key.astype(int)))  # of equal keys the first
    expected = np.zeros(1000, bool)
    expected[[i for i in order if key[i] > 0][:count]] = True
    ours = matching._largest(jnp.asarray(key), jnp.int32(count))
    np.testing.assert_array_equal(ours, expected)


def test_fewer_boxes_than_slots():
    draw = partial(matching.sample_indices, num=8, positive_fraction=0.5)
    index, valid = draw(jax.random.key(0), jnp.array([0, 1, -1]))
    np.testing.assert_array_equal(index, [1, 0, 0, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(valid, [True, True] + [False] * 6)
