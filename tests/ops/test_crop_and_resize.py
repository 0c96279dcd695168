"""`multilevel_crop_and_resize` by hand and against the published definition in numpy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from maskrcnn_jax.ops import roi_align as roi
from maskrcnn_jax.ops.boxes import decode, encode
from tests.models import matterport

SHAPE = (48, 64)
crop = jax.jit(
    partial(roi.multilevel_crop_and_resize, image_shape=SHAPE), static_argnames="output_size"
)


def _scene(seed=0, batch=2, num_boxes=12, channels=3):
    """Two levels; boxes inside, across and outside the image, on its edges and without area."""
    rng = np.random.default_rng(seed)
    features = [rng.normal(size=(batch, 48 // s, 64 // s, channels)) for s in (4, 8)]
    centre = rng.uniform(-4, 60, (batch, num_boxes, 2))
    half = rng.uniform(0.5, 20, (batch, num_boxes, 2))
    boxes = np.concatenate([centre - half, centre + half], axis=-1)
    boxes[:, 0] = (0, 0, 63, 47)
    boxes[:, 1] = (10, 7, 63, 47)
    boxes[:, 2] = (20, 9, 20, 30)
    boxes[:, 3] = (30, 20, 25, 10)  # TensorFlow turns such a crop around
    level = rng.integers(0, 2, (batch, num_boxes))
    as_float32 = [jnp.asarray(f, jnp.float32) for f in features]
    return as_float32, jnp.asarray(boxes, jnp.float32), jnp.asarray(level)


def test_by_hand():
    # On a ramp 10 y + x of 4 x 4 cells of an input of 7 x 7, a cell is two pixels further.
    ramp = (10 * jnp.arange(4.0)[:, None] + jnp.arange(4.0)).reshape(1, 4, 4, 1)
    boxes = jnp.array([[[2.0, 0, 6, 4], [1, 1, 1, 1], [4, 4, 8, 6]]])
    level = jnp.zeros((1, 3), int)
    out = roi.multilevel_crop_and_resize([ramp], boxes, level, (7, 7), 3)[0, ..., 0]
    np.testing.assert_allclose(out[0], [[1, 2, 3], [11, 12, 13], [21, 22, 23]], atol=1e-5)
    np.testing.assert_allclose(out[1], np.full((3, 3), 5.5), atol=1e-5)
    # Columns 2, 3 and 4, of which the last is outside.
    np.testing.assert_allclose(out[2], [[22, 23, 0], [27, 28, 0], [32, 33, 0]], atol=1e-5)
    out = roi.multilevel_crop_and_resize([ramp], boxes, level, (7, 7), 1)[0, ..., 0]
    np.testing.assert_allclose(out.ravel(), [12, 5.5, 28], atol=1e-5)  # a single one: the middle


@pytest.mark.parametrize("size", [1, 2, 7])
def test_equals_numpy_reference(size):
    features, boxes, level = _scene()
    out = crop(features, boxes, level, output_size=size)
    assert out.shape == (2, 12, size, size, 3)
    for b, n in np.ndindex(2, 12):
        feature = np.asarray(features[level[b, n]][b], np.float64)
        box = np.asarray(boxes[b, n], np.float64) / (63, 47, 63, 47)
        expected = matterport.crop_and_resize(feature, box, size)
        np.testing.assert_allclose(out[b, n], expected, atol=2e-5)
    assert (np.abs(out).max(axis=(2, 3, 4)) > 0.1).mean() > 0.7  # most boxes see something
    assert (out == 0).all(axis=-1).any() or size == 1  # and some samples lie outside


def test_boxes_that_end_on_the_last_pixel_are_not_rounded_out():
    feature = jnp.ones((1, 12, 16, 1))
    rng = np.random.default_rng(1)
    boxes = np.float32(rng.uniform(0, 40, (1, 500, 4)))
    boxes[..., 2:] = (63, 47)
    level = jnp.zeros((1, 500), int)
    for size in (7, 14):
        np.testing.assert_allclose(crop([feature], boxes, level, output_size=size), 1, rtol=1e-5)


def test_gradient_against_finite_differences():
    features, boxes, level = _scene(num_boxes=6, channels=2)
    check_grads(
        lambda *f: crop(f, boxes, level, output_size=3), features, 1, ["rev"], atol=1e-2, rtol=1e-2
    )


def test_gradient_equals_that_of_a_naive_version():
    """The naive one weighs all cells of a map for every sample: two matrix products."""
    features, boxes, level = _scene(seed=2)
    cotangent = jax.random.normal(jax.random.key(1), (2, 12, 4, 4, 3))

    def weights(low, high, length):
        position = low[..., None] + (high - low)[..., None] * jnp.arange(4) / 3  # [B, N, 4]
        inside = (position > -1e-4) & (position < length - 1 + 1e-4)
        distance = jnp.abs(position[..., None] - jnp.arange(length))
        return jnp.where(inside[..., None], jnp.maximum(1 - distance, 0), 0)

    def naive(features):
        total = 0.0
        for k, feature in enumerate(features):
            height, width = feature.shape[1:3]
            scale = jnp.array([(width - 1) / 63, (height - 1) / 47] * 2)
            x1, y1, x2, y2 = jnp.moveaxis(boxes * scale, -1, 0)
            rows, columns = weights(y1, y2, height), weights(x1, x2, width)
            out = jnp.einsum("bnih,bhwc,bnjw->bnijc", rows, feature, columns)
            total = total + jnp.where((level == k)[..., None, None, None], out, 0.0)
        return total

    expected, pull_back = jax.vjp(naive, features)
    ours, our_pull_back = jax.vjp(lambda f: crop(f, boxes, level, output_size=4), features)
    np.testing.assert_allclose(ours, expected, atol=1e-4)
    for a, b in zip(our_pull_back(cotangent)[0], pull_back(cotangent)[0], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, 1e30])
def test_padding_is_finite_and_does_not_matter(poison):
    features, boxes, level = _scene(seed=3)
    valid = np.arange(12) < 8
    poisoned = np.where(valid[None, :, None], boxes, np.float32(poison))

    def value_and_gradient(boxes):
        def loss(features):
            out = crop(features, boxes, level, output_size=3)
            return (jnp.where(valid[None, :, None, None, None], out, 0.0) ** 2).sum(), out

        (_, out), gradient = jax.value_and_grad(loss, has_aux=True)(features)
        return out, gradient

    (clean, clean_gradient), (out, gradient) = map(value_and_gradient, (boxes, poisoned))
    np.testing.assert_array_equal(out[:, :8], clean[:, :8])
    np.testing.assert_array_equal(out[:, 8:], 0)
    for ours, expected in zip(gradient, clean_gradient, strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_levels_are_rounded_as_matterport_does():
    """Its level is 4 + round(log2 of the normalised root of the area, over 224 of a pixel)."""
    rng = np.random.default_rng(0)
    side = 1024
    boxes = np.float32(rng.uniform(0, side - 1, (400, 2, 2)))
    boxes = np.concatenate([boxes.min(axis=1), boxes.max(axis=1)], axis=-1)
    normalised = boxes / (side - 1.0)
    root = np.sqrt(np.prod(normalised[:, 2:] - normalised[:, :2], axis=1))
    expected = np.clip(4 + np.round(np.log2(root / (224 / side))), 2, 5) - 2
    assert set(expected) == {0, 1, 2, 3}
    level = roi.assign_levels(boxes, 4, 4.5, 224 * (side - 1) / side)
    np.testing.assert_array_equal(level, expected)


def test_its_box_coder_is_ours_with_other_weights(random_boxes):
    """Normalised boxes and deltas of standard deviation 0.1, 0.1, 0.2, 0.2."""
    rng = np.random.default_rng(0)
    boxes, deltas = random_boxes(rng, 40), rng.normal(size=(40, 4))
    sides = np.array([127.0, 95, 127, 95])
    expected = matterport.decoded(boxes / sides, deltas) * sides
    ours = decode(jnp.float32(deltas), boxes, (10.0, 10.0, 5.0, 5.0))
    np.testing.assert_allclose(ours, expected, atol=1e-3)
    np.testing.assert_allclose(encode(ours, boxes, (10.0, 10.0, 5.0, 5.0)), deltas, atol=1e-4)
