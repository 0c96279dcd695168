"""Layers of backbones that are made of patches, norms of single pixels and residual blocks."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from maskrcnn_jax.models.initializers import Initializer, normal
from maskrcnn_jax.models.layers import add_bias
from maskrcnn_jax.parallel import partition

# The references draw from it too, cut off at two units, a hundred deviations.
narrow_normal = normal(0.02)


class Patches(nn.Module):
    """A convolution whose windows do not overlap, each as large as its stride: a matrix product.

    Attributes:
        features: channels of the output.
        size: side of a window.
        dtype: of the computation and the output.
        kernel_init: initialiser of the [size, size, Cin, features] kernel.
    """

    features: int
    size: int
    dtype: jnp.dtype = jnp.float32
    kernel_init: Initializer = narrow_normal

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns [B, H / size, W / size, features] for x [B, H, W, Cin], multiples of the size."""
        size, (images, height, width, channels) = self.size, x.shape
        shape = (size, size, channels, self.features)
        kernel = partition.whole(self.param("kernel", self.kernel_init, shape).astype(self.dtype))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        x = partition.rows(x.astype(self.dtype), fewest=height // size)
        blocks = x.reshape(images, height // size, size, width // size, size, channels)
        y = jnp.einsum("bhiwjc,ijco->bhwo", blocks, kernel)
        return add_bias(partition.rows(y), bias)


def layer_norm(dtype: jnp.dtype, name: str | None = None, epsilon: float = 1e-6) -> nn.LayerNorm:
    """Returns the norm of the channels of each pixel, whose statistics are float32.

    Args:
        dtype: of the output.
        name: of the module, where it has no attribute for one.
        epsilon: added to the variance.
    """
    return nn.LayerNorm(epsilon, dtype=dtype, use_fast_variance=False, name=name)


def rising_rates(last: float, number: int) -> list[float]:
    """Returns the probability that each of so many blocks is left out: linear, from 0 to `last`."""
    return [last * i / max(number - 1, 1) for i in range(number)]


def stochastic_depth(rng: jax.Array, rate: float, images: int) -> jax.Array:
    """Returns the factors [B] float32 of a residual branch: 0 with probability `rate`.

    Those of the images that keep it are 1 / (1 - rate), so that the mean is 1. Huang et al. 2016,
    "Deep Networks with Stochastic Depth", scaled in training as timm's `drop_path`.
    """
    kept = jax.random.bernoulli(rng, 1 - rate, (images,))
    return kept.astype(jnp.float32) / (1 - rate)
