"""Weighted sums of feature vectors, over pairs of a row and a column: what RoIAlign comes to.

The same sums in two forms, since no single one is fast everywhere:

- `gather`: the levels of an image lie one after the other in one table `[cells, C]`, and one pair
  of taps is gathered for all bins at a time and added up: the gather fuses with the multiply-add,
  and no array of all samples exists. On a CPU that is 6 times faster than gathering the corners at
  once and needs a tenth of the memory (1000 boxes, 7x7, 256 channels); on an H200 it takes 1.4 ms
  for 8 images of 512 boxes, a ninth of the other form. The gradient is a scatter.
- `products`: taps become weights over a level's rows and over its columns, and the sums matrix
  products with the level. Only these have no gather that is written to memory, and no scatter in
  the gradient: a TPU has neither in hardware. The gradient has one order of additions, so it is the
  same to the bit whenever it is computed.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

# Bytes of the expanded cotangent of one image that the scatter in chunks holds at a time.
_CHUNK_BYTES = 64 * 2**20
# Boxes of an image whose products with a level are in memory at a time, and single points, whose
# products are as many rows as those of 14 x 14 bins.
_BOXES_AT_ONCE = 64
_POINTS_AT_ONCE = 14 * _BOXES_AT_ONCE

Levels = tuple[Array, ...]
Shapes = tuple[tuple[int, int], ...]


class Taps(NamedTuple):
    """What to read, along one axis, for each bin of each box: P taps, two for each sample."""

    cell: Array  # [B, N, S, P] int32, row or column of the box's level
    weight: Array  # [B, N, S, P] float32; they sum to 1 over P inside the map, less at its edge


def pool(features: Levels, level: Array, rows: Taps, columns: Taps, deterministic: bool) -> Array:
    """Adds up, for each bin of each box, the cells of its level that its taps name.

    Differentiable by the features alone. Sums are float32.

    Args:
        features: one `[B, h, w, C]` float array per level, of one dtype.
        level: `[B, N]` int32, index into `features`.
        rows: of each box, S of them.
        columns: of each box, T of them.
        deterministic: the gradient in the form of products on every device but a CPU, whose
            additions have an order anyway. Without it a GPU adds by atomics, in an order that
            changes from run to run: 3.7 ms for a step of 8 images on an H200, against 23.

    Returns:
        `[B, N, S, T, C]` in the dtype of the features.
    """
    shapes = tuple((f.shape[1], f.shape[2]) for f in features)
    return _pool((shapes, deterministic), features, level, rows, columns)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _pool(static: tuple[Shapes, bool], features, level, rows, columns) -> Array:
    del static  # only the gradient needs it
    arguments = (features, level, rows, columns)
    return jax.lax.platform_dependent(*arguments, tpu=_products, default=_gather)


def _pool_forward(static, features, level, rows, columns):
    return _pool(static, features, level, rows, columns), (level, rows, columns)


def _pool_backward(static, residuals, cotangent):
    shapes, deterministic = static
    products = partial(_products_gradient, shapes)
    in_chunks = partial(_scatter, shapes, _CHUNK_BYTES)
    # A GPU's compiler fuses the expansion with the scatter: chunks would only make it start and
    # read its result again, which took half of the time on an H200.
    elsewhere = products if deterministic else partial(_scatter, shapes, None)
    gradient = jax.lax.platform_dependent(
        cotangent, *residuals, cpu=in_chunks, tpu=products, default=elsewhere
    )
    return tuple(level.astype(cotangent.dtype) for level in gradient), None, None, None


_pool.defvjp(_pool_forward, _pool_backward)


def _gather(features: Levels, level: Array, rows: Taps, columns: Taps) -> Array:
    # One table per image, not one for the batch: indices then never lead to another image, and a
    # batch that is sharded over devices needs no communication.
    table = jnp.concatenate([f.reshape(f.shape[0], -1, f.shape[-1]) for f in features], axis=1)
    shapes = [(f.shape[1], f.shape[2]) for f in features]
    return jax.vmap(_gather_taps)(table, _in_table(shapes, level, rows), columns)


def _scatter(
    shapes: Shapes,
    chunk_bytes: int | None,
    cotangent: Array,
    level: Array,
    rows: Taps,
    columns: Taps,
) -> Levels:
    """Gradient of `_gather` by the features, float32."""
    num_cells = sum(height * width for height, width in shapes)
    scatter = partial(_scatter_taps, num_cells, chunk_bytes)
    table = jax.vmap(scatter)(cotangent, _in_table(shapes, level, rows), columns)
    ends = np.cumsum([height * width for height, width in shapes])
    parts = jnp.split(table, ends[:-1], axis=1)
    channels = cotangent.shape[-1]
    return tuple(
        part.reshape(-1, *shape, channels) for part, shape in zip(parts, shapes, strict=True)
    )


def _in_table(shapes: Sequence[tuple[int, int]], level: Array, rows: Taps) -> Taps:
    """Rows whose cells are the index of the row's first cell in the table of all levels."""
    height, width = np.array(shapes, np.int32).T
    first_cell = np.cumsum(height * width) - height * width
    first_cell, width = (jnp.asarray(a)[level][..., None, None] for a in (first_cell, width))
    return rows._replace(cell=first_cell + rows.cell * width)


def _gather_taps(table: Array, rows: Taps, columns: Taps) -> Array:
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
    num_cells: int, chunk_bytes: int | None, cotangent: Array, rows: Taps, columns: Taps
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

    def add_chunk(gradient, chunk_of):
        cotangent, rows, columns = chunk_of
        index = rows.cell[:, :, :, None, None] + columns.cell[:, None, None, :, :]
        weight = rows.weight[:, :, :, None, None] * columns.weight[:, None, None, :, :]
        # [chunk, height, taps, width, taps, C]
        values = cotangent.astype(jnp.float32)[:, :, None, :, None, :] * weight[..., None]
        # Overlapping boxes add to the same cells, above all on coarse levels. A jaxlib that turns
        # float32 scatter-add into a compare-and-swap loop on a GPU (0.10.2 to 0.11.0, openxla/xla
        # #46225) is slow here.
        return gradient.at[index].add(values, mode="promise_in_bounds"), None

    gradient = jnp.zeros((num_cells, channels), jnp.float32)
    if chunk == num_boxes:
        return add_chunk(gradient, (cotangent, rows, columns))[0]
    parts = jax.tree.map(partial(_in_chunks, size=chunk), (cotangent, rows, columns))
    return jax.lax.scan(add_chunk, gradient, parts)[0]


def _products(features: Levels, level: Array, rows: Taps, columns: Taps) -> Array:
    def pool_chunk(chunk):
        level, rows, columns = chunk
        pooled = jnp.float32(0)
        for i, feature in enumerate(features):
            by_row, by_column = _weights(level == i, rows, columns, feature)
            strips = _product("bnsy,byxc->bnsxc", by_row, feature).astype(feature.dtype)
            pooled = pooled + _product("bnsxc,bntx->bnstc", strips, by_column)
        return pooled.astype(features[0].dtype)

    return _by_chunks(pool_chunk, (level, rows, columns), _at_once(rows))


def _products_gradient(
    shapes: Shapes, cotangent: Array, level: Array, rows: Taps, columns: Taps
) -> Levels:
    """Gradient of `_products` by the features, float32: the transposed products."""
    images, channels = cotangent.shape[0], cotangent.shape[-1]

    def add_chunk(gradient, chunk):
        cotangent, level, rows, columns = chunk
        added = []
        for i, total in enumerate(gradient):
            like = jax.ShapeDtypeStruct(total.shape, cotangent.dtype)
            by_row, by_column = _weights(level == i, rows, columns, like)
            strips = _product("bnstc,bntx->bnsxc", cotangent, by_column).astype(like.dtype)
            added.append(total + _product("bnsy,bnsxc->byxc", by_row, strips))
        return tuple(added), None

    gradient = tuple(jnp.zeros((images, *shape, channels), jnp.float32) for shape in shapes)
    chunks = _chunks((cotangent, level, rows, columns), _at_once(rows))
    return jax.lax.scan(add_chunk, gradient, chunks)[0]


def _weights(mine, rows: Taps, columns: Taps, feature) -> tuple[Array, Array]:
    """Weights of a level's rows `[B, N, S, h]` and columns `[B, N, T, w]`; 0 where not `mine`."""

    def spread(taps, length):
        cells = jnp.arange(length, dtype=jnp.int32)
        hit = taps.cell[..., None] == cells
        return jnp.where(hit, taps.weight[..., None], 0.0).sum(axis=-2)

    height, width = feature.shape[1:3]
    by_row = jnp.where(mine[..., None, None], spread(rows, height), 0.0)
    return by_row.astype(feature.dtype), spread(columns, width).astype(feature.dtype)


def _product(equation: str, a: Array, b: Array) -> Array:
    """A product in the precision of its dtype, added up in float32."""
    return jnp.einsum(equation, a, b, precision="highest", preferred_element_type=jnp.float32)


def _at_once(rows: Taps) -> int:
    return _POINTS_AT_ONCE if rows.cell.shape[2] == 1 else _BOXES_AT_ONCE


def _by_chunks(function, arrays, size):
    """Maps over chunks of the boxes `[B, N, ...]`, and puts the results together again."""
    number = arrays[0].shape[1]
    result = jax.lax.map(function, _chunks(arrays, size))
    return result.swapaxes(0, 1).reshape(result.shape[1], -1, *result.shape[3:])[:, :number]


def _chunks(arrays, size):
    """`[B, N, ...]` arrays as `[chunks, B, boxes, ...]`; added boxes have no weight."""
    size = min(size, arrays[0].shape[1])

    def split(array):
        return jax.vmap(partial(_in_chunks, size=size))(array).swapaxes(0, 1)

    return jax.tree.map(split, arrays)


def _in_chunks(array: Array, size: int) -> Array:
    """`[N, ...]` as `[chunks, size, ...]`, filled up with zeros."""
    number = -(-array.shape[0] // size)
    padding = [(0, number * size - array.shape[0])] + [(0, 0)] * (array.ndim - 1)
    return jnp.pad(array, padding).reshape(number, size, *array.shape[1:])
