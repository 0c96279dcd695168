"""RoIAlign over a feature pyramid: a fixed grid of bilinear samples from each box (paper, 3).

A bin's value is the mean of `sampling_ratio^2` bilinear samples, and a sample is a weighted sum of
four feature vectors. Both weights and positions separate into a vertical and a horizontal part, so
a bin is described by `2 * sampling_ratio` taps (row, weight) and as many (column, weight), and its
value is the sum over all pairs of taps, which `ops/pooling` computes.

TensorFlow's `crop_and_resize` is the same with other positions and a single sample a bin, so two
taps: both forms share everything below the positions.
"""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from maskrcnn_jax.ops import boxes as box_ops
from maskrcnn_jax.ops.pooling.pool import pool
from maskrcnn_jax.ops.pooling.taps import Taps

# Corners beyond this many pixels stand for infinity: the arithmetic on them stays finite.
_FAR = 1e7
# Fraction of a feature map's side by which a sample of `crop_and_resize` may miss the map.
_ROUNDING = 1e-6


def assign_levels(
    boxes: Array,
    num_levels: int,
    canonical_level: float,
    canonical_size: float,
    min_level: int = 2,
) -> Array:
    """Level of the pyramid from which each box is pooled (FPN paper, eq. 1, as torchvision 0.28).

    Args:
        boxes: `[..., 4]` float32, xyxy, input pixels.
        num_levels: levels that are pooled from.
        canonical_level: level of a box of the canonical size (4: P4). Levels are cut off to whole
            ones; half a level more (4.5) rounds to the nearest instead.
        canonical_size: square root of such a box's area, pixels (224).
        min_level: level of the finest map (2: P2).

    Returns:
        `[...]` int32, 0 for the finest level to `num_levels - 1`. Boxes that have no area or are
        not finite get one of these, too.
    """
    size = jnp.sqrt(jnp.maximum(box_ops.area(boxes), 0.0))
    level = jnp.floor(canonical_level + jnp.log2(size / canonical_size) + 1e-6) - min_level
    return jnp.clip(jnp.nan_to_num(level), 0, num_levels - 1).astype(jnp.int32)


def multilevel_roi_align(
    features: Sequence[Array],
    boxes: Array,
    level: Array,
    scales: Sequence[float],
    output_size: int | tuple[int, int],
    sampling_ratio: int = 2,
    aligned: bool = False,
    deterministic: bool = False,
) -> Array:
    """Pools every box from its level of the pyramid, as torchvision 0.28's `roi_align`.

    Differentiable by the features; boxes get no gradient. Sums are float32 whatever the features
    are. A box that is not finite gives zeros, and so does a sample more than one cell outside the
    feature map.

    Args:
        features: one `[B, h, w, C]` float array per level, of one dtype.
        boxes: `[B, N, 4]` float32, xyxy, input pixels.
        level: `[B, N]` int, index into `features` (see `assign_levels`).
        scales: feature cells per input pixel of each level, 1 / stride.
        output_size: S, or (height, width), of the pooled grid.
        sampling_ratio: samples per bin and axis.
        aligned: False: cell i lies at coordinate i and boxes measure at least one cell, as Mask
            R-CNN in torchvision. True: cell i lies at i + 0.5, as Detectron2.
        deterministic: whether the gradient must be the same to the bit whenever it is computed
            again, on a GPU too; see `ops.pooling.pool.pool`.

    Returns:
        `[B, N, S, S, C]` in the dtype of the features.

    Raises:
        ValueError: for a sampling ratio below 1 (adaptive sampling has no static shape), or where
            the number of features and scales differ.
    """
    if sampling_ratio < 1:
        raise ValueError(
            f"sampling_ratio={sampling_ratio}: expected at least 1. Adaptive sampling (0 or less "
            "in other projects) has no static shape; 2 is the usual choice"
        )
    if len(features) != len(scales):
        raise ValueError(
            f"{len(features)} feature maps but {len(scales)} scales; give one scale per map"
        )
    samples = partial(_roi_align_samples, sampling_ratio=sampling_ratio, aligned=aligned)
    of_both_axes = [(scale, scale) for scale in scales]
    return _pool_boxes(features, boxes, level, of_both_axes, output_size, samples, deterministic)


def multilevel_crop_and_resize(
    features: Sequence[Array],
    boxes: Array,
    level: Array,
    image_shape: tuple[int, int],
    output_size: int | tuple[int, int],
    deterministic: bool = False,
) -> Array:
    """Pools every box from its level of the pyramid, as TensorFlow's `crop_and_resize`.

    One bilinear sample a bin: the first and the last one lie on the box's edges, a single one in
    its middle; outside the feature map they are zero. Box coordinate y lies at y (h - 1) / (H - 1)
    on a map of h rows, so the image's and the map's outermost rows fall together; thus matterport's
    Mask R-CNN pools (`PyramidROIAlign`).

    Args:
        features: as for `multilevel_roi_align`.
        boxes: likewise.
        level: likewise.
        output_size: likewise.
        image_shape: H and W of the padded network input, pixels.
        deterministic: likewise.

    Returns:
        As `multilevel_roi_align`.
    """
    height, width = image_shape
    scales = [((f.shape[1] - 1) / (height - 1), (f.shape[2] - 1) / (width - 1)) for f in features]
    return _pool_boxes(features, boxes, level, scales, output_size, _crop_samples, deterministic)


def _pool_boxes(features, boxes, level, scales, output_size, samples, deterministic):
    size = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
    level_shapes = [f.shape[1:3] for f in features]
    boxes = jax.lax.stop_gradient(boxes.astype(jnp.float32))
    level = jnp.clip(level, 0, len(level_shapes) - 1)
    rows, columns = _taps(boxes, level, level_shapes, scales, size, samples)
    return pool(tuple(features), level, rows, columns, deterministic)


def _taps(boxes, level, level_shapes, scales, output_size, samples):
    """Taps of all boxes `[B, N, 4]`: rows and columns of each one's level.

    `scales` are of y and x for each level; `samples` is one of the `..._samples` functions below.
    """
    height, width = (jnp.asarray(sides)[level] for sides in np.array(level_shapes, np.int32).T)
    scale_y, scale_x = jnp.moveaxis(jnp.asarray(scales, jnp.float32)[level], -1, 0)

    usable = jnp.isfinite(boxes).all(axis=-1)
    boxes = jnp.clip(jnp.where(usable[..., None], boxes, 0.0), -_FAR, _FAR)
    x1, y1, x2, y2 = jnp.moveaxis(boxes, -1, 0)
    position, inside = samples(y1 * scale_y, y2 * scale_y, height, output_size[0])
    rows = _axis_taps(position, inside, height)
    position, inside = samples(x1 * scale_x, x2 * scale_x, width, output_size[1])
    columns = _axis_taps(position, inside, width)
    return rows._replace(weight=jnp.where(usable[..., None, None], rows.weight, 0.0)), columns


def _roi_align_samples(low, high, length, num_bins, *, sampling_ratio, aligned):
    """Positions along one axis of the samples of boxes from low to high, and which count.

    From `[...]` arrays, all in cells, to `[..., num_bins, sampling_ratio]`.
    """
    offset = 0.5 if aligned else 0.0
    start = low - offset
    extent = high - offset - start
    if not aligned:
        extent = jnp.maximum(extent, 1.0)
    bin_size = (extent / num_bins)[..., None, None]
    bins = jnp.arange(num_bins, dtype=jnp.float32)[:, None]
    samples = jnp.arange(sampling_ratio, dtype=jnp.float32) + 0.5
    # torchvision's order of operations: another one moves samples by a rounding error.
    position = start[..., None, None] + bins * bin_size + samples * bin_size / sampling_ratio
    # The outermost cells reach one cell further out.
    return position, (position >= -1) & (position <= length[..., None, None])


def _crop_samples(low, high, length, num_bins):
    """The same for `crop_and_resize`, to `[..., num_bins, 1]`."""
    low, high = low[..., None, None], high[..., None, None]
    share = np.linspace(0, 1, num_bins) if num_bins > 1 else np.array([0.5])
    position = low + share.astype(np.float32)[:, None] * (high - low)
    # Boxes that were clipped to the image end on the last cell: rounding must not move them out.
    last = (length - 1)[..., None, None]
    return position, (position >= -_ROUNDING * last) & (position <= (1 + _ROUNDING) * last)


def _axis_taps(position, inside, length) -> Taps:
    """Bilinear taps of samples `[..., bins, samples]`, to `[..., bins, 2 * samples]`."""
    length, samples = length[..., None, None], position.shape[-1]
    position = jnp.clip(position, 0, length - 1)
    cell = jnp.floor(position).astype(jnp.int32)
    fraction = position - cell
    cells = jnp.stack([cell, jnp.minimum(cell + 1, length - 1)], axis=-1)
    weights = jnp.stack([1 - fraction, fraction], axis=-1)
    weights = jnp.where(inside[..., None], weights, 0.0) / samples
    taps_shape = (*cell.shape[:-1], 2 * samples)
    return Taps(cells.reshape(taps_shape), weights.reshape(taps_shape))
