"""Faster R-CNN R50-FPN on COCO 2017: boxes alone, for data without masks.

    python train.py --config=configs/coco_boxes.py --config.data.train.root=DIR \
        --config.data.val.root=DIR
    python train.py --config=configs/coco_boxes.py:3x ...

DIR, schedules and beginnings are those of configs/coco.py; annotations need no masks. Published box
AP of Detectron2's `faster_rcnn_R_50_FPN`: 37.9 at 1x, 40.2 at 3x (MODEL_ZOO.md), where its Mask
R-CNN has 38.6 and 41.0. This recipe has not been run to its end.

Cost: 0.77 times the operations of configs/coco.py's convolutions and dense layers; there a step
takes 0.8 times as long (0.210 s beside 0.261 s on 8 V100), with which 1x would be 2.1 hours of an
H200's steps where configs/coco.py's are 2.6.

    --config.init=coco_torchvision_faster_v1    a detector trained on COCO, for data of your own
"""

from maskrcnn_jax import config_flags, recipes
from maskrcnn_jax.config import Config


def get_config(schedule: str = "1x") -> Config:
    """Returns the recipe.

    Args:
        schedule: as for configs/coco.py.

    Raises:
        ValueError: for another one.
    """
    config = config_flags.read(f"{recipes.folder() / 'coco.py'}:{schedule}")
    config.name = f"{config.name}_boxes"
    config.model.masks = False
    config.train.best_metric = "bbox/AP"
    return config
