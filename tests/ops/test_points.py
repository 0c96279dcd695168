"""Bilinear values at points, by hand and against loops."""

import jax
import jax.numpy as jnp
import numpy as np

from maskrcnn_jax.ops.masks import point_targets
from maskrcnn_jax.ops.points import in_image, sample_box_grid, sample_features, sample_grid
from maskrcnn_jax.ops.pooling import pool, products

MAP = jnp.array([[[1.0], [2.0]], [[3.0], [4.0]]])  # [2, 2, 1]


_at = jax.jit(lambda features, points: sample_features(features, points, 0.25, False))


def bilinear(features, x, y):
    """The value at a place in cells, with zeros around the map."""
    height, width = features.shape[:2]
    total = np.zeros(features.shape[2])
    for row, column in np.ndindex(height, width):
        weight = max(0, 1 - abs(y - 0.5 - row)) * max(0, 1 - abs(x - 0.5 - column))
        total += weight * features[row, column]
    return total


def test_points_by_hand():
    inside = {
        (0.5, 0.5): 1.0,  # the centre of a cell
        (1.0, 1.0): 2.5,  # between all four
        (1.25, 0.5): 1.75,  # three quarters of the way to the right
        (0.0, 0.5): 0.5,  # half of it lies outside, where all is zero
    }
    outside = [(2.5, 2.5), (-9, 1), (1e30, 1), (np.nan, 1), (np.inf, 1), (1, -np.inf)]
    points = np.float32([*inside, *outside])
    expected = [*inside.values(), *[0] * len(outside)]
    found = _at(MAP[None], 4 * points[None, None])
    np.testing.assert_array_equal(found.ravel(), np.float32(expected))
    found = jax.jit(sample_grid)(MAP, points[: len(inside)] / 2)
    np.testing.assert_array_equal(found.ravel(), np.float32(expected[: len(inside)]))


def test_points_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((2, 5, 7, 3)).astype(np.float32)
    points = rng.uniform(-1, 30, (2, 4, 6, 2)).astype(np.float32)
    found = _at(features, points)
    for b, n, p in np.ndindex(2, 4, 6):
        expected = bilinear(features[b], *points[b, n, p] / 4)
        np.testing.assert_allclose(found[b, n, p], expected, atol=1e-5)


def test_the_grid_of_a_box_is_of_its_cells_centres():
    rng = np.random.default_rng(1)
    features = rng.standard_normal((1, 6, 8, 2)).astype(np.float32)
    boxes = np.float32([[[4, 3, 30, 20], [-6, -8, 5, 40]]])
    pooled = jax.jit(lambda *given: sample_box_grid(*given, 0.25, 3, False))
    found = pooled(features, boxes)
    share = (np.arange(3, dtype=np.float32) + 0.5) / 3
    grid = np.stack([np.tile(share, 3), np.repeat(share, 3)], axis=-1)
    points = in_image(jnp.asarray(grid)[None, None], jnp.asarray(boxes))
    np.testing.assert_allclose(points[0, 0, 1], [4 + 26 / 2, 3 + 17 / 6], rtol=1e-6)
    expected = _at(features, points)
    np.testing.assert_allclose(found.reshape(1, 2, 9, 2), expected, atol=1e-5)


def test_the_gradient_has_a_form_without_a_scatter(monkeypatch):
    """That of accelerators with train.deterministic; here of several chunks of points."""
    monkeypatch.setattr(products, "_POINTS_AT_ONCE", 5)
    rng = np.random.default_rng(2)
    features = jnp.asarray(rng.standard_normal((2, 4, 5, 3)), jnp.float32)
    points = jnp.asarray(rng.uniform(-1, 24, (2, 3, 4, 2)), jnp.float32)
    cotangent = jnp.asarray(rng.standard_normal((2, 3, 4, 3)), jnp.float32)

    def gradient(features):
        return jax.vjp(lambda x: sample_features(x, points, 0.25, True), features)[1](cotangent)[0]

    by_scatter = jax.jit(gradient)(features)
    on_gpu = jax.jit(gradient).trace(features).lower(lowering_platforms=("cuda",))
    assert "scatter" not in on_gpu.as_text()
    only_products = lambda *arguments, cpu, tpu, default: default(*arguments)  # noqa: E731
    monkeypatch.setattr(jax.lax, "platform_dependent", only_products)
    monkeypatch.setattr(pool, "_pool", pool._pool.__wrapped__)
    np.testing.assert_allclose(jax.jit(gradient)(features), by_scatter, atol=1e-5)


def test_coverage_at_points_by_hand():
    """The object's box is 8 x 4 pixels, its grid 2 x 2: a cell is 4 x 2 pixels."""
    masks = np.zeros((2, 2, 2), np.uint8)
    masks[1] = [[255, 0], [0, 255]]
    boxes = np.float32([[0, 0, 0, 0], [10, 20, 18, 24]])
    points = np.float32(
        [
            [[12, 21], [14, 21], [16, 21], [10, 20], [9.9, 21], [18, 24], [14, 22]],
            [[0, 0], [1, 1], [12, 21], [np.nan, 21], [np.inf, 21], [-5, 0], [0, 1e30]],
        ]
    )
    targets = jax.jit(point_targets)
    found = targets(masks, boxes, points, np.array([1, 0]))
    # Beyond the centres of the outer cells the mask continues up to its box's edge.
    np.testing.assert_allclose(found[0], [1, 0.5, 0, 1, 0, 1, 0.5], atol=1e-6)
    assert not found[1].any()
    nowhere = targets(masks, boxes, points, np.array([1, 1]))
    assert nowhere[1, 3:].tolist() == [0, 0, 0, 0]
