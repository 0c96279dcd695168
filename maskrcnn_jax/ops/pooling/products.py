"""Pooling by matrix products with whole levels, and its gradient, the transposed products.

Taps become weights over a level's rows and over its columns. Each sum has one order of additions,
so it is the same to the bit whenever it is computed.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from maskrcnn_jax.ops.pooling.chunks import in_chunks
from maskrcnn_jax.ops.pooling.taps import Levels, Shapes, Taps

# Boxes of an image whose products with a level are in memory at a time, and single points, whose
# products are as many rows as those of 14 x 14 bins.
_BOXES_AT_ONCE = 64
_POINTS_AT_ONCE = 14 * _BOXES_AT_ONCE


def products(features: Levels, level: Array, rows: Taps, columns: Taps) -> Array:
    """See `ops.pooling.pool.pool`."""

    def pool_chunk(chunk):
        level, rows, columns = chunk
        pooled = jnp.float32(0)
        for i, feature in enumerate(features):
            by_row, by_column = _weights(level == i, rows, columns, feature)
            strips = _product("bnsy,byxc->bnsxc", by_row, feature).astype(feature.dtype)
            pooled = pooled + _product("bnsxc,bntx->bnstc", strips, by_column)
        return pooled.astype(features[0].dtype)

    return _by_chunks(pool_chunk, (level, rows, columns), _at_once(rows))


def products_gradient(
    shapes: Shapes, cotangent: Array, level: Array, rows: Taps, columns: Taps
) -> Levels:
    """Gradient of `products` by the features, float32: the transposed products."""
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
        return jax.vmap(partial(in_chunks, size=size))(array).swapaxes(0, 1)

    return jax.tree.map(split, arrays)
