"""Keypoint head (He et al. 2017, section 5): pooled features -> one heatmap for each keypoint."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.models.initializers import Initializer, normal
from maskrcnn_jax.models.layers import Conv, add_bias
from maskrcnn_jax.ops.conv import conv2d
from maskrcnn_jax.parallel import partition

_KERNEL = 4  # side of the transposed convolution's kernel


class KeypointHead(nn.Module):
    """Convolutions, a transposed one to twice the size, and a bilinear enlargement by two.

    Attributes:
        number: P, keypoints of an object, of whichever class it is.
        convs: 3x3 convolutions.
        channels: of those.
        dtype: of the convolutions.
    """

    number: int
    convs: int = 8
    channels: int = 512
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        self.conv = [Conv(self.channels, 3, dtype=self.dtype) for _ in range(self.convs)]
        self.heatmaps = Deconv(self.number, self.dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns the logits [B, N, P, 4S, 4S] float32 of pooled features x [B, N, S, S, C]."""
        for conv in self.conv:
            x = nn.relu(conv(x))
        x = self.heatmaps(x).astype(jnp.float32)
        twice = jnp.asarray(_bilinear(x.shape[2]))
        return jnp.einsum("yi,bnijp,xj->bnpyx", twice, x, twice, precision="highest")


def _fan_out(shape: tuple[int, ...]) -> float:
    """The deviation of He et al. 2015 as PyTorch counts a transposed convolution's outputs."""
    rows, columns, channels, _ = shape
    return float(np.sqrt(2 / (rows * columns * channels)))


class Deconv(nn.Module):
    """The 4x4 transposed convolution with stride 2 and padding 1, as a 3x3 convolution.

    Every output pixel sees two by two inputs, the four of a 2x2 block within three by three: one
    convolution gives all four as channels. A transposed one computes the same and is slow on
    several backends.

    Attributes:
        features: channels of the output.
        dtype: of the computation and the output.
        kernel_init: initialiser of the [4, 4, Cin, features] kernel.
    """

    features: int
    dtype: jnp.dtype = jnp.float32
    kernel_init: Initializer = normal(_fan_out)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns [B, N, 2S, 2S, features] for x [B, N, S, S, Cin]."""
        shape = (_KERNEL, _KERNEL, x.shape[-1], self.features)
        kernel = partition.whole(self.param("kernel", self.kernel_init, shape))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        taps = jnp.asarray(_TAPS)
        blocks = jnp.einsum("atk,bul,klcp->tucabp", taps, taps, kernel, precision="highest")
        blocks = blocks.reshape(*blocks.shape[:3], -1).astype(self.dtype)
        flat = partition.flat_rois(x).astype(self.dtype)
        y = conv2d(flat, blocks, is_split=partition.is_split())
        y = partition.unflat_rois(y, x.shape[0])
        batch, number, height, width = y.shape[:4]
        y = y.reshape(batch, number, height, width, 2, 2, self.features)
        y = y.transpose(0, 1, 2, 4, 3, 5, 6)
        y = y.reshape(batch, number, 2 * height, 2 * width, self.features)
        return add_bias(y, bias)


def _taps() -> np.ndarray:
    """Which of the 4 rows of the kernel meets which input: [2, 3, 4], of outputs 2 i and 2 i + 1.

    The inputs are i - 1, i and i + 1: row k takes input i to output 2 i - 1 + k.
    """
    taps = np.zeros((2, 3, _KERNEL), np.float32)
    taps[0, 0, 3] = taps[0, 1, 1] = taps[1, 1, 2] = taps[1, 2, 0] = 1
    return taps


_TAPS = _taps()


def _bilinear(size: int) -> np.ndarray:
    """Returns the matrix [2 size, size] that enlarges by two, with pixels' centres in their place.

    As PyTorch's `interpolate(mode="bilinear", align_corners=False)`.
    """
    place = np.clip((np.arange(2 * size) + 0.5) / 2 - 0.5, 0, size - 1)
    distance = np.abs(place[:, None] - np.arange(size))
    return np.maximum(1 - distance, 0).astype(np.float32)


def make_head(
    config: ModelConfig,
    part: Callable[[type[nn.Module]], type[nn.Module]],
    dtype: jnp.dtype,
) -> nn.Module:
    """Returns the head that `config.model.keypoints` describes.

    Args:
        config: `config.model`.
        part: takes a kind of module, to compute it again in the backward pass, say.
        dtype: of convolutions.
    """
    settings = config.keypoints
    return part(KeypointHead)(
        number=len(settings.names),
        convs=settings.convs,
        channels=settings.channels,
        dtype=dtype,
    )
