"""ResNet (He et al. 2015), ResNeXt (Xie et al. 2017): image -> C2 to C5, at strides 4 to 32."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from maskrcnn_jax.models.backbones.config import BackboneConfig
from maskrcnn_jax.models.backbones.interface import FEATURES, Stages
from maskrcnn_jax.models.layers import ConvNorm, rematerialised
from maskrcnn_jax.parallel import partition

# Blocks in each of the four residual stages; from 50 layers on they are bottlenecks.
BLOCKS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


def make(config: BackboneConfig, dtype: jnp.dtype, remat: bool) -> "ResNet":
    """Returns the ResNet of a configuration; the arguments are those of `make_backbone`."""
    return ResNet(
        depth=config.depth,
        width=config.width,
        norm=config.norm,
        norm_eps=config.norm_eps,
        stride_in_1x1=config.stride_in_1x1,
        groups=config.groups,
        width_per_group=config.width_per_group,
        pool_padding=config.pool_padding,
        dtype=dtype,
        remat=remat,
    )


def stages(config: BackboneConfig) -> Stages:
    """Returns its stages, whose layers are the residual blocks."""
    found: Stages = {"stem": [("stem",)]}
    for name, number in zip(FEATURES, BLOCKS[config.depth], strict=True):
        found[name] = [(f"stage_{name}_{i}",) for i in range(number)]
    return found


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions around which the input is added.

    Attributes:
        width: a quarter of the channels of the output; the inner convolutions have so many, or as
            the last two attributes say.
        stride: of the block.
        project: whether the input passes a strided 1x1 convolution before it is added.
        stride_in_1x1: put the stride in the first convolution, as the original ResNet does;
            otherwise in the 3x3 ("v1.5", as torchvision).
        norm, norm_eps, dtype: see ConvNorm.
        groups: of channels in the 3x3 convolution.
        width_per_group: channels of each, where `width` is 64.
    """

    width: int
    stride: int
    project: bool
    stride_in_1x1: bool
    norm: str
    norm_eps: float
    dtype: jnp.dtype = jnp.float32
    groups: int = 1
    width_per_group: int = 64

    def setup(self):
        inner = self.width * self.width_per_group // 64 * self.groups
        kind: dict[str, Any] = dict(norm=self.norm, norm_eps=self.norm_eps, dtype=self.dtype)
        first, second = (self.stride, 1) if self.stride_in_1x1 else (1, self.stride)
        self.conv1 = ConvNorm(inner, 1, first, **kind)
        self.conv2 = ConvNorm(inner, 3, second, groups=self.groups, **kind)
        self.conv3 = ConvNorm(4 * self.width, 1, 1, **kind)
        if self.project:
            self.shortcut = ConvNorm(4 * self.width, 1, self.stride, **kind)

    def __call__(
        self, x: jax.Array, statistics_parts: int = 0, mask: jax.Array | None = None
    ) -> jax.Array:
        """Returns [B, H / stride, W / stride, 4 width] for x [B, H, W, C]."""
        y = nn.relu(self.conv1(x, statistics_parts, mask))
        y = nn.relu(self.conv2(y, statistics_parts, mask))
        y = self.conv3(y, statistics_parts, mask)
        if self.project:
            x = self.shortcut(x, statistics_parts, mask)
        return nn.relu(x + y)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around which the input is added; the attributes are Bottleneck's."""

    width: int
    stride: int
    project: bool
    norm: str
    norm_eps: float
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        kind: dict[str, Any] = dict(norm=self.norm, norm_eps=self.norm_eps, dtype=self.dtype)
        self.conv1 = ConvNorm(self.width, 3, self.stride, **kind)
        self.conv2 = ConvNorm(self.width, 3, 1, **kind)
        if self.project:
            self.shortcut = ConvNorm(self.width, 1, self.stride, **kind)

    def __call__(
        self, x: jax.Array, statistics_parts: int = 0, mask: jax.Array | None = None
    ) -> jax.Array:
        """Returns [B, H / stride, W / stride, width] for x [B, H, W, C]."""
        y = nn.relu(self.conv1(x, statistics_parts, mask))
        y = self.conv2(y, statistics_parts, mask)
        if self.project:
            x = self.shortcut(x, statistics_parts, mask)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """The backbone.

    Attributes:
        depth: 18 | 34 | 50 | 101 | 152.
        width: channels of the stem.
        norm: frozen_bn | bn | gn.
        norm_eps: added to the variance.
        stride_in_1x1, groups, width_per_group: see Bottleneck.
        pool_padding: symmetric | same; see `max_pool`.
        dtype: of the convolutions.
        remat: whether the backward pass computes each block again from its inputs.
    """

    depth: int = 50
    width: int = 64
    norm: str = "frozen_bn"
    norm_eps: float = 1e-5
    stride_in_1x1: bool = False
    groups: int = 1
    width_per_group: int = 64
    pool_padding: str = "symmetric"
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    def setup(self):
        if self.depth not in BLOCKS:
            raise ValueError(f"backbone.depth is {self.depth}; it must be one of {list(BLOCKS)}")
        self.stem = ConvNorm(
            self.width, 7, 2, norm=self.norm, norm_eps=self.norm_eps, dtype=self.dtype
        )
        self.stage = {
            name: [self._block(i, j) for j in range(number)]
            for i, (name, number) in enumerate(zip(FEATURES, BLOCKS[self.depth], strict=True))
        }

    def _block(self, stage: int, block: int) -> nn.Module:
        arguments = dict(
            width=self.width * 2**stage,
            stride=2 if stage > 0 and block == 0 else 1,
            # Where the number of channels or the resolution changes.
            project=block == 0 and (stage > 0 or self.depth >= 50),
            norm=self.norm,
            norm_eps=self.norm_eps,
            dtype=self.dtype,
        )
        kind: type[BasicBlock | Bottleneck] = BasicBlock
        if self.depth >= 50:
            kind = Bottleneck
            arguments |= dict(
                stride_in_1x1=self.stride_in_1x1,
                groups=self.groups,
                width_per_group=self.width_per_group,
            )
        return (rematerialised(kind) if self.remat else kind)(**arguments)

    def __call__(
        self,
        image: jax.Array,
        statistics_parts: int = 0,
        mask: jax.Array | None = None,
        rng: jax.Array | None = None,
    ) -> dict[str, jax.Array]:
        """Returns the feature maps of the four residual stages.

        Args:
            image: [B, H, W, C] float32, normalised; H and W multiples of 32.
            statistics_parts: see Norm.
            mask: [B] bool, the images that enter the batch statistics.
            rng: not used; nothing is random here.

        Returns:
            c2 to c5: [B, H / 4, W / 4, C] to [B, H / 32, W / 32, 8 C] in the compute dtype.
        """
        del rng
        x = nn.relu(self.stem(image, statistics_parts, mask))
        x = max_pool(x, self.pool_padding)
        features = {}
        for name in FEATURES:
            for block in self.stage[name]:
                x = block(x, statistics_parts, mask)
            features[name] = x
        return features


def max_pool(x: jax.Array, padding: str) -> jax.Array:
    """Returns the largest value of every second 3x3 window.

    Args:
        x: [B, H, W, C].
        padding: symmetric (a row and a column on every side, as PyTorch) or same (as TensorFlow:
            of an even side only at the bottom or right, which moves the windows by one).

    Returns:
        [B, ceil(H / 2), ceil(W / 2), C].
    """
    pads = "SAME" if padding == "same" else ((1, 1), (1, 1))
    x = partition.rows(x, fewest=-(-x.shape[1] // 2))
    return partition.rows(nn.max_pool(x, (3, 3), (2, 2), pads))
