"""Pooling by a kernel for TPUs that brings the cells which each box lies on.

The box of bins is one matrix product: weights `[bins, cells]` with a window `[cells, C]` of the
box's level, which a copy from the chip's main memory has brought beside the matrix unit while the
window before was worked on. A box has as many windows as it takes to cover it. The weights are made
in the kernel, out of the taps.

`windows_gradient.py` is the transposed product. What compilers expect of both is in
benchmarks/RESULTS.md; no TPU has run them yet.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from maskrcnn_jax.ops.pooling.taps import Levels, Taps

# Rows and columns of a window. A level's columns lie in tiles of 16 (bfloat16), and copies begin
# with a whole one.
ROWS, COLUMNS, ALIGNMENT = 16, 32, 16
# Boxes whose taps and results are beside the matrix unit at a time.
_BOXES_AT_ONCE = 8
# Columns of `_steering`, which the kernel reads from the memory of single numbers (SMEM).
_LEVEL, _ROW, _COLUMN, _DOWN, _ACROSS, _NUMBERS = range(6)


def pool_windows(features: Levels, level: Array, rows: Taps, columns: Taps) -> Array:
    """See `ops.pooling.pool.pool`."""
    features = tuple(_padded(feature) for feature in features)
    batch, number, height, num_taps = rows.cell.shape
    width, channels = columns.cell.shape[2], features[0].shape[-1]
    bins, dtype = height * width, features[0].dtype
    blocks = -(-number // _BOXES_AT_ONCE)
    filled = blocks * _BOXES_AT_ONCE
    level, rows, columns = jax.tree.map(partial(_filled, filled), (level, rows, columns))
    steering = _steering(level, rows, columns).reshape(batch, blocks, 1, -1)

    def of_block(*shape, **options):
        place = (0,) * (len(shape) - 1)
        return pl.BlockSpec((1, *shape), lambda image, block: (image, block, *place), **options)

    pooled = pl.pallas_call(
        _kernel,
        grid=(batch, blocks),
        in_specs=[
            of_block(1, 1, _BOXES_AT_ONCE * _NUMBERS, memory_space=pltpu.SMEM),
            of_block(_BOXES_AT_ONCE, 4 * num_taps, bins),
            *[pl.BlockSpec(memory_space=pltpu.HBM)] * len(features),
        ],
        out_specs=of_block(_BOXES_AT_ONCE, bins, channels),
        out_shape=jax.ShapeDtypeStruct((batch, filled, bins, channels), dtype),
        scratch_shapes=[
            pltpu.VMEM((2, ROWS, COLUMNS, channels), dtype),
            pltpu.VMEM((bins, channels), jnp.float32),
            pltpu.SemaphoreType.DMA((2,)),
        ],
        # Each block of boxes stands for itself, so that two cores of a chip can share them.
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel")),
        name="pool_windows",
    )(steering, taps_of_bins(rows, columns), *features)
    return pooled[:, :number].reshape(batch, number, height, width, channels)


def _kernel(steering, taps, *refs) -> None:
    """Pools the boxes of a block: window after window, the next one is on its way meanwhile."""
    *levels, pooled, windows, total, arrived = refs
    image = pl.program_id(0)

    def of(box, what):
        return steering[0, 0, 0, box * _NUMBERS + what]

    def begin(box, window):
        """First row and column that a window adds."""
        down = jax.lax.div(window, of(box, _ACROSS))
        across = window - down * of(box, _ACROSS)
        return of(box, _ROW) + down * ROWS, of(box, _COLUMN) + across * COLUMNS

    def place(level, row, column):
        """First row and column that are copied: no window reaches over the level's end."""
        height, width = levels[level].shape[1:3]
        return jnp.minimum(row, height - ROWS), jnp.minimum(column, width - COLUMNS)

    def fetch(slot, box, window):
        for number, level in enumerate(levels):

            @pl.when(of(box, _LEVEL) == number)
            def _(number=number, level=level):
                row, column = place(number, *begin(box, window))
                cells = pl.ds(row, ROWS), pl.ds(pl.multiple_of(column, ALIGNMENT), COLUMNS)
                pltpu.make_async_copy(
                    level.at[image, *cells], windows.at[slot], arrived.at[slot]
                ).start()

    def add(number, box_and_window):
        box, window = box_and_window
        slot = jax.lax.rem(number, 2)
        is_last = window + 1 == of(box, _DOWN) * of(box, _ACROSS)
        following = jnp.where(is_last, box + 1, box), jnp.where(is_last, 0, window + 1)

        @pl.when(number + 1 < num_windows)
        def _():
            fetch(1 - slot, *following)

        first = begin(box, window)
        copied = first
        for level in range(len(levels)):
            is_mine = of(box, _LEVEL) == level
            here = place(level, *first)
            copied = tuple(jnp.where(is_mine, a, b) for a, b in zip(here, copied, strict=True))
        weight = window_weights(taps[0, box], copied, first).astype(windows.dtype)
        pltpu.make_async_copy(windows.at[slot], windows.at[slot], arrived.at[slot]).wait()
        cells = windows[slot].reshape(ROWS * COLUMNS, -1)
        part = product(weight, cells, contracting=(1, 0))

        @pl.when(window == 0)
        def _():
            total[...] = part

        @pl.when(window > 0)
        def _():
            total[...] += part

        @pl.when(is_last)
        def _():
            pooled[0, box] = total[...].astype(pooled.dtype)

        return following

    num_windows = jnp.int32(0)
    for box in range(_BOXES_AT_ONCE):
        num_windows = num_windows + of(box, _DOWN) * of(box, _ACROSS)
    fetch(0, 0, 0)
    jax.lax.fori_loop(0, num_windows, add, (jnp.int32(0), jnp.int32(0)))


def window_weights(
    taps: Array, begin: tuple[Array, Array], first: tuple[Array | int, Array | int] = (0, 0)
) -> Array:
    """Weights of a window's cells in the bins of a box; inside of a kernel.

    Args:
        taps: `[4P, bins]` of a box, as `taps_of_bins` returns them.
        begin: row and column of the window's first cell.
        first: row and column of the first cell that counts.

    Returns:
        `[bins, ROWS * COLUMNS]` float32.
    """
    taps = taps.T
    num_taps, shape = taps.shape[1] // 4, (taps.shape[0], ROWS * COLUMNS)
    index = jax.lax.broadcasted_iota(jnp.int32, (1, ROWS * COLUMNS), 1)
    places = jax.lax.div(index, jnp.int32(COLUMNS)), jax.lax.rem(index, jnp.int32(COLUMNS))
    nothing = jnp.zeros(shape, jnp.float32)

    def column(number):
        return jnp.broadcast_to(jax.lax.slice_in_dim(taps, number, number + 1, axis=1), shape)

    def of_axis(axis):
        cells = begin[axis] + places[axis]
        cells = jax.lax.select(cells >= first[axis], cells, jnp.full_like(cells, -1))
        cells = jnp.broadcast_to(cells.astype(jnp.float32), shape)
        weight = nothing
        for tap in range(2 * axis * num_taps, (2 * axis + 1) * num_taps):
            weight += jax.lax.select(cells == column(tap), column(tap + num_taps), nothing)
        return weight

    return of_axis(0) * of_axis(1)


def product(a: Array, b: Array, contracting: tuple[int, int]) -> Array:
    """Returns a product in the precision of its dtype, added up in float32; inside of a kernel."""
    precision = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    first, second = contracting
    return jax.lax.dot_general(
        a,
        b,
        (((first,), (second,)), ((), ())),
        precision=precision,
        preferred_element_type=jnp.float32,
    )


def taps_of_bins(rows: Taps, columns: Taps) -> Array:
    """Returns the taps of each bin, `[B, N, 4P, bins]` float32.

    A row's P cells and P weights, and a column's. Cells are whole numbers below 2^24. The bins come
    last because a TPU fills up the last axis to 128.
    """
    batch, number, height, num_taps = rows.cell.shape
    shape = (batch, number, height, columns.cell.shape[2], 2 * num_taps)

    def spread(taps, axis):
        both = jnp.concatenate([taps.cell.astype(jnp.float32), taps.weight], axis=-1)
        return jnp.broadcast_to(jnp.expand_dims(both, axis), shape)

    both = jnp.concatenate([spread(rows, 3), spread(columns, 2)], axis=-1)
    return both.reshape(batch, number, -1, 4 * num_taps).swapaxes(2, 3)


def ends(taps: Taps) -> tuple[Array, Array]:
    """Returns the first and the last cell that a box has a weight for, `[B, N]`; else 0 and 0."""
    used = taps.weight > 0
    last = jnp.where(used, taps.cell, 0).max(axis=(-2, -1))
    first = jnp.where(used, taps.cell, last[..., None, None]).min(axis=(-2, -1))
    return first, last


def _steering(level: Array, rows: Taps, columns: Taps) -> Array:
    """Returns `[B, N, 5]` int32: level, first row and column, windows down and across."""
    (top, bottom), (left, right) = ends(rows), ends(columns)
    left = left // ALIGNMENT * ALIGNMENT
    down, across = (bottom - top) // ROWS + 1, (right - left) // COLUMNS + 1
    return jnp.stack([level, top, left, down, across], axis=-1).astype(jnp.int32)


def _filled(number: int, array: Array) -> Array:
    """Returns `[B, N, ...]` with zeros up to so many boxes."""
    padding = [(0, 0), (0, number - array.shape[1])] + [(0, 0)] * (array.ndim - 2)
    return jnp.pad(array, padding)


def _padded(feature: Array) -> Array:
    """Returns a level `[B, h, w, C]` that has room for a window, and whole tiles of columns."""
    height, width = feature.shape[1:3]
    below = max(ROWS - height, 0)
    beside = max(-(-width // ALIGNMENT) * ALIGNMENT, COLUMNS) - width
    if not below and not beside:
        return feature
    return jnp.pad(feature, ((0, 0), (0, below), (0, beside), (0, 0)))
