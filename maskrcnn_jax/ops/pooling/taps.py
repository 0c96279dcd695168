"""What each bin of a box reads: cells of a feature map, apart along its two axes."""

from typing import NamedTuple

from jax import Array

Levels = tuple[Array, ...]
Shapes = tuple[tuple[int, int], ...]


class Taps(NamedTuple):
    """What to read, along one axis, for each bin of each box: P taps, two for each sample."""

    cell: Array  # [B, N, S, P] int32, row or column of the box's level
    weight: Array  # [B, N, S, P] float32; they sum to 1 over P inside the map, less at its edge
