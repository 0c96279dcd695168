from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from maskrcnn_jax.ops import roi_align as roi
from maskrcnn_jax.ops.pooling import gathers_gradient

pool = jax.jit(
    roi.multilevel_roi_align,
    static_argnames=("scales", "output_size", "sampling_ratio", "aligned"),
)
assign_levels = jax.jit(roi.assign_levels, static_argnums=(1, 2, 3))


def _numpy_roi_align(feature, box, scale, size, ratio, aligned):
    """One box on one `[h, w, C]` map, sample by sample."""
    height, width, channels = feature.shape
    offset = 0.5 if aligned else 0.0
    x1, y1, x2, y2 = np.asarray(box, np.float64) * scale - offset
    box_width, box_height = x2 - x1, y2 - y1
    if not aligned:
        box_width, box_height = max(box_width, 1.0), max(box_height, 1.0)
    out = np.zeros((size, size, channels))
    for row, column in np.ndindex(size, size):
        for i, j in np.ndindex(ratio, ratio):
            y = y1 + (row + (i + 0.5) / ratio) * box_height / size
            x = x1 + (column + (j + 0.5) / ratio) * box_width / size
            if not (-1 <= y <= height and -1 <= x <= width):
                continue
            y, x = np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)
            top, left = min(int(y), height - 2), min(int(x), width - 2)
            dy, dx = y - top, x - left
            corners = feature[top : top + 2, left : left + 2]
            weights = np.outer([1 - dy, dy], [1 - dx, dx])
            out[row, column] += (corners * weights[..., None]).sum(axis=(0, 1)) / ratio**2
    return out


def _scene(seed=0, batch=2, num_boxes=9, channels=3):
    """Two levels, and boxes inside, across and outside the 48 x 64 image; none on a cell's edge."""
    rng = np.random.default_rng(seed)
    features = [rng.normal(size=(batch, 48 // s, 64 // s, channels)) for s in (4, 8)]
    centre = rng.uniform(-8, 70, (batch, num_boxes, 2))
    half = rng.uniform(0.5, 20, (batch, num_boxes, 2))
    boxes = np.concatenate([centre - half, centre + half], axis=-1)
    level = rng.integers(0, 2, (batch, num_boxes))
    as_float32 = [jnp.asarray(f, jnp.float32) for f in features]
    return as_float32, jnp.asarray(boxes, jnp.float32), jnp.asarray(level)


SCALES = (1 / 4, 1 / 8)


@pytest.mark.parametrize(("aligned", "first"), [(False, 7.5), (True, 4.5)])
def test_a_ramp_by_hand(aligned, first):
    # Value 5 y + x. Bins of half a cell: the first centre is at 1.25, or at 0.75 when aligned.
    ramp = jnp.arange(25.0).reshape(1, 5, 5, 1)
    out = pool([ramp], jnp.array([[[1.0, 1, 3, 3]]]), jnp.array([[0]]), (1.0,), 4, 2, aligned)
    expected = first + 2.5 * np.arange(4)[:, None] + 0.5 * np.arange(4)
    np.testing.assert_allclose(out[0, 0, :, :, 0], expected, rtol=1e-6)


def test_edges_by_hand():
    # One row of cells 1..4, bins one cell wide with one sample each in the middle of the box.
    feature = jnp.array([[1.0, 2, 3, 4]]).reshape(1, 1, 4, 1)
    boxes = jnp.array([[[-2.0, 0, 6, 1]]])  # samples at -1.5, -0.5, ... 5.5
    out = pool([feature], boxes, jnp.array([[0]]), (1.0,), (1, 8), 1)
    # Beyond -1: zero. Between -1 and 0: the first cell. Up to 4, the width: the last. Then zero.
    np.testing.assert_allclose(out.ravel(), [0, 1, 1.5, 2.5, 3.5, 4, 0, 0])


def test_boxes_without_area_measure_one_cell_unless_aligned():
    ramp = jnp.arange(25.0).reshape(1, 5, 5, 1)
    boxes = jnp.array([[[2.0, 2, 2, 2]]])
    out = pool([ramp], boxes, jnp.array([[0]]), (1.0,), 1, 2)
    np.testing.assert_allclose(out.ravel(), [5 * 2.5 + 2.5])
    out = pool([ramp], boxes, jnp.array([[0]]), (1.0,), 1, 2, True)
    np.testing.assert_allclose(out.ravel(), [5 * 1.5 + 1.5])


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [1, 2, 3])
def test_equals_sample_by_sample_reference(aligned, ratio):
    features, boxes, level = _scene()
    out = pool(features, boxes, level, SCALES, 3, ratio, aligned)
    assert out.shape == (2, 9, 3, 3, 3)
    for b, n in np.ndindex(2, 9):
        at = int(level[b, n])
        feature = np.asarray(features[at][b], np.float64)
        expected = _numpy_roi_align(feature, boxes[b, n], SCALES[at], 3, ratio, aligned)
        np.testing.assert_allclose(out[b, n], expected, atol=2e-5)
    assert (np.abs(out).max(axis=(2, 3, 4)) > 0.1).mean() > 0.7  # most boxes see something


def test_gradient_against_finite_differences():
    features, boxes, level = _scene(num_boxes=4, channels=2)

    def value(*features):
        return pool(features, boxes, level, SCALES, 2)

    check_grads(value, features, order=1, modes=["rev"], atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("chunk_bytes", [1, 2000, 2**26])
def test_gradient_is_the_adjoint_whatever_the_chunk(monkeypatch, chunk_bytes):
    """For a linear map, <c, F(x)> = <F'(c), x> for every c and x; 9 boxes do not divide by all."""
    monkeypatch.setattr(gathers_gradient, "CHUNK_BYTES", chunk_bytes)
    features, boxes, level = _scene(seed=1)
    value = partial(
        roi.multilevel_roi_align, boxes=boxes, level=level, scales=SCALES, output_size=3
    )
    out, gradient_of = jax.vjp(jax.jit(value), features)
    cotangent = jax.random.normal(jax.random.key(0), out.shape)
    (gradient,) = gradient_of(cotangent)
    left = np.sum(np.float64(cotangent) * np.float64(out))
    right = sum(
        np.sum(np.float64(g) * np.float64(f)) for g, f in zip(gradient, features, strict=True)
    )
    assert abs(left) > 1
    np.testing.assert_allclose(left, right, rtol=1e-4)


def test_boxes_get_no_gradient():
    features, boxes, level = _scene()
    gradient = jax.grad(lambda b: pool(features, b, level, SCALES, 2).sum())(boxes)
    np.testing.assert_array_equal(gradient, 0)


def test_bfloat16_features_and_float32_sums(monkeypatch):
    features, boxes, level = _scene()
    half = [f.astype(jnp.bfloat16) for f in features]
    out = pool(half, boxes, level, SCALES, 3)
    assert out.dtype == jnp.bfloat16
    exact = pool([f.astype(jnp.float32) for f in half], boxes, level, SCALES, 3)
    np.testing.assert_array_equal(out, exact.astype(jnp.bfloat16))  # rounded once, at the end

    # 512 boxes, each a chunk of its own, add 1 to one cell: a bfloat16 sum would stop at 256.
    monkeypatch.setattr(gathers_gradient, "CHUNK_BYTES", 1)
    feature = jnp.ones((1, 1, 1, 1), jnp.bfloat16)
    boxes, level = jnp.zeros((1, 512, 4)), jnp.zeros((1, 512), jnp.int32)

    def total(feature):
        out = roi.multilevel_roi_align([feature], boxes, level, (1.0,), 1)
        return out.astype(jnp.float32).sum()

    gradient = jax.jit(jax.grad(total))(feature)
    assert gradient.dtype == jnp.bfloat16
    assert gradient.item() == 512


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, 1e30, 3e38])
def test_padding_is_finite_and_does_not_matter(poison):
    features, boxes, level = _scene(seed=3)
    valid = jnp.arange(9) < 6
    poisoned = np.array(boxes)
    poisoned[:, 6:] = poison
    poisoned[:, 7, :2] = -poison
    wild_level = jnp.where(valid, level, 10**6)

    def value_and_gradient(boxes, level):
        def loss(features):
            out = pool(features, boxes, level, SCALES, 3)
            chosen = jnp.where(valid[None, :, None, None, None], out, 0.0)
            return (chosen**2).sum(), out

        (_, out), gradient = jax.value_and_grad(loss, has_aux=True)(features)
        return out, gradient

    clean, clean_gradient = value_and_gradient(boxes, level)
    out, gradient = value_and_gradient(jnp.asarray(poisoned), wild_level)
    assert np.isfinite(out).all()
    np.testing.assert_array_equal(out[:, :6], clean[:, :6])
    for ours, expected in zip(gradient, clean_gradient, strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-6)
    if not np.isfinite(poison):
        np.testing.assert_array_equal(out[:, 6:], 0)


def test_faulty_arguments():
    features, boxes, level = _scene()
    with pytest.raises(ValueError, match="sampling_ratio=0"):
        roi.multilevel_roi_align(features, boxes, level, SCALES, 7, sampling_ratio=0)
    with pytest.raises(ValueError, match="2 feature maps but 1 scales"):
        roi.multilevel_roi_align(features, boxes, level, SCALES[:1], 7)


def test_assign_levels_by_hand():
    side = jnp.array([1.0, 111, 112, 223, 224, 447, 448, 5000])
    boxes = jnp.stack([side * 0, side * 0, side, side], axis=-1)
    level = assign_levels(boxes, 4, 4, 224.0)
    np.testing.assert_array_equal(level, [0, 0, 1, 1, 2, 2, 3, 3])
    odd = jnp.array([[jnp.nan] * 4, [jnp.inf] * 4, [5.0, 5, 5, 5], [-1e30, -1e30, 1e30, 1e30]])
    level = np.asarray(assign_levels(odd, 4, 4, 224.0))
    assert level.dtype == np.int32
    assert ((level >= 0) & (level < 4)).all()


def test_levels_as_torchvision(ops_reference):
    level = assign_levels(ops_reference["level_mapper.boxes"], 4, 4, 224.0)
    np.testing.assert_array_equal(level, ops_reference["level_mapper.level"])


@pytest.mark.parametrize("size", [(7, 7), (3, 5)])
@pytest.mark.parametrize("aligned", [False, True])
def test_as_torchvision(ops_reference, aligned, size):
    # The fixtures also hold adaptive sampling (ratio 0), which has no static shape.
    feature = jnp.asarray(ops_reference["roi_align.input"].transpose(0, 2, 3, 1))
    rois = ops_reference[f"roi_align.rois.aligned{int(aligned)}"]
    image, boxes = rois[:, 0].astype(int), jnp.asarray(rois[:, 1:])
    scale = float(ops_reference["roi_align.scale"])

    def pooled(feature):
        of_both = jnp.broadcast_to(boxes, (2, *boxes.shape))
        level = jnp.zeros(of_both.shape[:2], jnp.int32)
        out = pool([feature], of_both, level, (scale,), size, 2, aligned)
        return out[image, np.arange(len(rois))]

    name = f"{size[0]}x{size[1]}"
    out, gradient_of = jax.vjp(pooled, feature)
    key = f"aligned{int(aligned)}.ratio2.{name}"
    ops_reference.assert_close(out.transpose(0, 3, 1, 2), f"roi_align.out.{key}")
    cotangent = jnp.asarray(ops_reference[f"roi_align.cotangent.{name}"].transpose(0, 2, 3, 1))
    gradient = gradient_of(cotangent)[0].transpose(0, 3, 1, 2)
    ops_reference.assert_close(gradient, f"roi_align.grad.{key}")


def test_pyramid_as_torchvision(ops_reference):
    features = [
        jnp.asarray(ops_reference[f"pyramid.level{i}"].transpose(0, 2, 3, 1)) for i in range(4)
    ]
    boxes = jnp.asarray(ops_reference["pyramid.boxes"])[None]
    level = assign_levels(boxes, 4, 4, 224.0)
    assert set(level.ravel().tolist()) == {0, 1, 2, 3}
    out = pool(features, boxes, level, (1 / 4, 1 / 8, 1 / 16, 1 / 32), 7)
    ops_reference.assert_close(out[0].transpose(0, 3, 1, 2), "pyramid.out")
