"""The 3x3 convolution of many channels on a CPU: Winograd's F(2x2, 3x3), and its gradients.

2x2 output pixels are A [(G g G') * (B d B')] A', where g is the kernel and d the 4x4 pixels around
them. The bracket multiplies elementwise and adds over input channels: 16 matrix products over all
such tiles, 16 multiplications for 4 pixels, not 36. The matrices are as Lavin and Gray 2015 write
them, section 4.1 (https://arxiv.org/abs/1509.09308). The work is done in parts that stay in the
cache.
"""

import operator
from collections.abc import Callable, Sequence
from functools import partial, reduce

import jax
import jax.numpy as jnp
from jax import Array

from maskrcnn_jax.ops.xla_conv import xla_conv

# Pixels that are worked on at a time: about 2 MB of 256 channels.
_PART_PIXELS = 2048
_FEWEST_CHANNELS = 128  # with fewer, the transforms cost more than the products save

_A = ((1, 1, 1, 0), (0, 1, -1, -1))
_B = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
_G = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
Matrix = Sequence[Sequence[float]]
Grid = Sequence[Sequence[Array]]


@jax.custom_vjp
def conv3x3(x: Array, kernel: Array) -> Array:
    """Convolves with one pixel of padding; XLA's convolution where there is too little to gain.

    Args:
        x: `[B, H, W, Cin]`.
        kernel: `[3, 3, Cin, Cout]` of the same dtype.

    Returns:
        `[B, H, W, Cout]` in that dtype; sums and transforms are float32.
    """
    if not _is_winograd(x, kernel):
        return xla_conv(x, kernel)
    images, height, width, _ = x.shape
    number, cut = _parts(x, border=1)
    factors = _transformed(_G, kernel.astype(jnp.float32))

    def convolve(i):
        patches = _transformed(_B, _taps(cut(i), 4))
        products = [
            [patch @ factor for patch, factor in zip(*rows, strict=True)]
            for rows in zip(patches, factors, strict=True)
        ]
        # Two by two arrays [group, rows / 2, columns / 2, Cout] become one, its sides apart.
        tiles = jnp.stack([jnp.stack(row, 3) for row in _transformed(_A, products)], 2)
        return tiles.astype(x.dtype)

    y = jax.lax.map(convolve, jnp.arange(number))
    return y.reshape(images, height + height % 2, -1, kernel.shape[-1])[:, :height, :width]


def _conv3x3_forward(x, kernel):
    return conv3x3(x, kernel), (x, kernel)


def _conv3x3_backward(residuals, cotangent):
    x, kernel = residuals
    by_x = conv3x3(cotangent, kernel[::-1, ::-1].swapaxes(2, 3))
    return by_x, _kernel_gradient(x, kernel, cotangent).astype(kernel.dtype)


conv3x3.defvjp(_conv3x3_forward, _conv3x3_backward)


def _kernel_gradient(x: Array, kernel: Array, cotangent: Array) -> Array:
    """Gradient `[3, 3, Cin, Cout]` of `conv3x3` by its kernel: the same products transposed."""
    if not _is_winograd(x, kernel) or x[..., 0].size < 2 * max(kernel.shape[2:]):
        return jax.linear_transpose(partial(xla_conv, x), kernel)(cotangent)[0]
    number, cut = _parts(x, border=1)
    _, cut_cotangent = _parts(cotangent, border=0)

    def add_part(sums, i):
        patches = _transformed(_B, _taps(cut(i), 4))
        tiles = _transformed(_transposed(_A), _taps(cut_cotangent(i), 2))
        products = [
            [_over_pixels(patch, tile) for patch, tile in zip(*rows, strict=True)]
            for rows in zip(patches, tiles, strict=True)
        ]
        return sums + jnp.stack([jnp.stack(row) for row in products]), None

    sums = jnp.zeros((4, 4, *kernel.shape[2:]), jnp.float32)
    sums, _ = jax.lax.scan(add_part, sums, jnp.arange(number))
    return jnp.stack([jnp.stack(row) for row in _transformed(_transposed(_G), sums)])


def _over_pixels(a: Array, b: Array) -> Array:
    return a.reshape(-1, a.shape[-1]).T @ b.reshape(-1, b.shape[-1])


def _is_winograd(x: Array, kernel: Array) -> bool:
    """Returns whether there is enough to multiply, in parts of enough pixels."""
    group, rows, width = _part_shape(x)
    pixels = group * rows * width
    return pixels >= _PART_PIXELS // 4 and min(kernel.shape[2:]) >= _FEWEST_CHANNELS


def _part_shape(x: Array) -> tuple[int, int, int]:
    """Returns images, rows and columns of a part: whole images or rows of one, even sides."""
    images, height, width = x.shape[0], x.shape[1] + x.shape[1] % 2, x.shape[2] + x.shape[2] % 2
    if height * width <= _PART_PIXELS:
        return _divisor(images, _PART_PIXELS // (height * width)), height, width
    return 1, 2 * _divisor(height // 2, _PART_PIXELS // width // 2), width


def _parts(x: Array, border: int) -> tuple[int, Callable[[Array], Array]]:
    """Returns the number of parts, and what gives one: float32, with pixels around its own."""
    group, rows, width = _part_shape(x)
    blocks = -(-x.shape[1] // rows)
    # The neighbouring rows of the image, or zeros like those at the sides.
    halo = border if blocks > 1 else 0
    bottom, right = blocks * rows - x.shape[1], width - x.shape[2]
    x = jnp.pad(x, ((0, 0), (halo, halo + bottom), (0, right), (0, 0)))

    def cut(i: Array) -> Array:
        first = (i // blocks * group, i % blocks * rows, 0, 0)
        part = jax.lax.dynamic_slice(x, first, (group, rows + 2 * halo, *x.shape[2:]))
        sides = ((0, 0), (border - halo,) * 2, (border, border), (0, 0))
        return jnp.pad(part.astype(jnp.float32), sides)

    return len(x) // group * blocks, cut


def _taps(x: Array, size: int) -> Grid:
    """Returns the pixels of all tiles of size x size, two apart, by their place in the tile."""
    height, width = (side - size + 1 for side in x.shape[1:3])
    return [[x[:, i : i + height : 2, j : j + width : 2] for j in range(size)] for i in range(size)]


def _transformed(matrix: Matrix, grid: Grid | Array) -> Grid:
    """Returns M grid M'."""
    columns = [_sums(matrix, column) for column in zip(*grid, strict=True)]
    return [_sums(matrix, row) for row in zip(*columns, strict=True)]


def _sums(matrix: Matrix, terms: Sequence[Array]) -> list[Array]:
    return [
        reduce(operator.add, (c * term for c, term in zip(row, terms, strict=True) if c))
        for row in matrix
    ]


def _transposed(matrix: Matrix) -> Matrix:
    return list(zip(*matrix, strict=True))


def _divisor(number: int, largest: int) -> int:
    """Returns the largest divisor of a number that is not above another one, or 1."""
    return max(d for d in range(1, max(largest, 1) + 1) if number % d == 0)
