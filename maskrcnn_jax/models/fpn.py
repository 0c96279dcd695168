"""Feature pyramid network (Lin et al. 2017): C2..C5 -> P2..P6."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from maskrcnn_jax.models.initializers import he_uniform
from maskrcnn_jax.models.layers import ConvNorm
from maskrcnn_jax.parallel import partition

LEVELS = ("p2", "p3", "p4", "p5", "p6")


class FPN(nn.Module):
    """Top-down pathway with lateral connections.

    Attributes:
        channels: of every level.
        norm: none | frozen_bn | bn | gn, of the convolutions; there is no ReLU, as in the paper.
        norm_eps: added to the variance.
        dtype: of the convolutions.
    """

    channels: int = 256
    norm: str = "none"
    norm_eps: float = 1e-5
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        def conv(size):
            kind = (self.norm, self.norm_eps, self.dtype, he_uniform)
            return ConvNorm(self.channels, size, 1, *kind)

        self.lateral = {f"c{i}": conv(1) for i in range(2, 6)}
        self.output = {f"p{i}": conv(3) for i in range(2, 6)}

    def __call__(
        self,
        features: dict[str, jax.Array],
        batch_statistics: bool | int = False,
        mask: jax.Array | None = None,
    ) -> dict[str, jax.Array]:
        """Returns p2 to p6, [B, H / 4, W / 4, channels] to [B, ~H / 64, ~W / 64, channels].

        Args:
            features: c2 to c5 of the backbone.
            batch_statistics, mask: as of ResNet.
        """
        merged = self.lateral["c5"](features["c5"], batch_statistics, mask)
        pyramid = {"p5": self.output["p5"](merged, batch_statistics, mask)}
        for i in (4, 3, 2):
            lateral = self.lateral[f"c{i}"](features[f"c{i}"], batch_statistics, mask)
            merged = lateral + _doubled(merged)
            pyramid[f"p{i}"] = self.output[f"p{i}"](merged, batch_statistics, mask)
        pyramid["p6"] = partition.images(pyramid["p5"])[:, ::2, ::2]  # for the RPN alone
        return {level: pyramid[level] for level in LEVELS}


def _doubled(x: jax.Array) -> jax.Array:
    """Nearest-neighbour up-sampling by two."""
    b, h, w, c = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)
