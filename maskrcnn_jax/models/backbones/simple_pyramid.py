"""Simple feature pyramid (Li et al. 2022, section 3, "ViTDet"): C4 -> P2..P6."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from maskrcnn_jax.models.fpn import pyramid_conv, with_p6
from maskrcnn_jax.models.layers import Upsample, norm_layer
from maskrcnn_jax.parallel import partition


class SimplePyramid(nn.Module):
    """Every level is made of the one map that a plain backbone has, without a top-down pathway.

    It is brought to strides 4, 8, 16 and 32 by two, one and no up-sampling and by pooling, and then
    passes a 1x1 and a 3x3 convolution. As Detectron2's `SimpleFeaturePyramid`.

    Attributes:
        channels: of every level.
        norm: none | frozen_bn | bn | gn | ln, of the convolutions and between both up-samplings.
        norm_eps: added to the variance.
        dtype: of the convolutions.
    """

    channels: int = 256
    norm: str = "none"
    norm_eps: float = 1e-5
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        features: dict[str, jax.Array],
        statistics_parts: int = 0,
        mask: jax.Array | None = None,
    ) -> dict[str, jax.Array]:
        """Returns p2 to p6, [B, H / 4, W / 4, channels] to [B, ~H / 64, ~W / 64, channels].

        Args:
            features: c4 of the backbone.
            statistics_parts, mask: see ResNet.
        """
        c4 = features["c4"]
        half = self._doubled(c4, "upsample_half")
        if self.norm != "none":
            norm = norm_layer(self.norm, half.shape[-1], self.norm_eps, name="norm_layer")
            half = norm(half, statistics_parts, mask)
        half = nn.gelu(half, approximate=False)
        scaled = {
            "p2": self._doubled(half, "upsample_p2"),
            "p3": self._doubled(c4, "upsample_p3"),
            "p4": c4,
            "p5": _halved(c4),
        }
        pyramid = {}
        for level, x in scaled.items():
            x = pyramid_conv(self, 1, f"reduce_{level}")(x, statistics_parts, mask)
            pyramid[level] = pyramid_conv(self, 3, f"output_{level}")(x, statistics_parts, mask)
        return with_p6(pyramid)

    def _doubled(self, x: jax.Array, name: str) -> jax.Array:
        """[B, H, W, C] up-sampled to [B, 2 H, 2 W, C / 2]."""
        images, height, width, channels = x.shape
        blocks = Upsample(channels // 2, self.dtype, name=name)(partition.rows(x))
        return blocks.swapaxes(2, 3).reshape(images, 2 * height, 2 * width, channels // 2)


def _halved(x: jax.Array) -> jax.Array:
    """The largest value of each 2x2 window."""
    x = partition.rows(x, fewest=x.shape[1] // 2)
    return partition.rows(nn.max_pool(x, (2, 2), (2, 2)))
