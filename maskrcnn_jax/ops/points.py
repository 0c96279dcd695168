"""Bilinear values at single points, of feature maps and of small grids.

Coordinates are continuous: cell i has its centre at i + 0.5. A value fades to 0 within half a cell
of the border and is 0 beyond, as in PyTorch's `grid_sample` with `align_corners=False`.
"""

import jax
import jax.numpy as jnp
from jax import Array

from maskrcnn_jax.ops.pooling.pool import pool
from maskrcnn_jax.ops.pooling.taps import Taps


def sample_features(features: Array, points: Array, scale: float, deterministic: bool) -> Array:
    """Returns a feature map's values at points of the image.

    Differentiable by the features alone; `ops.pooling.pool.pool` says in what forms.

    Args:
        features: `[B, h, w, C]`, any float type.
        points: `[B, N, P, 2]` float32, x and y, input pixels.
        scale: cells per input pixel, 1 / stride.
        deterministic: see `ops.pooling.pool.pool`.

    Returns:
        `[B, N, P, C]` in the dtype of the features; zeros where a point is not finite.
    """
    batch, boxes, number = points.shape[:3]
    position = jax.lax.stop_gradient(points.reshape(batch, -1, 1, 2)) * scale
    rows = _taps(position[..., 1], features.shape[1])
    columns = _taps(position[..., 0], features.shape[2])
    values = pool((features,), _first_level(rows), rows, columns, deterministic)
    return values.reshape(batch, boxes, number, -1)


def sample_box_grid(
    features: Array, boxes: Array, scale: float, size: int, deterministic: bool
) -> Array:
    """Returns a feature map's values at the centres of a regular grid of cells in each box.

    Args:
        features: `[B, h, w, C]`, any float type.
        boxes: `[B, N, 4]` float32, xyxy, input pixels.
        scale: cells per input pixel, 1 / stride.
        size: S, cells of the grid along each side.
        deterministic: see `ops.pooling.pool.pool`.

    Returns:
        `[B, N, S, S, C]` in the dtype of the features.
    """
    boxes = jax.lax.stop_gradient(boxes)
    share = (jnp.arange(size, dtype=jnp.float32) + 0.5) / size
    x1, y1, x2, y2 = (side[..., None] for side in jnp.moveaxis(boxes, -1, 0))
    rows = _taps((y1 + share * (y2 - y1)) * scale, features.shape[1])
    columns = _taps((x1 + share * (x2 - x1)) * scale, features.shape[2])
    return pool((features,), _first_level(rows), rows, columns, deterministic)


def sample_grid(grid: Array, points: Array) -> Array:
    """Returns the values of small grids at points inside them, by a matrix product.

    Its gradient is a product, too: it has no scatter.

    Args:
        grid: `[..., S, S, K]` float32.
        points: `[..., P, 2]` float32, x and y, 0..1 over the grid.

    Returns:
        `[..., P, K]` float32.
    """
    size = grid.shape[-2]
    position = jax.lax.stop_gradient(points) * size - 0.5
    distance = jnp.abs(position[..., None] - jnp.arange(size, dtype=jnp.float32))
    weight = jnp.maximum(1 - distance, 0.0)
    weight = weight[..., 1, :, None] * weight[..., 0, None, :]
    return jnp.einsum("...pyx,...yxk->...pk", weight, grid, precision="highest")


def in_image(points: Array, boxes: Array) -> Array:
    """Returns points in pixels of the image.

    Args:
        points: `[..., P, 2]` float32, x and y, 0..1 over their box.
        boxes: `[..., 4]` float32, xyxy, input pixels.

    Returns:
        `[..., P, 2]` float32.
    """
    start, end = boxes[..., None, :2], boxes[..., None, 2:]
    return start + points * (end - start)


def _taps(position: Array, length: int) -> Taps:
    """Bilinear taps of positions `[B, N, S]` in cells, to `[B, N, S, 2]`."""
    position = jnp.where(jnp.isfinite(position), position - 0.5, -1.0)
    position = jnp.clip(position, -1.0, length)
    low = jnp.floor(position)
    cell = low.astype(jnp.int32)[..., None] + jnp.arange(2)
    fraction = position - low
    weight = jnp.stack([1 - fraction, fraction], axis=-1)
    weight = jnp.where((cell >= 0) & (cell < length), weight, 0.0)
    return Taps(jnp.clip(cell, 0, length - 1), weight)


def _first_level(taps: Taps) -> Array:
    return jnp.zeros(taps.cell.shape[:2], jnp.int32)
