"""Which parameters the optimiser may change."""

import jax

from maskrcnn_jax.layer_groups import LAYERS
from maskrcnn_jax.models.backbones.interface import backbone_stages
from maskrcnn_jax.models.config import ModelConfig


def trainable_mask(params: dict, config: ModelConfig, layers: str) -> dict:
    """Returns a tree like `params` with True for what is trained.

    Frozen are the backbone's first stages and, in every part of the detector whose norm is
    frozen_bn, the scales and biases of the norms. The gradients of the latter are zero anyway; an
    optimiser with weight decay would still shrink them. Norms of kind bn follow the batch's
    statistics in a frozen stage too.

    Args:
        params: the "params" collection of a MaskRCNN.
        config: `config.model`.
        layers: a key of `LAYERS`.
    """
    stages = list(backbone_stages(config.backbone).values())
    frozen = {name for stage in stages[: LAYERS[layers]] for layer in stage for name in layer}

    def trainable(path, leaf):
        keys = [key.key for key in path]
        if keys[0] == "backbone" and keys[1] in frozen:
            return False
        if keys[-2].startswith("dense_norm_layer"):
            return config.box_head.dense_norm != "frozen_bn"
        return not ("norm_layer" in keys and getattr(config, keys[0]).norm == "frozen_bn")

    return jax.tree_util.tree_map_with_path(trainable, params)
