import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.ops import boxes

UNIT = (1.0, 1.0, 1.0, 1.0)
WEIGHTS = {"rpn": UNIT, "roi": (10.0, 10.0, 5.0, 5.0)}
POISON = np.array(
    [
        [np.nan] * 4,
        [np.inf, np.inf, -np.inf, -np.inf],
        [1e30] * 4,
        [-1e30, -1e30, 1e30, 1e30],
        [5, 5, 5, 5],
        [9, 9, 3, 3],
    ],
    np.float32,
)


def test_area():
    assert boxes.area(jnp.array([1.0, 2.0, 4.0, 7.0])) == 15


def test_iou_by_hand():
    a = jnp.array([[0.0, 0, 4, 4]])
    b = jnp.array([[0.0, 0, 4, 4], [2, 0, 6, 4], [4, 0, 8, 4], [1, 1, 3, 3], [3, 3, 5, 5]])
    np.testing.assert_allclose(boxes.iou(a, b)[0], [1, 8 / 24, 0, 4 / 16, 1 / 19], rtol=1e-6)


def test_iou_is_symmetric_and_one_with_itself(random_boxes):
    b = random_boxes(np.random.default_rng(0), 20)
    overlap = np.asarray(boxes.iou(b, b))
    np.testing.assert_array_equal(overlap, overlap.T)
    np.testing.assert_array_equal(np.diag(overlap), 1)
    assert overlap.min() >= 0
    assert overlap.max() <= 1


def test_overlap_share_is_relative_to_the_first():
    a = jnp.array([[0.0, 0, 4, 4], [0, 0, 2, 2]])
    b = jnp.array([[0.0, 0, 2, 4]])
    np.testing.assert_allclose(boxes.overlap_share(a, b)[:, 0], [0.5, 1.0])


@pytest.mark.parametrize("function", [boxes.iou, boxes.overlap_share])
def test_overlaps_with_padding_are_finite(function, random_boxes):
    good = random_boxes(np.random.default_rng(1), 5)
    everything = np.concatenate([good, POISON])
    overlap = np.asarray(jax.jit(function)(everything, everything))
    assert np.isfinite(overlap).all()
    np.testing.assert_array_equal(overlap[5:, :][:2], 0)  # NaN and inverted infinities
    np.testing.assert_array_equal(overlap[:5, :5], function(good, good))


def test_clip_by_hand_and_with_one_size_per_image():
    b = jnp.array([[[-3.0, -2, 30, 40]], [[5, 6, 7, 8]]])
    height, width = jnp.array([[20.0], [7.0]]), jnp.array([[10.0], [6.0]])
    np.testing.assert_array_equal(boxes.clip(b, height, width), [[[0, 0, 10, 20]], [[5, 6, 6, 7]]])


def test_encode_by_hand():
    # From a 4x2 box centred at (2, 1) to an 8x2 box centred at (4, 3).
    deltas = boxes.encode(jnp.array([0.0, 2, 8, 4]), jnp.array([0.0, 0, 4, 2]), (1, 2, 3, 4))
    np.testing.assert_allclose(deltas, [2 / 4, 2 * 2 / 2, 3 * np.log(2), 0], rtol=1e-6)


@pytest.mark.parametrize("weights", WEIGHTS.values())
def test_decode_inverts_encode(weights, random_boxes):
    rng = np.random.default_rng(2)
    reference, start = random_boxes(rng, 50), random_boxes(rng, 50)
    decoded = boxes.decode(boxes.encode(reference, start, weights), start, weights)
    np.testing.assert_allclose(decoded, reference, atol=1e-4)


def test_decode_limits_growth_and_works_in_float32():
    start = jnp.array([0.0, 0, 16, 16])
    decoded = boxes.decode(jnp.array([0, 0, 50, 50], jnp.bfloat16), start, UNIT)
    assert decoded.dtype == jnp.float32
    np.testing.assert_allclose(decoded, [-492, -492, 508, 508], rtol=1e-5)  # 16 * 1000 / 16


def test_encode_of_padding_is_zero():
    poison = jnp.asarray(POISON)
    good = jnp.tile(jnp.array([1.0, 1, 4, 5]), (len(POISON), 1))
    for deltas in (boxes.encode(poison, good, UNIT), boxes.encode(good, poison, UNIT)):
        assert np.isfinite(deltas).all()
        np.testing.assert_array_equal(np.asarray(deltas)[[0, 1, 4, 5]], 0)


def test_is_at_least():
    b = jnp.array([[0.0, 0, 2, 2], [0, 0, 2, 1.9], [0, 0, 1.9, 2], [3, 3, 1, 1], [jnp.nan] * 4])
    np.testing.assert_array_equal(boxes.is_at_least(b, 2.0), [True] + [False] * 4)


def test_iou_as_torchvision(ops_reference):
    ours = boxes.iou(ops_reference["iou.a"], ops_reference["iou.b"])
    ops_reference.assert_close(ours, "iou.out")


def test_small_boxes_as_torchvision(ops_reference):
    keep = boxes.is_at_least(ops_reference["remove_small.boxes"], 1e-3)
    np.testing.assert_array_equal(np.flatnonzero(keep), ops_reference["remove_small.keep"])


@pytest.mark.parametrize("kind", WEIGHTS)
def test_coder_as_torchvision(ops_reference, kind):
    proposals = ops_reference["coder.proposals"]
    encoded = boxes.encode(ops_reference["coder.reference"], proposals, WEIGHTS[kind])
    ops_reference.assert_close(encoded, f"coder.encoded.{kind}")
    codes = ops_reference[f"coder.codes.{kind}"].reshape(-1, 3, 4)
    decoded = boxes.decode(codes, proposals[:, None], WEIGHTS[kind])
    ops_reference.assert_close(decoded, f"coder.decoded.{kind}")
    ops_reference.assert_close(boxes.clip(decoded, 150, 200), f"coder.clipped.{kind}")
