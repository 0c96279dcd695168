"""Feature pyramid network (Lin et al. 2017): C2..C5 -> P2..P6."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from maskrcnn_jax.models.initializers import he_uniform
from maskrcnn_jax.models.layers import ConvNorm
from maskrcnn_jax.parallel import partition

# Pixels of the network's input between cells of each level.
STRIDES = {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64}
LEVELS = tuple(STRIDES)
POOLED_LEVELS = LEVELS[:-1]  # p6 is for the RPN alone; RoIs are pooled from the others


class FPN(nn.Module):
    """Top-down pathway with lateral connections.

    Attributes:
        channels: of every level.
        norm: none | frozen_bn | bn | gn | ln, of the convolutions; there is no ReLU, as in the
            paper.
        norm_eps: added to the variance.
        dtype: of the convolutions.
    """

    channels: int = 256
    norm: str = "none"
    norm_eps: float = 1e-5
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        self.lateral = {f"c{i}": pyramid_conv(self, 1) for i in range(2, 6)}
        self.output = {f"p{i}": pyramid_conv(self, 3) for i in range(2, 6)}

    def __call__(
        self,
        features: dict[str, jax.Array],
        statistics_parts: int = 0,
        mask: jax.Array | None = None,
    ) -> dict[str, jax.Array]:
        """Returns p2 to p6, [B, H / 4, W / 4, channels] to [B, ~H / 64, ~W / 64, channels].

        Args:
            features: c2 to c5 of the backbone.
            statistics_parts, mask: see ResNet.
        """
        merged = self.lateral["c5"](features["c5"], statistics_parts, mask)
        pyramid = {"p5": self.output["p5"](merged, statistics_parts, mask)}
        for i in (4, 3, 2):
            lateral = self.lateral[f"c{i}"](features[f"c{i}"], statistics_parts, mask)
            merged = lateral + _doubled(merged)
            pyramid[f"p{i}"] = self.output[f"p{i}"](merged, statistics_parts, mask)
        return with_p6(pyramid)


def pyramid_conv(pyramid: nn.Module, size: int, name: str | None = None) -> ConvNorm:
    """Returns a convolution of a pyramid, whose attributes are those of `FPN`.

    Args:
        pyramid: see above.
        size: side of the kernel.
        name: of the module, where it has no attribute for one.
    """
    return ConvNorm(
        pyramid.channels,
        size,
        norm=pyramid.norm,
        norm_eps=pyramid.norm_eps,
        dtype=pyramid.dtype,
        kernel_init=he_uniform,
        name=name,
    )


def with_p6(pyramid: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Returns p2 to p6 in this order, of p2 to p5: p6 is every second cell of p5."""
    levels = pyramid | {"p6": partition.images(pyramid["p5"])[:, ::2, ::2]}
    return {level: levels[level] for level in LEVELS}


def _doubled(x: jax.Array) -> jax.Array:
    """Nearest-neighbour up-sampling by two."""
    return jax.lax.platform_dependent(x, tpu=_doubled_by_products, default=_doubled_by_copies)


def _doubled_by_copies(x):
    b, h, w, c = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)


def _doubled_by_products(x):
    """The same: a TPU's columns lie in tiles, and a product with ones takes them apart faster."""
    b, h, w, c = x.shape
    rows = jnp.broadcast_to(x[:, :, None], (b, h, 2, w, c)).reshape(b, 2 * h, w, c)
    twice = jnp.repeat(jnp.eye(w, dtype=x.dtype), 2, axis=0)
    return jnp.einsum("vw,bhwc->bhvc", twice, rows, precision="highest")
