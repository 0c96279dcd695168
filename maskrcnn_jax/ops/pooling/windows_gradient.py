"""Gradient of pooling by windows, by the features: a kernel for TPUs.

The windows of a level are its gradient's, which is written once: each goes through the boxes of its
level, and adds to its cells what those have for it that lie on it, always in the same order. So
there is no scatter, and the sums are the same to the bit whenever they are computed.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
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

# What a kernel reads of a box from the memory of numbers that steer it.
_BOX, _TOP, _BOTTOM, _LEFT, _RIGHT, _NUMBERS = range(6)


def windows_gradient(
    shapes: Shapes, cotangent: Array, level: Array, rows: Taps, columns: Taps
) -> Levels:
    """Returns the gradient by each level, `[B, h, w, C]` in the dtype of the cotangent.

    Args:
        shapes: height and width of each level.
        cotangent: `[B, N, S, T, C]`.
        level: as `ops.pooling.pool.pool` takes it.
        rows: likewise.
        columns: likewise.
    """
    batch, number, _, _, channels = cotangent.shape
    boxes = jnp.broadcast_to(jnp.arange(number), (batch, number))
    numbers = jnp.stack([boxes, *ends(rows), *ends(columns)], axis=1)
    steering = _by_level(level, numbers).astype(jnp.int32)
    is_sooner = level[:, None, :] < jnp.arange(len(shapes) + 1)[:, None]
    begins = is_sooner.sum(axis=-1).astype(jnp.int32)  # of each level; the last one ends it all
    taps, cotangent = taps_of_bins(rows, columns), cotangent.reshape(batch, number, -1, channels)

    grids = _grids(shapes)

    def of_image(*shape):
        return pl.BlockSpec((1, *shape), lambda image, _: (image, 0, 0), memory_space=pltpu.SMEM)

    def window_of(grid):
        def place(image, window):
            # Before its level's turn it is the first, afterwards the last: not written until then.
            window = jnp.clip(window - grid.first, 0, grid.number - 1)
            return image, *_place(window, grid), 0

        return pl.BlockSpec((1, ROWS, COLUMNS, channels), place)

    return tuple(
        pl.pallas_call(
            partial(_kernel, grids),
            grid=(batch, sum(grid.number for grid in grids)),
            in_specs=[
                of_image(1, len(shapes) + 1),
                of_image(_NUMBERS, number),
                pl.BlockSpec(memory_space=pl.ANY),
                pl.BlockSpec(memory_space=pl.ANY),
            ],
            out_specs=[window_of(grid) for grid in grids],
            out_shape=[
                jax.ShapeDtypeStruct((batch, *shape, channels), cotangent.dtype) for shape in shapes
            ],
            scratch_shapes=[
                pltpu.VMEM((2, *taps.shape[2:]), taps.dtype),
                pltpu.VMEM((2, *cotangent.shape[2:]), cotangent.dtype),
                pltpu.VMEM((ROWS * COLUMNS, channels), jnp.float32),
                pltpu.SemaphoreType.DMA((2, 2)),
            ],
            name="windows_gradient",
        )(begins[:, None], steering, taps, cotangent)
    )


def _kernel(grids, begins, steering, all_taps, all_cotangents, *refs) -> None:
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
    row, column = row * ROWS, column * COLUMNS
    last, end = steering.shape[2] - 1, begins[0, 0, level + 1]

    def next_from(place):
        """The next of the level's boxes, from a place in their order on, that lies here."""

        def lies_elsewhere(place):
            top, bottom, left, right = (
                steering[0, side, jnp.minimum(place, last)] for side in range(_TOP, _NUMBERS)
            )
            lies_here = (top < row + ROWS) & (bottom >= row)
            lies_here = lies_here & (left < column + COLUMNS) & (right >= column)
            return (place < end) & ~lies_here

        return jax.lax.while_loop(lies_elsewhere, lambda place: place + 1, place)

    def copies(slot, box):
        pairs = (all_taps, taps), (all_cotangents, cotangents)
        return [
            pltpu.make_async_copy(all_of.at[image, box], here.at[slot], arrived.at[slot, i])
            for i, (all_of, here) in enumerate(pairs)
        ]

    def fetch(slot, place):
        @pl.when(place < end)
        def _():
            for copy in copies(slot, steering[0, _BOX, place]):
                copy.start()

    def add(place_and_slot):
        place, slot = place_and_slot
        following = next_from(place + 1)
        fetch(1 - slot, following)
        for copy in copies(slot, 0):
            copy.wait()
        weight = window_weights(taps[slot], (row, column)).astype(cotangents.dtype)
        total[...] += product(weight, cotangents[slot], contracting=(0, 0))
        return following, 1 - slot

    total[...] = jnp.zeros_like(total)
    first = next_from(begins[0, 0, level])
    fetch(0, first)
    jax.lax.while_loop(lambda carry: carry[0] < end, add, (first, jnp.int32(0)))
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


def _by_level(level: Array, numbers: Array) -> Array:
    """Puts `[B, M, N]` numbers of boxes in the order of the boxes' levels; no sort, no gather."""
    index = jnp.arange(level.shape[1])
    mine, other = level[:, :, None], level[:, None, :]
    is_before = (other < mine) | ((other == mine) & (index < index[:, None]))
    is_here = is_before.sum(axis=-1)[:, None, :] == index[:, None]  # [B, places, boxes]
    return jnp.where(is_here[:, None], numbers[:, :, None], 0).sum(axis=-1)
