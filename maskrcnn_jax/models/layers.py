"""The layers that every part of the detector is made of.

Parameters and statistics are float32; `dtype` is what convolutions and dense layers compute in.
"""

import inspect
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from maskrcnn_jax.models.initializers import (
    Initializer,
    he_normal,
    he_normal_fan_in,
    he_uniform,
)
from maskrcnn_jax.ops.conv import conv2d
from maskrcnn_jax.parallel import partition

# The number of parts with statistics of their own: none, so that norms take the stored ones. Given
# by position, see `rematerialised`.
STORED_STATISTICS = 0


class Conv(nn.Module):
    """Convolution whose padding is the same on every side, as PyTorch pads.

    Padding of "SAME" would put the odd pixel of a strided convolution at the right and bottom; that
    shifts the features of imported weights by a pixel.

    Attributes:
        features: channels of the output.
        kernel_size: side of the square kernel; the padding is half of it.
        stride: rows and columns between outputs.
        use_bias: whether a bias is added.
        dtype: of the computation and the output.
        kernel_init: initialiser of the [k, k, Cin / groups, Cout] kernel.
        groups: of channels, each of which makes its own part of the output from its part of the
            input.
    """

    features: int
    kernel_size: int
    stride: int = 1
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32
    kernel_init: Initializer = he_normal
    groups: int = 1

    @nn.compact
    def __call__(
        self, x: jax.Array, affine: tuple[jax.Array, jax.Array] | None = None
    ) -> jax.Array:
        """Returns [..., H, W, Cout] for x [B, H, W, Cin], or [B, N, S, S, Cin] of RoIs.

        Args:
            x: see above.
            affine: scale and shift [Cout] float32 of the output. The kernel takes the scale, which
                saves a pass over the output and, in the backward pass, one over its gradient.
        """
        size, is_rois = self.kernel_size, x.ndim == 5
        inputs = x.shape[-1] // self.groups
        kernel = self.param("kernel", self.kernel_init, (size, size, inputs, self.features))
        if affine is not None:
            kernel = kernel * affine[0]
        kernel = partition.whole(kernel.astype(self.dtype))
        if is_rois:
            flat = partition.flat_rois(x)
        else:
            rows = -(-x.shape[1] // self.stride)
            # A depthwise window of 7 reaches three rows into a neighbour's.
            flat = partition.rows(x, fewest=rows if self.groups == 1 else rows // (size // 2))
        y = conv2d(flat.astype(self.dtype), kernel, self.stride, partition.is_split())
        y = partition.unflat_rois(y, x.shape[0]) if is_rois else partition.rows(y)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
            y = add_bias(y, bias)
        return y if affine is None else add_bias(y, affine[1])


class FrozenNorm(nn.Module):
    """Batch normalisation with stored statistics, scale and bias, none of which is trained.

    Attributes:
        features: channels.
        norm_eps: added to the variance.
    """

    features: int
    norm_eps: float = 1e-5

    def setup(self):
        channels = (self.features,)
        self.scale = self.param("scale", nn.initializers.ones, channels)
        self.bias = self.param("bias", nn.initializers.zeros, channels)
        self.mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        self.var = self.variable("batch_stats", "var", jnp.ones, channels)

    def affine(self) -> tuple[jax.Array, jax.Array]:
        """Returns what it comes to: a scale and a shift [C] float32, without gradient."""
        scale, bias, mean, var = jax.lax.stop_gradient(
            (self.scale, self.bias, self.mean.value, self.var.value)
        )
        scale = scale * jax.lax.rsqrt(var + self.norm_eps)
        return scale, bias - mean * scale

    def __call__(
        self, x: jax.Array, statistics_parts: int = 0, mask: jax.Array | None = None
    ) -> jax.Array:
        """Returns x [..., C] normalised, of the same shape and dtype; the rest is for Norm."""
        del statistics_parts, mask
        scale, shift = self.affine()
        return (x.astype(jnp.float32) * scale + shift).astype(x.dtype)


def norm_layer(kind: str, features: int, norm_eps: float, name: str | None = None) -> nn.Module:
    """Returns a norm by its name.

    Args:
        kind: frozen_bn | bn | gn (of feature maps alone) | ln.
        features: channels.
        norm_eps: added to the variance.
        name: of the module, where it has no attribute for one.

    Raises:
        ValueError: for another name.
    """
    if kind == "frozen_bn":
        return FrozenNorm(features, norm_eps, name=name)
    if kind not in ("bn", "gn", "ln"):
        raise ValueError(f"norm is {kind!r}; it must be one of frozen_bn, bn, gn, ln, none")
    return Norm(kind, norm_eps, name=name)


class Norm(nn.Module):
    """Normalisation of feature maps [..., H, W, C] or vectors [..., C], computed in float32.

    Every channel has its own statistics, with gn every group of channels of a feature map, with ln
    every pixel.

    Attributes:
        kind: bn | gn (of feature maps alone) | ln.
        norm_eps: added to the variance.
        momentum: fraction of the batch's statistics in the new running ones, as PyTorch counts it.
    """

    kind: str
    norm_eps: float = 1e-5
    momentum: float = 0.1

    @nn.compact
    def __call__(
        self, x: jax.Array, statistics_parts: int = 0, mask: jax.Array | None = None
    ) -> jax.Array:
        """Returns x normalised, of the same shape and dtype.

        Args:
            x: [..., H, W, C] or [..., C].
            statistics_parts: with kind bn, into how many equal parts the batch is divided; each is
                normalised with its own mean and (biased) variance, and the running ones, whose
                variance is unbiased, are updated with the means over the parts. 0: the running
                ones serve, and stay as they are.
            mask: bool, of x's first axes ([B], or [B, N] for RoIs); what is False does not enter
                the statistics.
        """
        channels = (x.shape[-1],)
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        x32, shape = x.astype(jnp.float32), x.shape
        if self.kind != "bn":
            of_kind = _group_normalised if self.kind == "gn" else _layer_normalised
            return (of_kind(x32, self.norm_eps) * scale + bias).astype(x.dtype)

        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        running_var = self.variable("batch_stats", "var", jnp.ones, channels)
        mean, var = running_mean.value, running_var.value
        if statistics_parts and not self.is_initializing():
            mask = jnp.ones(shape[:1], bool) if mask is None else mask
            x32, mask = (_in_parts(a, int(statistics_parts)) for a in (x32, mask))
            batch_mean, batch_var, count = _moments(x32, mask)
            # Without a single valid element the stored statistics serve, and stay as they are.
            mean = jnp.where(count > 0, batch_mean, mean)
            var = jnp.where(count > 0, batch_var, var)
            unbiased = var * count / jnp.maximum(count - 1, 1)
            share = jnp.where(count > 0, self.momentum, 0.0)
            for running, of_part in ((running_mean, mean), (running_var, unbiased)):
                change = share * (of_part - running.value)
                running.value += change.reshape(-1, *channels).mean(0)
        scale = scale * jax.lax.rsqrt(var + self.norm_eps)
        return (x32 * scale + (bias - mean * scale)).reshape(shape).astype(x.dtype)


class ConvNorm(nn.Module):
    """A convolution and its norm; the convolution has a bias only where there is no norm.

    Attributes:
        features, kernel_size, stride, dtype, kernel_init, groups: see Conv.
        norm: none, or a kind of Norm.
        norm_eps: added to the variance.
    """

    features: int
    kernel_size: int
    stride: int = 1
    norm: str = "none"
    norm_eps: float = 1e-5
    dtype: jnp.dtype = jnp.float32
    kernel_init: Initializer = he_normal
    groups: int = 1

    def setup(self):
        self.conv = Conv(
            self.features,
            self.kernel_size,
            self.stride,
            use_bias=self.norm == "none",
            dtype=self.dtype,
            kernel_init=self.kernel_init,
            groups=self.groups,
        )
        if self.norm != "none":
            self.norm_layer = norm_layer(self.norm, self.features, self.norm_eps)

    def __call__(
        self, x: jax.Array, statistics_parts: int = 0, mask: jax.Array | None = None
    ) -> jax.Array:
        """Returns [..., H, W, features]; the arguments are Norm's."""
        if self.norm == "none":
            return self.conv(x)
        if self.norm == "frozen_bn":
            return self.conv(x, self.norm_layer.affine())
        return self.norm_layer(self.conv(x), statistics_parts, mask)


class Dense(nn.Module):
    """Matrix product with the last axis, and a bias where wanted.

    Attributes:
        features: size of the last axis of the output.
        dtype: of the computation and the output.
        kernel_init: initialiser of the [in, out] kernel.
        use_bias: whether a bias is added.
    """

    features: int
    dtype: jnp.dtype = jnp.float32
    kernel_init: Initializer = he_uniform
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns [..., features] for x [..., in]."""
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        y = x.astype(self.dtype) @ partition.whole(kernel.astype(self.dtype))
        if self.use_bias:
            y = add_bias(y, self.param("bias", nn.initializers.zeros, (self.features,)))
        return y


class Upsample(nn.Module):
    """The 2x2 transposed convolution with stride 2, as a dense layer.

    Windows do not overlap, so each input pixel gives a 2x2 block of its own; a transposed
    convolution computes the same and is slow on several backends. The blocks are left as axes of
    their own: to lay out 256 channels by rows and columns took a sixth of the mask head's time on
    an H200, and what follows is done for each pixel alone.

    Attributes:
        features: channels of the output.
        dtype: of the computation and the output.
        kernel_init: initialiser of the [Cin, 2, 2, features] kernel.
    """

    features: int
    dtype: jnp.dtype = jnp.float32
    kernel_init: Initializer = he_normal_fan_in

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns [..., H, W, 2, 2, features] for x [..., H, W, Cin]: row and column in a block."""
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], 2, 2, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        kernel = partition.whole(kernel.astype(self.dtype))
        blocks = jnp.einsum("...i,iabo->...abo", x.astype(self.dtype), kernel)
        return add_bias(blocks, bias)


def add_bias(x: jax.Array, bias: jax.Array) -> jax.Array:
    """Returns x + bias in x's dtype, for x [..., C] and a bias [C] or [H, W, C] float32.

    Added in float32, so that the bias' gradient is summed in it: a sum of bfloat16 numbers stops
    growing at 256 times their size, and a feature map has thousands of pixels.
    """
    return (x.astype(jnp.float32) + bias).astype(x.dtype)


def rematerialised(kind: type[nn.Module]) -> type[nn.Module]:
    """Returns a kind of module that keeps its inputs alone for the backward pass.

    Whatever was computed inside is then computed again. Names and values are the same. Chen et
    al. 2016, "Training Deep Nets with Sublinear Memory Cost".

    The number `statistics_parts` must be passed by position: Flax knows positions of static
    arguments alone.
    """
    arguments = list(inspect.signature(kind.__call__).parameters)
    static = tuple(i for i, name in enumerate(arguments) if name == "statistics_parts")
    return nn.remat(kind, static_argnums=static)


def _group_normalised(x: jax.Array, norm_eps: float) -> jax.Array:
    """Wu & He 2018 with 32 groups, or as many as divide the channels where those are few."""
    channels = x.shape[-1]
    grouped = x.reshape((*x.shape[:-1], math.gcd(32, channels), -1))
    axes = (-4, -3, -1)  # rows, columns, channels of the group
    return _normalised(grouped, axes, norm_eps).reshape(x.shape)


def _layer_normalised(x: jax.Array, norm_eps: float) -> jax.Array:
    """Ba et al. 2016, over the channels of each pixel."""
    return _normalised(x, (-1,), norm_eps)


def _normalised(x: jax.Array, axes: tuple[int, ...], norm_eps: float) -> jax.Array:
    mean = x.mean(axes, keepdims=True)
    var = jnp.square(x - mean).mean(axes, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(var + norm_eps)


def _in_parts(x: jax.Array, parts: int) -> jax.Array:
    """[B, ...] as [parts, B / parts, ...]."""
    return x.reshape(parts, x.shape[0] // parts, *x.shape[1:])


def _moments(x: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Mean, biased variance and number of the masked elements, of each part and channel.

    Of x [parts, ..., C] they are [parts, 1, ..., C]; the number is the same for all channels.
    """
    mask = mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
    axes = tuple(range(1, x.ndim - 1))
    count = jnp.broadcast_to(mask, (*x.shape[:-1], 1)).sum(axes, keepdims=True)
    count = count.astype(jnp.float32)
    mean = jnp.where(mask, x, 0.0).sum(axes, keepdims=True) / jnp.maximum(count, 1)
    deviation = jnp.where(mask, x - mean, 0.0)
    var = jnp.square(deviation).sum(axes, keepdims=True) / jnp.maximum(count, 1)
    return mean, var, count
