"""Which parameters are trained, by the words of `config.train.layers`."""

import jax
import pytest

from maskrcnn_jax.models.backbones.interface import FEATURES
from maskrcnn_jax.models.trainable import LAYERS, trainable_mask


def _params():
    """Parameters by the names that the detector gives them, one leaf for each layer."""
    conv = {"conv": {"kernel": 0}, "norm_layer": {"scale": 0}}
    stages = {f"stage_{name}_0": {"conv1": conv} for name in FEATURES}
    return {
        "backbone": {"stem": conv, **stages},
        "fpn": {"output_p2": conv},
        "rpn": {"conv_0": {"kernel": 0}},
        "box_head": {"dense_0": {"kernel": 0}, "dense_norm_layer_0": {"scale": 0}},
        "mask_head": {"conv_0": conv},
    }


@pytest.mark.parametrize(
    ("layers", "trained"),
    [
        ("heads", []),
        ("5+", ["c5"]),
        ("4+", ["c4", "c5"]),
        ("3+", ["c3", "c4", "c5"]),
        ("2+", ["c2", "c3", "c4", "c5"]),
        ("all", ["stem", "c2", "c3", "c4", "c5"]),
    ],
)
def test_the_words_freeze_the_backbone_from_its_beginning(tiny_config, layers, trained):
    assert layers in LAYERS
    tiny_config.backbone.norm = tiny_config.fpn.norm = tiny_config.mask_head.norm = "gn"
    tiny_config.box_head.dense_norm = "bn"
    mask = trainable_mask(_params(), tiny_config, layers)
    names = {"stem": "stem", **{f"stage_{name}_0": name for name in FEATURES}}
    found = [name for key, name in names.items() if all(jax.tree.leaves(mask["backbone"][key]))]
    assert found == trained
    assert sum(jax.tree.leaves(mask["backbone"])) == 2 * len(trained)
    assert all(jax.tree.leaves({**mask, "backbone": True}))


def test_frozen_norms_are_never_trained(tiny_config):
    for part in ("backbone", "fpn", "mask_head"):
        getattr(tiny_config, part).norm = "frozen_bn"
    tiny_config.box_head.dense_norm = "frozen_bn"
    mask = trainable_mask(_params(), tiny_config, "all")
    for layer in (
        mask["backbone"]["stem"],
        mask["backbone"]["stage_c5_0"]["conv1"],
        mask["fpn"]["output_p2"],
        mask["mask_head"]["conv_0"],
    ):
        assert layer == {"conv": {"kernel": True}, "norm_layer": {"scale": False}}
    assert mask["box_head"] == {
        "dense_0": {"kernel": True},
        "dense_norm_layer_0": {"scale": False},
    }
    assert mask["rpn"]["conv_0"]["kernel"]
