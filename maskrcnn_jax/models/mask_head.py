"""Mask head of Mask R-CNN (He et al. 2017, figure 4): pooled features -> one mask per RoI."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from maskrcnn_jax.models.initializers import Initializer, small_normal
from maskrcnn_jax.models.layers import ConvNorm, Upsample
from maskrcnn_jax.parallel import partition


class MaskHead(nn.Module):
    """Convolutions, an up-sampling by two, and a 1x1 predictor with one output per class.

    The predictor keeps torchvision's row for the background, so that weights go in and out without
    loss; nobody reads it.

    Attributes:
        num_classes: K, foreground classes.
        convs: 3x3 convolutions.
        channels: of those and of the up-sampling.
        norm: none | frozen_bn | bn | gn | ln, of the convolutions.
        norm_eps: added to the variance.
        class_agnostic: one mask for all classes; the predictor then has a single output.
        dtype: of the convolutions.
    """

    num_classes: int
    convs: int = 4
    channels: int = 256
    norm: str = "none"
    norm_eps: float = 1e-5
    class_agnostic: bool = False
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        kind: dict[str, Any] = dict(norm=self.norm, norm_eps=self.norm_eps, dtype=self.dtype)
        self.conv = [ConvNorm(self.channels, 3, **kind) for _ in range(self.convs)]
        self.upsample = Upsample(self.channels, self.dtype)
        outputs = 1 if self.class_agnostic else self.num_classes + 1
        self.mask_logits = ClassConv(outputs, self.dtype)

    def __call__(
        self,
        x: jax.Array,
        classes: jax.Array,
        statistics_parts: int = 0,
        mask: jax.Array | None = None,
    ) -> jax.Array:
        """Returns the mask logits of each RoI's class, [B, N, 2S, 2S] float32.

        Args:
            x: [B, N, S, S, C], pooled features.
            classes: [B, N] int32, 0..K; neither the loss nor a detection asks for other classes.
            statistics_parts: see Norm.
            mask: [B, N] bool, the RoIs that enter the batch statistics.
        """
        for conv in self.conv:
            x = nn.relu(conv(x, statistics_parts, mask))
        x = nn.relu(self.upsample(x))
        classes = jnp.zeros_like(classes) if self.class_agnostic else classes
        return self.mask_logits(x, classes)


class ClassConv(nn.Module):
    """1x1 convolution of up-sampled RoIs, each of which needs a single output channel.

    Attributes:
        features: output channels that can be chosen from.
        dtype: of the products.
        kernel_init: initialiser of the [C, features] kernel.
    """

    features: int
    dtype: jnp.dtype = jnp.float32
    kernel_init: Initializer = small_normal

    @nn.compact
    def __call__(self, x: jax.Array, channel: jax.Array) -> jax.Array:
        """Returns [..., 2 H, 2 W] float32 for x [..., H, W, 2, 2, C] and channel [...] int32.

        Args:
            x: as `Upsample` returns it.
            channel: of each RoI.
        """
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        weights, bias = chosen_channel(kernel, bias, channel, self.dtype)
        y = jnp.einsum("...hwabc,...c->...hawb", x.astype(self.dtype), weights)
        *leading, height, _, width, _ = y.shape
        y = y.reshape(*leading, 2 * height, 2 * width)
        return y.astype(jnp.float32) + bias[..., None, None]  # see add_bias


def chosen_channel(
    kernel: jax.Array, bias: jax.Array, channel: jax.Array, dtype: jnp.dtype
) -> tuple[jax.Array, jax.Array]:
    """Returns the kernel [..., C] and the bias [...] float32 of an output channel for each RoI.

    Args:
        kernel: [C, features].
        bias: [features].
        channel: [...] int32, of each RoI.
        dtype: of the kernel.
    """
    kernel = partition.whole(kernel.astype(dtype))
    # Chosen by a product, whose gradient is a product, too, and no scatter.
    chosen = jax.nn.one_hot(channel, kernel.shape[-1], dtype=dtype)
    weights = jnp.einsum("...k,ck->...c", chosen, kernel, precision="highest")
    chosen = chosen.astype(jnp.float32)
    return weights, jnp.einsum("...k,k->...", chosen, bias, precision="highest")
