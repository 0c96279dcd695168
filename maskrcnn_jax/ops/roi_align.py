"""RoIAlign over a feature pyramid: a fixed grid of bilinear samples from each box (paper, 3).

A bin's value is the mean of `sampling_ratio^2` bilinear samples, and a sample is a weighted sum of
four feature vectors. Both weights and positions separate into a vertical and a horizontal part, so
a bin is described by `2 * sampling_ratio` taps (row, weight) and as many (column, weight), and its
value is the sum over all pairs of taps.

TensorFlow's `crop_and_resize` is the same with other positions and a single sample a bin, so two
taps: both forms share everything below the positions.

The levels of an image lie one after the other in one table `[cells, C]`, so that boxes of all
levels are read alike. One pair of taps is gathered for all bins at a time and added up: the gather
fuses with the multiply-add, and no array of all samples exists. On a CPU that is 6 times faster
than gathering the corners at once and needs a tenth of the memory (1000 boxes, 7x7, 256 channels).
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from maskrcnn_jax.ops import boxes as box_ops

# Corners beyond this many pixels stand for infinity: the arithmetic on them stays finite.
_FAR = 1e7
# Fraction of a feature map's side by which a sample of `crop_and_resize` may miss the map.
_ROUNDING = 1e-6
# Bytes of the expanded cotangent of one image that the gradient holds at a time.
_GRADIENT_CHUNK_BYTES = 64 * 2**20


class _Taps(NamedTuple):
    """What to read, along one axis, for each bin of each box: P taps, two for each sample."""

    cell: Array  # [N, S, P] int32
    weight: Array  # [N, S, P] float32; they sum to 1 over P inside the map, less at its edge


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
    return _pool_boxes(features, boxes, level, [(s, s) for s in scales], output_size, samples)


def multilevel_crop_and_resize(
    features: Sequence[Array],
    boxes: Array,
    level: Array,
    image_shape: tuple[int, int],
    output_size: int | tuple[int, int],
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

    Returns:
        As `multilevel_roi_align`.
    """
    height, width = image_shape
    scales = [((f.shape[1] - 1) / (height - 1), (f.shape[2] - 1) / (width - 1)) for f in features]
    return _pool_boxes(features, boxes, level, scales, output_size, _crop_samples)


def _pool_boxes(features, boxes, level, scales, output_size, samples):
    size = (output_size, output_size) if isinstance(output_size, int) else tuple(output_size)
    # One table per image, not one for the batch: indices then never lead to another image, and a
    # batch that is sharded over devices needs no communication.
    table = jnp.concatenate([f.reshape(f.shape[0], -1, f.shape[-1]) for f in features], axis=1)
    level_shapes = tuple(f.shape[1:3] for f in features)
    boxes = jax.lax.stop_gradient(boxes.astype(jnp.float32))
    rows, columns = _taps(boxes, level, level_shapes, scales, size, samples)
    return _pool(table.shape[1], table, rows, columns)


def _taps(boxes, level, level_shapes, scales, output_size, samples):
    """Taps of all boxes `[B, N, 4]`; a row's cell is the index of its first cell in the table.

    `scales` are of y and x for each level; `samples` is one of the `..._samples` functions below.
    """
    height, width = np.array(level_shapes, np.int32).T
    first_cell = np.cumsum(height * width) - height * width
    level = jnp.clip(level, 0, len(level_shapes) - 1)
    height, width, first_cell = (jnp.asarray(a)[level] for a in (height, width, first_cell))
    scale_y, scale_x = jnp.moveaxis(jnp.asarray(scales, jnp.float32)[level], -1, 0)

    usable = jnp.isfinite(boxes).all(axis=-1)
    boxes = jnp.clip(jnp.where(usable[..., None], boxes, 0.0), -_FAR, _FAR)
    x1, y1, x2, y2 = jnp.moveaxis(boxes, -1, 0)
    position, inside = samples(y1 * scale_y, y2 * scale_y, height, output_size[0])
    rows = _axis_taps(position, inside, height)
    position, inside = samples(x1 * scale_x, x2 * scale_x, width, output_size[1])
    columns = _axis_taps(position, inside, width)
    rows = _Taps(
        first_cell[..., None, None] + rows.cell * width[..., None, None],
        jnp.where(usable[..., None, None], rows.weight, 0.0),
    )
    return rows, columns


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


def _axis_taps(position, inside, length) -> _Taps:
    """Bilinear taps of samples `[..., bins, samples]`, to `[..., bins, 2 * samples]`."""
    length, samples = length[..., None, None], position.shape[-1]
    position = jnp.clip(position, 0, length - 1)
    cell = jnp.floor(position).astype(jnp.int32)
    fraction = position - cell
    cells = jnp.stack([cell, jnp.minimum(cell + 1, length - 1)], axis=-1)
    weights = jnp.stack([1 - fraction, fraction], axis=-1)
    weights = jnp.where(inside[..., None], weights, 0.0) / samples
    taps_shape = (*cell.shape[:-1], 2 * samples)
    return _Taps(cells.reshape(taps_shape), weights.reshape(taps_shape))


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _pool(num_cells: int, table: Array, rows: _Taps, columns: _Taps) -> Array:
    """`[B, cells, C]` features and the taps of `[B, N]` boxes to `[B, N, S, S, C]`."""
    del num_cells  # only the gradient needs it
    return jax.vmap(_gather_taps)(table, rows, columns)


def _pool_forward(num_cells, table, rows, columns):
    return _pool(num_cells, table, rows, columns), (rows, columns)


def _pool_backward(num_cells, residuals, cotangent):
    rows, columns = residuals

    def gradient(chunk_bytes):
        return jax.vmap(partial(_scatter_taps, num_cells, chunk_bytes))

    # A GPU's compiler fuses the expansion with the scatter: chunks would only make it start and
    # read its result again, which took half of the time on an H200.
    in_chunks = gradient(_GRADIENT_CHUNK_BYTES)
    return (
        jax.lax.platform_dependent(
            cotangent, rows, columns, cpu=in_chunks, tpu=in_chunks, default=gradient(None)
        ).astype(cotangent.dtype),
        None,
        None,
    )


_pool.defvjp(_pool_forward, _pool_backward)


def _gather_taps(table: Array, rows: _Taps, columns: _Taps) -> Array:
    """Pools the boxes of one image: the weighted sum over all pairs of taps."""
    pooled = jnp.float32(0)
    for i in range(rows.cell.shape[-1]):
        for j in range(columns.cell.shape[-1]):
            index = rows.cell[:, :, None, i] + columns.cell[:, None, :, j]
            weight = rows.weight[:, :, None, i] * columns.weight[:, None, :, j]
            values = table.at[index].get(mode="promise_in_bounds")
            pooled = pooled + values.astype(jnp.float32) * weight[..., None]
    return pooled.astype(table.dtype)


def _scatter_taps(
    num_cells: int, chunk_bytes: int | None, cotangent: Array, rows: _Taps, columns: _Taps
) -> Array:
    """Gradient of `_gather_taps` by the table: adds each bin's cotangent to the cells it read.

    The boxes come in chunks of so many bytes, because a chunk's cotangent is expanded to all pairs
    of taps: P^2 times as large. None: in a single one. Returns `[cells, C]` float32.
    """
    num_boxes, height, width, channels = cotangent.shape
    num_taps = rows.cell.shape[-1]
    bytes_per_box = 4 * height * width * num_taps**2 * channels
    chunk = num_boxes
    if chunk_bytes is not None:
        chunk = max(1, min(num_boxes, chunk_bytes // bytes_per_box))
    num_chunks = -(-num_boxes // chunk)

    def split(array):  # padded boxes get weights and cotangents of zero
        padding = [(0, num_chunks * chunk - num_boxes)] + [(0, 0)] * (array.ndim - 1)
        return jnp.pad(array, padding).reshape(num_chunks, chunk, *array.shape[1:])

    def add_chunk(gradient, chunk_of):
        cotangent, rows, columns = chunk_of
        index = rows.cell[:, :, :, None, None] + columns.cell[:, None, None, :, :]
        weight = rows.weight[:, :, :, None, None] * columns.weight[:, None, None, :, :]
        # [chunk, height, taps, width, taps, C]
        values = cotangent.astype(jnp.float32)[:, :, None, :, None, :] * weight[..., None]
        return _scatter_add(gradient, index, values), None

    gradient = jnp.zeros((num_cells, channels), jnp.float32)
    gradient, _ = jax.lax.scan(add_chunk, gradient, jax.tree.map(split, (cotangent, rows, columns)))
    return gradient


def _scatter_add(gradient: Array, index: Array, values: Array) -> Array:
    """Adds `values[..., C]` to the rows `index` of `gradient`: the one contended step.

    Overlapping boxes add to the same cells, above all on coarse levels. A CPU adds one after the
    other. A GPU adds by atomics, in an order that changes from run to run: 1.8 ms for 8 images of
    512 boxes on an H200 with jaxlib 0.11.2. A jaxlib that turns float32 scatter-add into a
    compare-and-swap loop (openxla/xla #46225) is slow here.
    """
    return gradient.at[index].add(values, mode="promise_in_bounds")
