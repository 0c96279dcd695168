"""Convolution, in a form that is fast where it runs.

On accelerators this is XLA's convolution, but for the first one, of an image's three channels. In a
program for a CPU a 1x1 convolution is a matrix product, a 3x3 convolution of many channels
Winograd's (`ops/winograd.py`), and that of groups of channels as `ops/grouped_conv.py` has it.
Numbers agree to rounding.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from maskrcnn_jax.ops.winograd import conv3x3
from maskrcnn_jax.ops.xla_conv import xla_conv

Form = Callable[[Array, Array], Array]
# Channels of an image whose first convolution is worth another form on accelerators.
_FEW_CHANNELS = 4


def conv2d(x: Array, kernel: Array, stride: int = 1, is_split: bool = False) -> Array:
    """Convolves with the same padding on every side, half the kernel, as PyTorch pads.

    Args:
        x: `[B, H, W, Cin]`.
        kernel: `[k, k, Cin / groups, Cout]` of the same dtype, k odd; with several groups of input
            channels, each has its own outputs.
        stride: rows and columns between outputs.
        is_split: whether the compiler splits x over devices; parts of it would have to be sent
            around, so this is XLA's convolution then.

    Returns:
        `[B, ceil(H / stride), ceil(W / stride), Cout]`.
    """
    if is_split:
        return _split_form(x, kernel)(x, kernel, stride)
    on_cpu, elsewhere = _forms(x, kernel, stride)
    if on_cpu is elsewhere:
        return xla_conv(x, kernel, stride)
    return _conv_by_platform(x, kernel, stride)


def _split_form(x: Array, kernel: Array) -> Callable[[Array, Array, int], Array]:
    if x.shape[-1] == kernel.shape[2]:
        return xla_conv
    # Imported here, and below: a plain ResNet has no groups.
    from maskrcnn_jax.ops.grouped_conv import grouped_conv

    return grouped_conv


def _forms(x: Array, kernel: Array, stride: int) -> tuple[Form, Form]:
    """Returns the form for a CPU and the one for other devices; one and the same where XLA's is."""
    xla = partial(xla_conv, stride=stride)
    size, (height, width, channels) = kernel.shape[0], x.shape[1:]
    if channels != kernel.shape[2]:
        from maskrcnn_jax.ops.grouped_conv import grouped_conv_on_cpu

        return partial(grouped_conv_on_cpu, stride=stride), xla
    if size == 1:
        return lambda x, kernel: x[:, ::stride, ::stride] @ kernel[0, 0], xla
    if size == 3 and stride == 1:
        return conv3x3, xla
    if size == 7 and stride == 2 and channels <= _FEW_CHANNELS and height % 2 == width % 2 == 0:
        return xla, _stem_conv
    return xla, xla


# The choice is left to the lowering, once forward and once backward: differentiated, a choice would
# keep what both of its forms need.
@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv_by_platform(x: Array, kernel: Array, stride: int) -> Array:
    on_cpu, elsewhere = _forms(x, kernel, stride)
    return jax.lax.platform_dependent(x, kernel, cpu=on_cpu, default=elsewhere)


def _conv_by_platform_forward(x, kernel, stride):
    return _conv_by_platform(x, kernel, stride), (x, kernel)


def _conv_by_platform_backward(stride, residuals, cotangent):
    x, kernel = residuals

    def gradients(form):
        return lambda x, kernel, cotangent: jax.vjp(form, x, kernel)[1](cotangent)

    on_cpu, elsewhere = (gradients(form) for form in _forms(x, kernel, stride))
    return jax.lax.platform_dependent(x, kernel, cotangent, cpu=on_cpu, default=elsewhere)


_conv_by_platform.defvjp(_conv_by_platform_forward, _conv_by_platform_backward)


def _stem_conv(x: Array, kernel: Array) -> Array:
    """A 7x7 convolution with stride 2 of an image, as one of 4x4 over its blocks of 2x2 pixels.

    Units that multiply matrices take channels by eights or more; an image has three.
    """
    channels = x.shape[-1]
    pixels = [x[:, row::2, column::2] for row in (0, 1) for column in (0, 1)]
    blocks = jnp.concatenate(pixels, axis=-1)
    # Row 2 i + k - 3 is row r of block i + q, where k - 3 = 2 q + r: with a row of zeros before it,
    # the kernel covers the blocks i - 2 to i + 1.
    kernel = jnp.pad(kernel, ((1, 0), (1, 0), (0, 0), (0, 0)))
    kernel = kernel.reshape(4, 2, 4, 2, channels, -1).transpose(0, 2, 1, 3, 4, 5)
    return xla_conv(blocks, kernel.reshape(4, 4, 4 * channels, -1), padding=(2, 1))
