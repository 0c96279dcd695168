"""Which parameters the optimiser may change."""

import jax
from ml_collections import FrozenConfigDict

from maskrcnn_jax.models.resnet import STAGES


def trainable_mask(params: dict, config: FrozenConfigDict) -> dict:
    """Returns a tree like `params` with True for what is trained.

    Frozen are the backbone's first stages (`backbone.trainable_stages`) and, with norm frozen_bn,
    the scales and biases of its norms. Their gradients are zero anyway; an optimiser with weight
    decay would still shrink them.

    Args:
        params: the "params" collection of a MaskRCNN.
        config: `config.model`.
    """
    backbone = config.backbone
    stages = ("stem", *(f"stage_{name}_" for name in STAGES))
    frozen_stages = stages[: len(stages) - backbone.trainable_stages]

    def trainable(path, leaf):
        keys = [key.key for key in path]
        if keys[0] != "backbone":
            return True
        is_norm = "norm_layer" in keys
        return not (keys[1].startswith(frozen_stages) or (is_norm and backbone.norm == "frozen_bn"))

    return jax.tree_util.tree_map_with_path(trainable, params)
