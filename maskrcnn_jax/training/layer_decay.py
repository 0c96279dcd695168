"""Learning rates that fall from layer to layer of the backbone: `config.train.layer_decay`.

The layers nearest to the image know what every image needs, and are changed least. Clark et al.
2020 (ELECTRA) and Bao et al. 2022 (BEiT) fine-tune so, as do the published detectors with ConvNeXt
and with ViT.
"""

from typing import Any

import jax

from maskrcnn_jax.models.backbones.config import BackboneConfig
from maskrcnn_jax.models.backbones.interface import backbone_stages


def layer_factors(params: Any, backbone: BackboneConfig, decay: float) -> Any:
    """Returns a tree like `params` with the factor of each array's learning rate.

    It is `decay` for the backbone's last layer, `decay` squared for the one before, and so on, and
    1 outside of the backbone. What a layer is says the backbone (`stages` of its file).

    Args:
        params: the "params" collection of a MaskRCNN, or its shapes.
        backbone: `config.model.backbone`.
        decay: `config.train.layer_decay`.
    """
    layers = [layer for stage in backbone_stages(backbone).values() for layer in stage]
    above = {name: len(layers) - i for i, layer in enumerate(layers) for name in layer}

    def factor(path, _):
        part, name = path[0].key, path[1].key
        return decay ** above[name] if part == "backbone" else 1.0

    return jax.tree_util.tree_map_with_path(factor, params)
