"""Which parameters the optimiser may change."""

import jax
from ml_collections import FrozenConfigDict

from maskrcnn_jax.models.resnet import STAGES


def trainable_mask(params: dict, config: FrozenConfigDict) -> dict:
    """Returns a tree like `params` with True for what is trained.

    Frozen are the backbone's first stages (`backbone.trainable_stages`) and, in every part of the
    detector whose norm is frozen_bn, the scales and biases of the norms. Their gradients are zero
    anyway; an optimiser with weight decay would still shrink them.

    Args:
        params: the "params" collection of a MaskRCNN.
        config: `config.model`.
    """
    backbone = config.backbone
    stages = ("stem", *(f"stage_{name}_" for name in STAGES))
    frozen_stages = stages[: len(stages) - backbone.trainable_stages]

    def trainable(path, leaf):
        keys = [key.key for key in path]
        if keys[0] == "backbone" and keys[1].startswith(frozen_stages):
            return False
        if keys[1].startswith("dense_norm_layer"):
            return config.box_head.dense_norm != "frozen_bn"
        return not ("norm_layer" in keys and config[keys[0]].norm == "frozen_bn")

    return jax.tree_util.tree_map_with_path(trainable, params)
