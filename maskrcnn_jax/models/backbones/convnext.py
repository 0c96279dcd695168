"""ConvNeXt (Liu et al. 2022): image -> C2, C3, C4, C5, at strides 4, 8, 16, 32."""

import zlib
from dataclasses import asdict

import flax.linen as nn
import jax
import jax.numpy as jnp

from maskrcnn_jax.models.backbones.config import BackboneConfig
from maskrcnn_jax.models.backbones.interface import FEATURES, Stages
from maskrcnn_jax.models.backbones.layers import (
    Patches,
    layer_norm,
    narrow_normal,
    rising_rates,
    stochastic_depth,
)
from maskrcnn_jax.models.layers import Conv, Dense, rematerialised

_KEY = zlib.crc32(b"stochastic depth of ConvNeXt")


def make(config: BackboneConfig, dtype: jnp.dtype, remat: bool) -> "ConvNeXt":
    """Returns the ConvNeXt of a configuration; the arguments are those of `make_backbone`."""
    return ConvNeXt(**asdict(config.convnext), dtype=dtype, remat=remat)


def stages(config: BackboneConfig) -> Stages:
    """Returns its stages. Three blocks of C4 are a layer; of the others, all are.

    So the authors count layers where the learning rate decays from layer to layer.
    """
    found: Stages = {"stem": [("stem",)]}
    for name, number in zip(FEATURES, config.convnext.blocks, strict=True):
        names = [f"stage_{name}_{i}" for i in range(number)]
        size = 3 if name == "c4" else number
        layers = [tuple(names[i : i + size]) for i in range(0, number, size)]
        layers[0] = (f"downsample_{name}", *layers[0])  # C2 has none
        layers[-1] = (*layers[-1], f"norm_{name}")
        found[name] = layers
    return found


class Block(nn.Module):
    """Depthwise 7x7 convolution, norm, and two dense layers on each pixel, added to the input.

    Attributes:
        layer_scale: the factor of every channel of what is added, to begin with.
        dtype: of the convolution and the dense layers.
    """

    layer_scale: float
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, factor: jax.Array | None = None) -> jax.Array:
        """Returns [B, H, W, C] for x [B, H, W, C].

        Args:
            x: see above.
            factor: [B] float32, of what is added; None: 1.
        """
        channels = x.shape[-1]

        def dense(features, name):
            return Dense(features, self.dtype, narrow_normal, name=name)

        y = Conv(
            channels,
            7,
            dtype=self.dtype,
            kernel_init=narrow_normal,
            groups=channels,
            name="depthwise",
        )(x)
        y = layer_norm(self.dtype, "norm")(y)
        y = nn.gelu(dense(4 * channels, "expand")(y), approximate=False)
        y = dense(channels, "project")(y)
        initial = nn.initializers.constant(self.layer_scale)
        scale = self.param("layer_scale", initial, (channels,))
        if factor is not None:
            scale = scale * factor[:, None, None, None]
        return x + (y.astype(jnp.float32) * scale).astype(self.dtype)  # see add_bias


class Downsample(nn.Module):
    """A norm, and patches of 2x2 pixels, each of which becomes one of `features` channels."""

    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns [B, H / 2, W / 2, features] for x [B, H, W, C]."""
        x = layer_norm(self.dtype, "norm")(x)
        return Patches(self.features, 2, self.dtype, name="conv")(x)


class Stem(nn.Module):
    """Patches of 4x4 pixels, each of which becomes one of `features` channels, and a norm."""

    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """Returns [B, H / 4, W / 4, features] for an image [B, H, W, C]."""
        x = Patches(self.features, 4, self.dtype, name="conv")(image)
        return layer_norm(self.dtype, "norm")(x)


class ConvNeXt(nn.Module):
    """The backbone.

    Attributes:
        blocks: of each of the four stages.
        channels: of each of them.
        norm_features: whether each feature map passes a norm of its own.
        layer_scale: see Block.
        stochastic_depth: probability that the last block is left out for an image in training; that
            of the others rises to it linearly, from 0.
        dtype: of convolutions and dense layers.
        remat: whether the backward pass computes each block again from its inputs.
    """

    blocks: tuple[int, int, int, int] = (3, 3, 9, 3)
    channels: tuple[int, int, int, int] = (96, 192, 384, 768)
    norm_features: bool = True
    layer_scale: float = 1e-6
    stochastic_depth: float = 0.0
    dtype: jnp.dtype = jnp.float32
    remat: bool = False

    def setup(self):
        block = rematerialised(Block) if self.remat else Block
        self.stem = Stem(self.channels[0], self.dtype)
        self.downsample = {
            name: Downsample(features, self.dtype)
            for name, features in zip(FEATURES[1:], self.channels[1:], strict=True)
        }
        self.stage = {
            name: [block(self.layer_scale, self.dtype) for _ in range(number)]
            for name, number in zip(FEATURES, self.blocks, strict=True)
        }
        self.norm = {name: layer_norm(self.dtype) for name in FEATURES if self.norm_features}

    def __call__(
        self,
        image: jax.Array,
        statistics_parts: int = 0,
        mask: jax.Array | None = None,
        rng: jax.Array | None = None,
    ) -> dict[str, jax.Array]:
        """Returns the feature maps of the four stages; `interface.py` has the arguments.

        Every pixel is normalised by itself, so `statistics_parts` and `mask` are not used.
        """
        del statistics_parts, mask
        factors = iter(self._factors(rng, image.shape[0]))
        x, features = self.stem(image), {}
        for name in FEATURES:
            if name in self.downsample:
                x = self.downsample[name](x)
            for block in self.stage[name]:
                x = block(x, next(factors))
            features[name] = self.norm[name](x) if self.norm_features else x
        return features

    def _factors(self, rng: jax.Array | None, images: int) -> list[jax.Array | None]:
        """Returns what multiplies the branch of each block, one number for each image."""
        number = sum(self.blocks)
        if rng is None or not self.stochastic_depth:
            return [None] * number
        rates = rising_rates(self.stochastic_depth, number)
        keys = jax.random.split(jax.random.fold_in(rng, _KEY), number)
        return [stochastic_depth(key, rate, images) for key, rate in zip(keys, rates, strict=True)]
