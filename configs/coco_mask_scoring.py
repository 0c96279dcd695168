"""Mask Scoring R-CNN R50-FPN on COCO 2017: scores that say how good a mask is (Huang et al. 2019).

    python train.py --config=configs/coco_mask_scoring.py --config.data.train.root=DIR \
        --config.data.val.root=DIR
    python train.py --config=configs/coco_mask_scoring.py:2x ...

DIR, schedules and beginnings are those of configs/coco.py. A further head predicts the IoU of each
mask with the true one; a mask's score is that of its box times this IoU, and boxes keep their own.
mmdetection (configs/ms_rcnn/metafile.yml) has a mask AP of 36.0 for `ms_rcnn_r50_caffe_fpn_1x_coco`
and 36.3 at 2x, where its `mask_rcnn_r50_caffe_fpn_1x_coco` has 34.4; boxes hardly change (38.2
and 38.0). This recipe has not been run to its end.

Cost: four convolutions as the mask head has, and dense layers of 14 million weights. A training
step takes 1.23 times the operations of configs/coco.py's convolutions and dense layers.

Any other recipe takes it by `--config.model.mask_scoring.enabled=True`. Weights of a run with it
come with `--config.init_parts=backbone,fpn,rpn,box_head,mask_head,mask_iou_head`.
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
    config.name = f"{config.name}_mask_scoring"
    config.model.mask_scoring.enabled = True
    return config
