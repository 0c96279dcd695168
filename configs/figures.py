"""Generated stick figures: boxes and six keypoints of one's own, without masks.

    python examples/figures.py data/figures
    python train.py --config=configs/figures.py

A small Keypoint R-CNN, trained from scratch on a CPU. Cost: 2,000 steps of 8 images, 10 minutes of
2 cores that had other work beside. Result on 60 images: box AP 72.2, keypoint AP 56.1, still rising
(docs/results.md).
"""

from ml_collections import ConfigDict

from maskrcnn_jax.config import Config
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.small_config import get_config as small_config


def get_config() -> Config:
    """Returns the recipe."""
    config = small_config()
    config.name = "figures"
    config.data.format = "coco"
    for split in ("train", "val"):
        where = {"root": f"data/figures/{split}", "images": "images"}
        setattr(config.data, split, ConfigDict(where | {"annotations": "keypoints.json"}))
    config.data.max_instances = 6
    config.data.mask_size = 8  # nobody reads masks
    config.data.resize = "square"
    config.data.buckets = ((128, 128),)

    model = config.model
    model.masks = False
    model.backbone.width = 16
    model.fpn.channels = 32
    model.anchors.sizes = (16.0, 32.0, 64.0, 96.0, 128.0)
    for mode in ("train", "eval"):
        setattr(model.rpn, f"pre_nms_top_n_{mode}", 200)
        setattr(model.rpn, f"post_nms_top_n_{mode}", 100)
    model.roi.samples_per_image = 32
    model.roi.canonical_size = 56.0
    model.box_head.dense_channels = 64
    set_values(model.detections, {"max_per_image": 10, "nms_threshold": 0.7})  # figures overlap
    hands, feet = ("left_hand", "right_hand"), ("left_foot", "right_foot")
    set_values(
        model.keypoints,
        {
            "names": ("head", "hip", *hands, *feet),
            "flip_pairs": (hands, feet),
            "skeleton": (
                ("head", "hip"),
                *(("head", hand) for hand in hands),
                *(("hip", foot) for foot in feet),
            ),
            "convs": 3,
            "channels": 48,
        },
    )
    config.train.best_metric = "keypoints/AP"
    config.train.steps = 2_000
    config.train.batch_size = 8
    config.train.eval_every = config.train.checkpoint_every = 1_000
    config.eval.batch_size = 8
    return config
