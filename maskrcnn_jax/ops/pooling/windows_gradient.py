"""Gradient of pooling by windows, by the features: a kernel for TPUs.

The windows of a level are its gradient's, which is written once: each goes through the boxes of its
level, and adds to its cells what those have for it that lie on it, always in the same order. So
there is no scatter, and the sums are the same to the bit whenever they are computed.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from maskrcnn_jax.ops.pooling.taps import Levels, Shapes, Taps
from maskrcnn_jax.ops.pooling.windows import (
    COLUMNS,
    ROWS,
    ends,
    product,
    taps_of_bins,
    window_weights,
)


def windows_gradient(
    shapes: Shapes, dtype: jnp.dtype, cotangent: Array, level: Array, rows: Taps, columns: Taps
) -> Levels:
    """Returns the gradient by each level, `[B, h, w, C]`.

    Args:
        shapes: height and width of each level.
        dtype: of the results; sums are float32.
        cotangent: `[B, N, S, T, C]`.
        level: as `ops.pooling.pool.pool` takes it.
        rows: likewise.
        columns: likewise.
    """
    batch, number, _, _, channels = cotangent.shape
    grids = _grids(shapes)
    following = _following(grids, level, rows, columns)
    taps, cotangent = taps_of_bins(rows, columns), cotangent.reshape(batch, number, -1, channels)

    def window_of(grid):
        def place(image, window):
            # Before its level's turn it is the first, afterwards the last: not written until then.
            window = jnp.clip(window - grid.first, 0, grid.number - 1)
            return image, *_place(window, grid), 0

        return pl.BlockSpec((1, ROWS, COLUMNS, channels), place)

    return tuple(
        pl.pallas_call(
            partial(_kernel, grids),
            grid=(batch, following.shape[1]),
            in_specs=[
                pl.BlockSpec(
                    (1, 1, 1, number + 1),
                    lambda image, window: (image, window, 0, 0),
                    memory_space=pltpu.SMEM,
                ),
                pl.BlockSpec(memory_space=pltpu.HBM),
                pl.BlockSpec(memory_space=pltpu.HBM),
            ],
            out_specs=[window_of(grid) for grid in grids],
            out_shape=[jax.ShapeDtypeStruct((batch, *shape, channels), dtype) for shape in shapes],
            scratch_shapes=[
                pltpu.VMEM((2, *taps.shape[2:]), taps.dtype),
                pltpu.VMEM((2, *cotangent.shape[2:]), cotangent.dtype),
                pltpu.VMEM((ROWS * COLUMNS, channels), jnp.float32),
                pltpu.SemaphoreType.DMA((2, 2)),
            ],
            # Images may be shared by two cores of a chip; the windows of one must come in their
            # order, by which outputs are written once each.
            compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
            name="windows_gradient",
        )(following, taps, cotangent)
    )


def _kernel(grids, following, all_taps, all_cotangents, *refs) -> None:
    """Adds up one window; the taps and the cotangent of the next box are on their way meanwhile."""
    *gradients, taps, cotangents, total, arrived = refs
    image, window = pl.program_id(0), pl.program_id(1)
    level, (row, column) = jnp.int32(0), _place(window, grids[0])
    for number, grid in enumerate(grids[1:], start=1):
        is_mine = window >= grid.first
        there = number, *_place(window - grid.first, grid)
        level, row, column = (
            jnp.where(is_mine, a, b) for a, b in zip(there, (level, row, column), strict=True)
        )
    no_box = following.shape[3] - 1

    def copies(slot, box):
        pairs = (all_taps, taps), (all_cotangents, cotangents)
        return [
            pltpu.make_async_copy(all_of.at[image, box], here.at[slot], arrived.at[slot, i])
            for i, (all_of, here) in enumerate(pairs)
        ]

    def fetch(slot, box):
        @pl.when(box < no_box)
        def _():
            for copy in copies(slot, box):
                copy.start()

    def add(box_and_slot):
        box, slot = box_and_slot
        next_box = following[0, 0, 0, box + 1]
        fetch(1 - slot, next_box)
        for copy in copies(slot, box):
            copy.wait()
        begin = row * ROWS, column * COLUMNS
        weight = window_weights(taps[slot], begin).astype(cotangents.dtype)
        total[...] += product(weight, cotangents[slot], contracting=(0, 0))
        return next_box, 1 - slot

    total[...] = jnp.zeros_like(total)
    first = following[0, 0, 0, 0]
    fetch(0, first)
    jax.lax.while_loop(lambda carry: carry[0] < no_box, add, (first, jnp.int32(0)))
    for number, gradient in enumerate(gradients):

        @pl.when(level == number)
        def _(gradient=gradient):
            gradient[0] = total[...].reshape(gradient.shape[1:]).astype(gradient.dtype)


class _Grid(NamedTuple):
    """The windows of a level among those of all levels, row by row."""

    first: int
    across: int
    number: int


def _grids(shapes: Shapes) -> list[_Grid]:
    grids: list[_Grid] = []
    for height, width in shapes:
        down, across = -(-height // ROWS), -(-width // COLUMNS)
        first = grids[-1].first + grids[-1].number if grids else 0
        grids.append(_Grid(first, across, down * across))
    return grids


def _place(window, grid: _Grid):
    """Row and column of windows in which one of a level lies."""
    across = jnp.int32(grid.across)
    return jax.lax.div(window, across), jax.lax.rem(window, across)


def _following(grids: list[_Grid], level: Array, rows: Taps, columns: Taps) -> Array:
    """Returns for each window, and each box of an image, the next that lies on the window.

    `[B, windows, 1, N + 1]` int32: from that box on, itself among them; N where there is none.
    """
    number = level.shape[1]
    of_window = [
        (i, window // grid.across, window % grid.across)
        for i, grid in enumerate(grids)
        for window in range(grid.number)
    ]
    own_level, row, column = np.array(of_window, np.int32).T[..., None]  # [windows, 1] each
    (top, bottom), (left, right) = (
        (first[:, None] // size, last[:, None] // size)
        for (first, last), size in ((ends(rows), ROWS), (ends(columns), COLUMNS))
    )
    lies_here = (top <= row) & (row <= bottom) & (left <= column) & (column <= right)
    lies_here &= level[:, None] == own_level
    boxes = jnp.where(lies_here, jnp.arange(number), number)
    boxes = jnp.pad(boxes, ((0, 0), (0, 0), (0, 1)), constant_values=number)
    return jax.lax.cummin(boxes, axis=2, reverse=True).astype(jnp.int32)[:, :, None]
