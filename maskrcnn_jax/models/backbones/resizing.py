"""Matrices that resize one axis as PyTorch's `interpolate` with `align_corners=False` does.

Sizes are known when a program is traced, so a resized axis is a product with a constant matrix,
whose gradient is a product, too.
"""

import numpy as np

_SHARPNESS = -0.75  # PyTorch's a of the cubic convolution; Keys 1981 and JAX have -0.5


def linear(size: int, stored: int) -> np.ndarray:
    """Returns the matrix [size, stored] float32 of linear interpolation.

    Args:
        size: wanted.
        stored: what there is.
    """
    position = np.maximum(_positions(size, stored), 0)
    left = position.astype(int)
    fraction = position - left
    return _matrix(stored, left, {0: 1 - fraction, 1: fraction})


def cubic(size: int, stored: int) -> np.ndarray:
    """Returns the matrix [size, stored] float32 of cubic convolution (Keys 1981), not smoothed.

    Args:
        size: wanted.
        stored: what there is.
    """
    position = _positions(size, stored)
    left = np.floor(position).astype(int)
    taps = {tap: _cubic_weight(position - left - tap) for tap in (-1, 0, 1, 2)}
    return _matrix(stored, left, taps)


def _positions(size: int, stored: int) -> np.ndarray:
    """Where the centres of the wanted cells lie between those of the stored ones."""
    return (np.arange(size) + 0.5) * stored / size - 0.5


def _cubic_weight(distance: np.ndarray) -> np.ndarray:
    a, x = _SHARPNESS, np.abs(distance)
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return np.where(x <= 1, near, far)


def _matrix(stored: int, left: np.ndarray, taps: dict[int, np.ndarray]) -> np.ndarray:
    """Adds up weights by the cell, `left` and a tap, that they are of; the last cells repeat."""
    matrix = np.zeros((len(left), stored))
    for tap, weight in taps.items():
        np.add.at(matrix, (np.arange(len(left)), np.clip(left + tap, 0, stored - 1)), weight)
    return matrix.astype(np.float32)
