"""Which keys of the configuration come with weights, and which are the user's to choose."""

from typing import Any

from ml_collections import ConfigDict

# What of `config.model` belongs to the weights. The rest (sizes of anchors, numbers of proposals,
# thresholds) is the user's to choose when a model is trained further.
BELONGS_TO_BACKBONE = ("pixel", "backbone")
BELONGS_TO_DETECTOR = (
    *BELONGS_TO_BACKBONE,
    "corners",
    "fpn",
    "anchors.aspect_ratios",
    "anchors.rounded",
    "anchors.strides",
    "rpn.channels",
    "rpn.convs",
    "rpn.nms",
    "rpn.clip",
    "rpn.coder_weights",
    "rpn.box_loss_beta",
    "roi.sampling_ratio",
    "roi.aligned",
    "roi.pooling",
    "roi.canonical_level",
    "box_head",
    "mask_head",
)


def belonging(config_model: ConfigDict, part: str) -> dict[str, Any]:
    """Returns those keys of `config.model`, flattened, that belong to weights of a part.

    Args:
        config_model: `config.model`.
        part: "detector" or "backbone".
    """
    names = BELONGS_TO_DETECTOR if part == "detector" else BELONGS_TO_BACKBONE
    values: dict[str, Any] = {}
    for name in names:
        value = config_model
        for key in name.split("."):
            value = value[key]
        if isinstance(value, ConfigDict):
            values |= {f"{name}.{key}": value[key] for key in value}
        else:
            values[name] = value
    return values
