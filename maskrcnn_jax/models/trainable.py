"""Which parameters the optimiser may change."""

import jax
from ml_collections import FrozenConfigDict

from maskrcnn_jax.models.resnet import STAGES

_BACKBONE = ("stem", *(f"stage_{name}_" for name in STAGES))

# What `config.train.layers` may be, and how many of the backbone's stages it freezes, from the
# first. The words are those of matterport's Mask R-CNN: "3+" is C3 and whatever comes after it.
LAYERS = {"heads": 5, "5+": 4, "4+": 3, "3+": 2, "2+": 1, "all": 0}


def trainable_mask(params: dict, config: FrozenConfigDict, layers: str) -> dict:
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
    frozen_stages = _BACKBONE[: LAYERS[layers]]

    def trainable(path, leaf):
        keys = [key.key for key in path]
        if keys[0] == "backbone" and keys[1].startswith(frozen_stages):
            return False
        if keys[1].startswith("dense_norm_layer"):
            return config.box_head.dense_norm != "frozen_bn"
        return not ("norm_layer" in keys and config[keys[0]].norm == "frozen_bn")

    return jax.tree_util.tree_map_with_path(trainable, params)
