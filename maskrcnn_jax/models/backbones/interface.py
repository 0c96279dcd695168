"""What the detector asks of a backbone, whatever its kind.

The file of a kind, `config.model.backbone.kind`, has two functions of `config.model.backbone`:

    make(config, dtype, remat) -> module
    stages(config) -> Stages

and, where the pyramid that its features are made for is not `FPN`, the module's class as `PYRAMID`.

`module(image, statistics_parts, mask, rng)` returns c2, c3, c4 and c5, [B, H / 4, W / 4, C] to
[B, H / 32, W / 32, C'] in the compute dtype, or what of them its pyramid takes. The image is
[B, H, W, channels] float32, normalised; H and W are multiples of 32. `statistics_parts` and `mask`
are those of `Norm`. `rng` is the key of what is random in training; None in prediction, where
nothing is. The kernels of all layers are drawn by their `kernel_init`, as
`build.initial_variables` says.
"""

from importlib import import_module
from types import ModuleType

import flax.linen as nn
import jax.numpy as jnp

from maskrcnn_jax.models.backbones.config import KINDS, BackboneConfig
from maskrcnn_jax.models.fpn import FPN

FEATURES = ("c2", "c3", "c4", "c5")

# "stem" and each of FEATURES, in this order: its layers from the image on, each the names of its
# modules in the backbone's parameters. `config.train.layers` freezes by stages.
Stages = dict[str, list[tuple[str, ...]]]


def make_backbone(config: BackboneConfig, dtype: jnp.dtype, remat: bool) -> nn.Module:
    """Returns the module of a configuration.

    Args:
        config: `config.model.backbone`.
        dtype: of convolutions and dense layers.
        remat: whether the backward pass computes each block again from its inputs.
    """
    return _of_kind(config).make(config, dtype, remat)


def pyramid_class(config: BackboneConfig) -> type[nn.Module]:
    """Returns the pyramid of a configuration's backbone, which `config.model.fpn` describes."""
    return getattr(_of_kind(config), "PYRAMID", FPN)


def backbone_stages(config: BackboneConfig) -> Stages:
    """Returns the stages of a configuration's backbone."""
    return _of_kind(config).stages(config)


def _of_kind(config: BackboneConfig) -> ModuleType:
    """Returns the file of a kind; the others are not imported."""
    return import_module(KINDS[config.kind])
