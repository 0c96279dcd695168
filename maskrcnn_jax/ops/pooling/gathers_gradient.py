"""Gradient of pooling by gathers, by the features: a scatter."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from maskrcnn_jax.ops.pooling.chunks import in_chunks
from maskrcnn_jax.ops.pooling.gathers import in_table
from maskrcnn_jax.ops.pooling.taps import Levels, Shapes, Taps

# Bytes of the expanded cotangent of one image that the scatter in chunks holds at a time.
CHUNK_BYTES = 64 * 2**20


def scatter(
    shapes: Shapes,
    cotangent: Array,
    level: Array,
    rows: Taps,
    columns: Taps,
    chunk_bytes: int | None,
) -> Levels:
    """Gradient of `gather` by the features, float32."""
    num_cells = sum(height * width for height, width in shapes)
    scatter = partial(_scatter_taps, num_cells, chunk_bytes)
    table = jax.vmap(scatter)(cotangent, in_table(shapes, level, rows), columns)
    ends = np.cumsum([height * width for height, width in shapes])
    parts = jnp.split(table, ends[:-1], axis=1)
    channels = cotangent.shape[-1]
    return tuple(
        part.reshape(-1, *shape, channels) for part, shape in zip(parts, shapes, strict=True)
    )


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
    parts = jax.tree.map(partial(in_chunks, size=chunk), (cotangent, rows, columns))
    return jax.lax.scan(add_chunk, gradient, parts)[0]
