"""Convolution of groups of channels, each of its own inputs, and a gradient that can be relied on.

XLA's gradient of the kernel, a convolution by groups of the batch, is slow on a CPU: 2.5 s for
ResNeXt-50's first stage on 64x64 cells, whose forward pass takes 12 ms. In a program that is split
over devices it is wrong where these hold the same rows: it was as many times too large as there
were such devices (jax 0.10.2). So it is summed up here for each of the kernel's taps, in 15 ms.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from maskrcnn_jax.ops.xla_conv import xla_conv

# Groups become one, whose kernel is zero between them, until it has so many channels: products of
# small matrices cost more than the zeros.
_FEWEST_CHANNELS = 16


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def grouped_conv(x: Array, kernel: Array, stride: int) -> Array:
    """Convolves with half the kernel as padding on every side.

    Args:
        x: `[B, H, W, Cin]`.
        kernel: `[k, k, Cin / groups, Cout]` of the same dtype, k odd; output channels are in the
            order of the groups.
        stride: rows and columns between outputs.

    Returns:
        `[B, ceil(H / stride), ceil(W / stride), Cout]` in that dtype; sums are float32.
    """
    return xla_conv(x, kernel, stride)


def _forward(x, kernel, stride):
    return xla_conv(x, kernel, stride), (x, kernel)


def _backward(stride, residuals, cotangent):
    x, kernel = residuals
    _, of_x = jax.vjp(lambda x: xla_conv(x, kernel, stride), x)
    _, of_kernel = jax.vjp(lambda kernel: _by_taps(x, kernel, stride), kernel)
    return *of_x(cotangent), *of_kernel(cotangent)


grouped_conv.defvjp(_forward, _backward)


def grouped_conv_on_cpu(x: Array, kernel: Array, stride: int) -> Array:
    """The same in the form that is fast on a CPU, which has two.

    Where each channel is a group of its own, XLA's takes ten times as long as a sum over the taps.
    """
    form = _by_taps if _is_depthwise(x, kernel) else grouped_conv
    return form(x, kernel, stride)


def _is_depthwise(x: Array, kernel: Array) -> bool:
    return kernel.shape[2] == 1 and kernel.shape[3] == x.shape[3]


def _by_taps(x: Array, kernel: Array, stride: int) -> Array:
    size, dtype, is_depthwise = kernel.shape[0], x.dtype, _is_depthwise(x, kernel)
    height, width = (-(-side // stride) for side in x.shape[1:3])
    pads = ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0))
    x, kernel = jnp.pad(x.astype(jnp.float32), pads), kernel.astype(jnp.float32)
    blocks = kernel if is_depthwise else _merged(kernel, x.shape[3])
    y = jnp.zeros((), jnp.float32)
    for i in range(size):
        # Rows first: devices that share an image exchange them once for all columns.
        rows = x[:, i : i + (height - 1) * stride + 1 : stride]
        for j in range(size):
            tap = rows[:, :, j : j + (width - 1) * stride + 1 : stride]
            y = y + (tap * blocks[i, j, 0] if is_depthwise else _products(tap, blocks[i, j]))
    return y.astype(dtype)


def _merged(kernel: Array, channels: int) -> Array:
    """The kernel `[k, k, groups', Cin / groups', Cout / groups']` of fewer groups."""
    size, _, inputs, outputs = kernel.shape
    groups = channels // inputs
    divisors = [m for m in range(1, groups + 1) if groups % m == 0]
    together = next((m for m in divisors if m * inputs >= _FEWEST_CHANNELS), groups)
    kernel = kernel.reshape(size, size, inputs, groups // together, together, -1)
    own = jnp.eye(together, dtype=kernel.dtype)
    kernel = jnp.einsum("xyigmo,nm->xygnimo", kernel, own)
    shape = (groups // together, together * inputs, outputs * together // groups)
    return kernel.reshape(size, size, *shape)


def _products(x: Array, kernel: Array) -> Array:
    """x `[B, H, W, Cin]` times a kernel of one tap `[groups, Cin / groups, Cout / groups]`."""
    grouped = x.reshape(*x.shape[:3], *kernel.shape[:2])
    return jnp.einsum("bhwgi,gio->bhwgo", grouped, kernel).reshape(*x.shape[:3], -1)
