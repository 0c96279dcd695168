"""Boxes in chunks, for arrays that would be too large for all of them at once."""

import jax.numpy as jnp
from jax import Array


def in_chunks(array: Array, size: int) -> Array:
    """Returns `[N, ...]` as `[chunks, size, ...]`, filled up with zeros."""
    number = -(-array.shape[0] // size)
    padding = [(0, number * size - array.shape[0])] + [(0, 0)] * (array.ndim - 1)
    return jnp.pad(array, padding).reshape(number, size, *array.shape[1:])
