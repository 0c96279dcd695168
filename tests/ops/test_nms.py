from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.ops import nms as nms_ops

SIZE = 1100  # three blocks, the last one partly empty
FORMS = ["loop", "blocked"]
nms = jax.jit(nms_ops.nms, static_argnames="implementation")


def _spread(rng, random_boxes):
    return random_boxes(rng, SIZE) * 4, rng.uniform(size=SIZE)


def _clustered(rng, random_boxes):
    boxes = random_boxes(rng, 8)[rng.integers(0, 8, SIZE)]
    return boxes + rng.integers(-6, 7, (SIZE, 4)) / 4, rng.uniform(size=SIZE)


def _tied(rng, random_boxes):
    boxes, _ = _clustered(rng, random_boxes)
    boxes[300:400] = boxes[:100]  # exact duplicates
    return boxes, rng.integers(0, 5, SIZE) / 5


def _chain(rng, random_boxes):
    """At 0.7 each box suppresses just the next, so that every second one stays: the worst case."""
    x = np.arange(SIZE) * 1.0
    boxes = np.stack([x, np.zeros(SIZE), x + 8, np.full(SIZE, 8.0)], axis=-1)
    return boxes, -np.arange(SIZE) / SIZE


DATA = {"spread": _spread, "clustered": _clustered, "tied": _tied, "chain": _chain}


def _best_first(keep, scores):
    kept = np.flatnonzero(keep)
    return kept[np.argsort(-scores[kept], kind="stable")].tolist()


@pytest.mark.parametrize("form", FORMS)
def test_by_hand(form):
    # 1 is suppressed by 0. 2 overlaps 1 only: a box that is gone suppresses nothing. 4 is invalid,
    # 3 and 5 are equal and tied: the lower index stays.
    boxes = jnp.array([[0, 0, 4, 4], [2, 0, 6, 4], [4, 0, 8, 4], [9, 9, 12, 12]], jnp.float32)
    boxes = jnp.concatenate([boxes, boxes[:1], boxes[3:]])
    scores = jnp.array([0.9, 0.8, 0.7, 0.5, 1.0, 0.5])
    valid = jnp.array([True, True, True, True, False, True])
    keep = nms(boxes, scores, valid, 0.3, implementation=form)
    np.testing.assert_array_equal(keep, [True, False, True, True, False, False])
    keep = nms(boxes, scores, valid, 0.3, jnp.array([0, 1, 1, 1, 0, 2]), implementation=form)
    np.testing.assert_array_equal(keep, [True, True, False, True, False, True])


@pytest.mark.parametrize("form", FORMS)
def test_an_iou_equal_to_the_threshold_stays(form):
    boxes = jnp.array([[0.0, 0, 4, 4], [0, 0, 4, 2]])  # 8 / 16
    scores, valid = jnp.array([0.2, 0.1]), jnp.ones(2, bool)
    assert nms(boxes, scores, valid, 0.5, implementation=form).tolist() == [True, True]
    assert nms(boxes, scores, valid, 0.49, implementation=form).tolist() == [True, False]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", DATA)
def test_equals_textbook_greedy(kind, form, random_boxes, numpy_greedy):
    rng = np.random.default_rng(0)
    boxes, scores = (x.astype(np.float32) for x in DATA[kind](rng, random_boxes))
    everything, padded = np.ones(SIZE, bool), rng.uniform(size=SIZE) > 0.2
    for valid in (everything, padded):
        for threshold in (0.3, 0.5, 0.7):
            expected = numpy_greedy(boxes, scores, valid, threshold)
            assert 1 < len(expected) < valid.sum()
            keep = nms(boxes, scores, valid, threshold, implementation=form)
            assert _best_first(keep, scores) == expected
    groups = rng.integers(0, 4, SIZE)
    expected = numpy_greedy(boxes, scores, padded, 0.5, groups)
    keep = nms(boxes, scores, padded, 0.5, groups, implementation=form)
    assert _best_first(keep, scores) == expected


@pytest.mark.parametrize("form", FORMS)
def test_vmapped_over_unlike_images(form, random_boxes, numpy_greedy):
    rng = np.random.default_rng(1)
    images = [DATA[kind](rng, random_boxes) for kind in DATA]
    boxes, scores = (np.stack(x).astype(np.float32) for x in zip(*images, strict=True))
    valid = rng.uniform(size=scores.shape) > 0.1
    valid[2] = False  # an image with nothing in it
    keep = jax.jit(jax.vmap(partial(nms_ops.nms, threshold=0.5, implementation=form)))(
        boxes, scores, valid
    )
    for i in range(len(images)):
        assert _best_first(keep[i], scores[i]) == numpy_greedy(boxes[i], scores[i], valid[i], 0.5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("poison", [np.nan, np.inf, 1e30])
def test_padding_does_not_matter(form, poison, random_boxes):
    rng = np.random.default_rng(2)
    boxes, scores = (x.astype(np.float32) for x in _clustered(rng, random_boxes))
    valid = rng.uniform(size=SIZE) > 0.3
    clean = nms(boxes, scores, valid, 0.5, implementation=form)
    boxes[~valid], scores[~valid] = poison, poison
    boxes[~valid, 2:] *= -1
    np.testing.assert_array_equal(nms(boxes, scores, valid, 0.5, implementation=form), clean)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("threshold", ["0.3", "0.5", "0.7"])
def test_as_torchvision(ops_reference, form, threshold):
    boxes, scores = ops_reference["nms.boxes"], ops_reference["nms.scores"]
    keep = nms(boxes, scores, np.ones(len(boxes), bool), float(threshold), implementation=form)
    assert _best_first(keep, scores) == ops_reference[f"nms.keep.{threshold}"].tolist()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("name", "data"), [("batched_nms", "nms"), ("batched_nms_large",) * 2])
def test_groups_as_torchvisions_batched_nms(ops_reference, form, name, data):
    boxes, scores = ops_reference[f"{data}.boxes"], ops_reference[f"{data}.scores"]
    classes, valid = ops_reference[f"{name}.classes"], np.ones(len(boxes), bool)
    keep = nms(boxes, scores, valid, 0.5, classes, implementation=form)
    assert set(np.flatnonzero(keep)) == set(ops_reference[f"{name}.keep.0.5"])


def test_unknown_implementation():
    with pytest.raises(ValueError, match="expected auto, loop or blocked"):
        nms_ops.nms(jnp.zeros((2, 4)), jnp.zeros(2), jnp.ones(2, bool), 0.5, None, "fast")


# --- top_detections ---

ROWS, CLASSES, MAX_OUT = 300, 5, 40
top_detections = jax.jit(nms_ops.top_detections, static_argnames="max_out")


def _expected(numpy_greedy, boxes, scores, threshold, max_out):
    """Rows and classes of the best after suppression in each class, one class at a time."""
    kept = []
    for k in range(scores.shape[1]):
        candidates = scores[:, k] > -np.inf
        rows = numpy_greedy(boxes[:, k], scores[:, k], candidates, threshold)
        kept += [(-scores[row, k], row, k) for row in rows]
    return [(row, k) for _, row, k in sorted(kept)[:max_out]]


def _check(result, expected, boxes, scores):
    out_boxes, out_scores, classes, row, valid = map(np.asarray, result)
    count = len(expected)
    assert valid.sum() == count
    assert valid[:count].all()
    assert list(zip(row[:count].tolist(), classes[:count].tolist(), strict=True)) == expected
    for i, (r, k) in enumerate(expected):
        np.testing.assert_array_equal(out_boxes[i], boxes[r, k])
        assert out_scores[i] == scores[r, k]
    for array in (out_boxes, out_scores, classes, row):
        np.testing.assert_array_equal(array[count:], 0)


def _detections(rng, random_boxes, num_clusters):
    boxes = random_boxes(rng, num_clusters)[rng.integers(0, num_clusters, (ROWS, CLASSES))]
    boxes = boxes + rng.integers(-6, 7, (ROWS, CLASSES, 4)) / 4
    return boxes.astype(np.float32), rng.uniform(size=(ROWS, CLASSES)).astype(np.float32)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.05, 0.0])
def test_top_detections_equals_greedy_of_each_class(share, random_boxes, numpy_greedy):
    rng = np.random.default_rng(4)
    boxes, scores = _detections(rng, random_boxes, 12)
    scores[rng.uniform(size=scores.shape) >= share] = -np.inf
    expected = _expected(numpy_greedy, boxes, scores, 0.5, MAX_OUT)
    result = top_detections(boxes, scores, 0.5, max_out=MAX_OUT)
    _check(result, expected, boxes, scores)


def test_top_detections_looks_beyond_any_chunk(random_boxes, numpy_greedy):
    rng = np.random.default_rng(5)
    boxes, scores = _detections(rng, random_boxes, 20)
    # First come 1200 candidates of which 4 are kept: 300 copies of a box in each of four classes.
    boxes[:, :4], scores[:, :4] = boxes[0, :4], 1 + scores[:, :4]
    expected = _expected(numpy_greedy, boxes, scores, 0.5, MAX_OUT)
    order = np.argsort(-scores, axis=None)
    position = [order.tolist().index(row * CLASSES + k) for row, k in expected]
    assert max(position) > 3 * 256  # the case needs several chunks
    _check(top_detections(boxes, scores, 0.5, max_out=MAX_OUT), expected, boxes, scores)
    # With fewer slots it stops early, on the same ones.
    _check(top_detections(boxes, scores, 0.5, max_out=3), expected[:3], boxes, scores)


def test_top_detections_with_ties(random_boxes, numpy_greedy):
    rng = np.random.default_rng(6)
    boxes, scores = _detections(rng, random_boxes, 30)
    scores = (np.round(scores * 4) / 4).astype(np.float32)
    expected = _expected(numpy_greedy, boxes, scores, 0.5, MAX_OUT)
    assert len({scores[at] for at in expected}) < 4
    _check(top_detections(boxes, scores, 0.5, max_out=MAX_OUT), expected, boxes, scores)


@pytest.mark.parametrize("poison", [np.nan, np.inf, 1e30])
def test_top_detections_ignores_what_is_no_candidate(poison, random_boxes, numpy_greedy):
    rng = np.random.default_rng(7)
    boxes, scores = _detections(rng, random_boxes, 12)
    scores[rng.uniform(size=scores.shape) < 0.7] = -np.inf
    expected = _expected(numpy_greedy, boxes, scores, 0.5, MAX_OUT)
    poisoned = np.where((scores > -np.inf)[..., None], boxes, np.float32(poison))
    poisoned_scores = scores.copy()
    poisoned_scores[:20] = np.where(scores[:20] == -np.inf, np.nan, scores[:20])
    _check(top_detections(poisoned, poisoned_scores, 0.5, max_out=MAX_OUT), expected, boxes, scores)


def test_top_detections_vmapped_and_with_more_slots_than_candidates(random_boxes, numpy_greedy):
    rng = np.random.default_rng(8)
    images = [_detections(rng, random_boxes, n) for n in (2, 40)]
    boxes, scores = (np.stack(x) for x in zip(*images, strict=True))
    boxes, scores = boxes[:, :12], scores[:, :12]
    scores[0, 3:] = -np.inf
    results = jax.jit(jax.vmap(lambda b, s: nms_ops.top_detections(b, s, 0.5, 100)))(boxes, scores)
    for i in range(2):
        expected = _expected(numpy_greedy, boxes[i], scores[i], 0.5, 100)
        _check([array[i] for array in results], expected, boxes[i], scores[i])
