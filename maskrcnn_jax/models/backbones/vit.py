"""Plain ViT for detection (Li et al. 2022, "ViTDet"): image -> C4, at stride 16.

The transformer of 16x16 patches of Dosovitskiy et al. 2021 ("An Image is Worth 16x16 Words") most
of whose blocks attend within windows, so that images can be large. It equals Detectron2's `ViT`.
"""

import zlib
from dataclasses import asdict

import flax.linen as nn
import jax
import jax.numpy as jnp

from maskrcnn_jax.models.backbones import resizing
from maskrcnn_jax.models.backbones.attention import Attention, from_windows, to_windows
from maskrcnn_jax.models.backbones.config import BackboneConfig
from maskrcnn_jax.models.backbones.interface import FEATURES, Stages
from maskrcnn_jax.models.backbones.layers import (
    Patches,
    layer_norm,
    narrow_normal,
    rising_rates,
    stochastic_depth,
)
from maskrcnn_jax.models.backbones.simple_pyramid import SimplePyramid
from maskrcnn_jax.models.layers import Dense, add_bias, rematerialised
from maskrcnn_jax.parallel import partition

PATCH = 16
PYRAMID = SimplePyramid
_KEY = zlib.crc32(b"stochastic depth of ViT")


def make(config: BackboneConfig, dtype: jnp.dtype, remat: bool) -> "ViT":
    """Returns the ViT of a configuration; the arguments are those of `make_backbone`."""
    return ViT(**asdict(config.vit), dtype=dtype, remat=remat)


def stages(config: BackboneConfig) -> Stages:
    """Returns its stages: the patches, and four quarters of the blocks, each of them a layer.

    The quarters have the names of feature maps, since `config.train.layers` knows these.
    """
    depth, found = config.vit.depth, Stages(stem=[("stem",)])
    for i, name in enumerate(FEATURES):
        found[name] = [(f"block_{j}",) for j in range(i * depth // 4, (i + 1) * depth // 4)]
    return found


class Stem(nn.Module):
    """Patches of 16x16 pixels, each of which becomes one of `features` channels, and their places.

    Attributes:
        features: channels.
        position_grid: side of the image whose positions are stored, patches; resized for others.
        dtype: of the computation and the output.
    """

    features: int
    position_grid: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """Returns [B, H / 16, W / 16, features] for an image [B, H, W, C]."""
        x = Patches(self.features, PATCH, self.dtype, name="patches")(image)
        grid = self.position_grid
        positions = self.param("positions", narrow_normal, (grid, grid, self.features))
        rows, columns = (resizing.cubic(size, grid) for size in x.shape[1:3])
        positions = jnp.einsum(
            "hi,wj,ijc->hwc", rows, columns, partition.whole(positions), precision="highest"
        )
        return add_bias(x, positions)


class Block(nn.Module):
    """Attention, and two dense layers on each patch; both behind a norm, added to the input.

    Attributes:
        heads, grid, dtype: see Attention.
        window: side of the windows that patches attend within; 0: to the whole image.
    """

    heads: int
    grid: int
    window: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, factors: tuple[jax.Array, jax.Array] | None = None
    ) -> jax.Array:
        """Returns [B, H, W, C] for x [B, H, W, C].

        Args:
            x: see above.
            factors: [B] float32, of each of the two that are added; None: 1.
        """
        (_, height, width, channels), x = x.shape, partition.rows(x)
        y = layer_norm(self.dtype, "norm_attention")(x)
        y = to_windows(y, self.window) if self.window else y[:, None]
        y = Attention(self.heads, self.grid, self.dtype, name="attention")(y)
        y = from_windows(y, height, width) if self.window else y[:, 0]
        x = x + partition.rows(y if factors is None else _scaled(y, factors[0]))
        y = layer_norm(self.dtype, "norm_dense")(x)
        y = Dense(4 * channels, self.dtype, narrow_normal, name="expand")(y)
        y = nn.gelu(y, approximate=False)
        y = Dense(channels, self.dtype, narrow_normal, name="project")(y)
        return x + (y if factors is None else _scaled(y, factors[1]))


def _scaled(y: jax.Array, factor: jax.Array) -> jax.Array:
    return y * factor[:, None, None, None].astype(y.dtype)


class ViT(nn.Module):
    """The backbone.

    Attributes:
        depth: blocks.
        channels: of every one.
        heads: of the attention.
        window: side of the windows of most blocks, patches.
        global_blocks: which blocks attend to the whole image, from 0 on.
        position_grid: see Stem.
        relative_grid: side of the image whose relative positions the global blocks store, patches.
        stochastic_depth: probability that what the last block adds is left out for an image in
            training, each of the two apart; that of the others rises to it linearly, from 0.
        dtype: of dense layers and products.
        remat: whether the backward pass computes each block again from its inputs.
    """

    depth: int = 12
    channels: int = 768
    heads: int = 12
    window: int = 14
    global_blocks: tuple[int, ...] = (2, 5, 8, 11)
    position_grid: int = 14
    relative_grid: int = 64
    stochastic_depth: float = 0.0
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    def setup(self):
        block = rematerialised(Block) if self.remat else Block
        self.stem = Stem(self.channels, self.position_grid, self.dtype)
        self.block = [
            block(self.heads, self.relative_grid, 0, self.dtype)
            if i in self.global_blocks
            else block(self.heads, self.window, self.window, self.dtype)
            for i in range(self.depth)
        ]

    def __call__(
        self,
        image: jax.Array,
        statistics_parts: int = 0,
        mask: jax.Array | None = None,
        rng: jax.Array | None = None,
    ) -> dict[str, jax.Array]:
        """Returns c4, from which `SimplePyramid` makes all levels; `interface.py` has the rest.

        Every patch is normalised by itself, so `statistics_parts` and `mask` are not used.
        """
        del statistics_parts, mask
        x = self.stem(image)
        for block, factors in zip(self.block, self._factors(rng, image.shape[0]), strict=True):
            x = block(x, factors)
        return {"c4": x}

    def _factors(
        self, rng: jax.Array | None, images: int
    ) -> list[tuple[jax.Array, jax.Array] | None]:
        """Returns what multiplies both branches of each block, one number for each image."""
        if rng is None or not self.stochastic_depth:
            return [None] * self.depth
        rates = rising_rates(self.stochastic_depth, self.depth)
        keys = jax.random.split(jax.random.fold_in(rng, _KEY), (self.depth, 2))
        return [
            (stochastic_depth(first, rate, images), stochastic_depth(second, rate, images))
            for (first, second), rate in zip(keys, rates, strict=True)
        ]
