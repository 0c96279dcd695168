"""Mask R-CNN R50-FPN on COCO 2017, the 1x schedule.

    python train.py --config=configs/coco.py --config.data.train.root=DIR --config.data.val.root=DIR

DIR holds `train2017/`, `val2017/` and `annotations/`. Data of your own in COCO format goes the same
way: set `images` and `annotations` of both splits. The schedule is that of the paper's successors
(batch 16, learning rate 0.02, 90,000 steps); it was written for 8 accelerators. For another batch
size, scale the learning rate with it and the numbers of steps against it.

The backbone starts from ImageNet, as in every published 1x schedule: its batch norms and its first
two stages stay as they are. Other beginnings:

    --config.init=coco_torchvision_v1    a detector trained on COCO, for data of your own: the
                                         classes that COCO has too are known from the first step
    --config.init=runs/coco              a run of ours, likewise
    --config.init=none --config.model.backbone.norm=bn --config.train.layers=all
                                         nothing: it takes several times as many steps
"""

from ml_collections import ConfigDict

from maskrcnn_jax.config import get_config as base_config


def get_config() -> ConfigDict:
    config = base_config()
    config.name = "coco"
    config.data.format = "coco"
    config.data.train = ConfigDict(
        dict(
            root="coco",
            images="train2017",
            annotations="annotations/instances_train2017.json",
        )
    )
    config.data.val = ConfigDict(
        dict(
            root="coco",
            images="val2017",
            annotations="annotations/instances_val2017.json",
        )
    )
    config.init = "imagenet_torchvision_r50"
    config.model.detections.mask_paste = "exact"
    return config
