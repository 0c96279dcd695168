"""Cascade Mask R-CNN R50-FPN on COCO 2017: three box heads in a row (Cai & Vasconcelos 2018).

    python train.py --config=configs/coco_cascade.py --config.data.train.root=DIR \
        --config.data.val.root=DIR
    python train.py --config=configs/coco_cascade.py:3x ...

DIR, schedules and beginnings are those of configs/coco.py. The settings are those of Detectron2's
`cascade_mask_rcnn_R_50_FPN_1x` and `_3x` (Misc), whose published AP is 42.1 (boxes) and 36.4
(masks) at 1x, 44.3 and 38.5 at 3x, where its Mask R-CNN has 38.6 and 35.2, 41.0 and 37.2
(MODEL_ZOO.md). This recipe has not been run to its end.

Cost: 1.05 times the operations of configs/coco.py's convolutions and dense layers; there a step
takes 1.2 times as long (0.317 s beside 0.261 s on 8 V100), with which 1x would be 3.2 hours of an
H200's steps where configs/coco.py's are 2.6.

    --config.init=coco_detectron2_cascade_r50_3x    that model's weights, for data of your own
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
    config.name = f"{config.name}_cascade"
    model = config.model
    model.box_head.class_agnostic = True
    model.cascade.ious = (0.6, 0.7)
    # Boxes by L1, as Detectron2.
    model.box_head.box_loss = model.rpn.box_loss = "l1"
    return config
