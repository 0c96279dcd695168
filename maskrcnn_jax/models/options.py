"""The settings of `config.model` that are words, and the words that each may be.

Most of them choose between the dialects of the projects whose weights we read: the default is
torchvision's.
"""

from ml_collections import FrozenConfigDict

OPTIONS = {
    "dtype": ("float32", "bfloat16"),
    "corners": ("continuous", "inclusive"),
    "pixel.order": ("rgb", "bgr"),
    "pixel.padding": ("mean", "black"),
    "backbone.norm": ("frozen_bn", "bn", "gn"),
    "backbone.pool_padding": ("symmetric", "same"),
    "fpn.norm": ("none", "frozen_bn", "bn", "gn"),
    "anchors.strides": ("quotient", "nominal"),
    "rpn.nms": ("per_level", "joint"),
    "rpn.clip": ("image", "input"),
    "roi.pooling": ("roi_align", "crop_and_resize"),
    "box_head.dense_norm": ("none", "frozen_bn", "bn"),  # vectors have no groups to normalise
    "box_head.norm": ("none", "frozen_bn", "bn", "gn"),
    "mask_head.norm": ("none", "frozen_bn", "bn", "gn"),
    "detections.classes": ("all", "best"),
}
REMAT = ("none", "backbone", "all")


def check_options(config: FrozenConfigDict) -> None:
    """Refuses words that mean nothing, before anything is computed with them.

    Args:
        config: `config.model`.

    Raises:
        ValueError: naming the key and the words that it may be.
    """
    for key, words in OPTIONS.items():
        value = config
        for name in key.split("."):
            value = value[name]
        if value not in words:
            raise ValueError(f"model.{key} is {value!r}; it must be {' or '.join(words)}")


def check_remat(remat: str) -> None:
    """Refuses a word that is none for `config.train.remat`.

    Raises:
        ValueError: naming the words that it may be.
    """
    if remat not in REMAT:
        raise ValueError(f"train.remat is {remat!r}; it must be {', '.join(REMAT[:-1])} or all")
