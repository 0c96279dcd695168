"""Keypoints to cells of a heatmap inside a box, and heatmaps to keypoints (He et al. 2017, 5).

As torchvision 0.28 (`keypoints_to_heatmap`, `heatmaps_to_keypoints`) and Detectron2 0.6, which do
the same: a keypoint is the cell of the heatmap that it lies in; the other way, the heatmap is
stretched over the pixels of its box by bicubic interpolation, whose largest value is the keypoint.
"""

import jax
import jax.numpy as jnp
from jax import Array

# The part of a stretched heatmap that is computed at a time, pixels: the box of a whole photograph
# has a million of them for each keypoint.
_ROWS, _COLUMNS = 32, 64
_CUBIC = -0.75  # the coefficient of PyTorch's bicubic interpolation


def heatmap_targets(
    keypoints: Array, boxes: Array, matched: Array, size: int
) -> tuple[Array, Array]:
    """Returns the cell in which each keypoint of each box's object lies.

    Args:
        keypoints: `[G, P, 3]` float32: x, y (input pixels) and whether it is known (above 0).
        boxes: `[N, 4]` float32, xyxy, input pixels.
        matched: `[N]` int32, index of each box's object.
        size: side of a heatmap, cells (56).

    Returns:
        `[N, P]` int32, row * size + column, 0 where there is none; and `[N, P]` bool, whether the
        keypoint is known and in the box, whose right and bottom edge belong to it.
    """
    x, y, known = jnp.moveaxis(keypoints[matched], -1, 0)
    cells, inside = [], known > 0
    for position, low, high in ((y, 1, 3), (x, 0, 2)):
        start, end = boxes[:, low, None], boxes[:, high, None]
        cell = jnp.floor((position - start) * (size / (end - start)))
        cell = jnp.where(position == end, size - 1, cell)
        inside &= (cell >= 0) & (cell < size)
        cells.append(cell)
    row, column = (jnp.where(inside, cell, 0).astype(jnp.int32) for cell in cells)
    return row * size + column, inside


def heatmaps_to_keypoints(heatmaps: Array, boxes: Array) -> Array:
    """Returns the keypoints that heatmaps of boxes show.

    Args:
        heatmaps: `[D, P, S, S]` float32, logits.
        boxes: `[D, 4]` float32, xyxy, input pixels; finite.

    Returns:
        `[D, P, 3]` float32: x, y (input pixels, inside the box) and the score, 0..1: the softmax
        over the heatmap's cells at the largest value, as Detectron2 has it. (It may exceed 1 a
        little, where the interpolation overshoots; torchvision gives the logit.)
    """
    return jax.lax.map(lambda pair: _keypoints(*pair), (heatmaps, boxes))


def _keypoints(heatmaps: Array, box: Array) -> Array:
    """Returns the keypoints `[P, 3]` of one box."""
    size = jnp.maximum(box[2:] - box[:2], 1.0)
    pixels = jnp.ceil(size)
    value, index = _largest(heatmaps, *pixels.astype(jnp.int32)[::-1])
    at = jnp.stack(jnp.divmod(index, pixels[0].astype(jnp.int32))[::-1], axis=-1)
    position = (at + 0.5) * (size / pixels) + box[:2]
    score = 1 / jnp.exp(heatmaps - value[:, None, None]).sum((1, 2))
    return jnp.concatenate([position, score[:, None]], axis=-1)


def _largest(heatmaps: Array, height: Array, width: Array) -> tuple[Array, Array]:
    """Returns the largest value of each stretched heatmap, and the first place that has it.

    Args:
        heatmaps: `[P, S, S]`.
        height: of the stretched ones, a number.
        width: likewise.

    Returns:
        `[P]` values and `[P]` int32, row * width + column.
    """
    side, blocks_across = heatmaps.shape[-1], -(-width // _COLUMNS)

    def better(k: Array, best: tuple[Array, Array]) -> tuple[Array, Array]:
        rows = k // blocks_across * _ROWS + jnp.arange(_ROWS)
        columns = k % blocks_across * _COLUMNS + jnp.arange(_COLUMNS)
        values = jnp.einsum(
            "ys,pst,xt->pyx",
            _cubic_weights(rows, height, side),
            heatmaps,
            _cubic_weights(columns, width, side),
            precision="highest",
        )
        inside = (rows < height)[:, None] & (columns < width)
        values = jnp.where(inside, values, -jnp.inf).reshape(len(heatmaps), -1)
        found, place = values.max(1), values.argmax(1)
        index = rows[place // _COLUMNS] * width + columns[place % _COLUMNS]
        is_better = (found > best[0]) | ((found == best[0]) & (index < best[1]))
        return jnp.where(is_better, found, best[0]), jnp.where(is_better, index, best[1])

    none = jnp.full(len(heatmaps), -jnp.inf), jnp.zeros(len(heatmaps), jnp.int32)
    return jax.lax.fori_loop(0, -(-height // _ROWS) * blocks_across, better, none)


def _cubic_weights(positions: Array, length: Array, side: int) -> Array:
    """Returns the weights `[n, side]` of `side` values at positions of their bicubic stretching.

    As PyTorch's `interpolate(mode="bicubic", align_corners=False)`: beyond the border the values
    continue as those at the border.

    Args:
        positions: `[n]` int32, 0 to length - 1.
        length: what `side` values are stretched to.
        side: S.
    """
    place = (positions + 0.5) * (side / length) - 0.5
    first = jnp.floor(place)
    weights = jnp.zeros((len(positions), side))
    for k in range(-1, 3):
        at = jnp.clip(first + k, 0, side - 1)
        distance = jnp.abs(place - first - k)
        weights += _cubic(distance)[:, None] * (at[:, None] == jnp.arange(side))
    return weights


def _cubic(distance: Array) -> Array:
    """Returns Keys' cubic convolution kernel at distances from 0 to 2."""
    a, d = _CUBIC, distance
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return jnp.where(d <= 1, near, far)
