"""Keypoint R-CNN R50-FPN on COCO 2017's persons: boxes and 17 keypoints (He et al. 2017, 5).

    python train.py --config=configs/coco_keypoints.py --config.data.train.root=DIR \
        --config.data.val.root=DIR
    python train.py --config=configs/coco_keypoints.py:3x ...

DIR, schedules and beginnings are those of configs/coco.py; the annotations are
`person_keypoints_train2017.json` and `..._val2017.json`. Settings of the loss, the number of
proposals and the images that are trained on are Detectron2's `keypoint_rcnn_R_50_FPN`, whose
published AP is 53.6 (boxes) and 64.0 (keypoints) at 1x, 55.4 and 65.5 at 3x (MODEL_ZOO.md).
torchvision's `keypointrcnn_resnet50_fpn` has 54.6 and 65.0 after 46 epochs. This recipe has not
been run to its end.

Cost: 2.6 times the operations of configs/coco.py's convolutions and dense layers, with which 1x
would be 6.8 hours of an H200's steps where configs/coco.py's are 2.6: shapes are static, so the
head's eight convolutions of 512 channels run on 128 RoIs of each image, however few persons it
shows.

    --config.init=coco_detectron2_keypoints_r50_3x    that model's weights, to train further

Other keypoints: names, pairs that change places in a mirrored image, skeleton and sigmas are
`config.model.keypoints` (docs/keypoints.md).
"""

from maskrcnn_jax import config_flags, recipes
from maskrcnn_jax.config import Config
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.models.config import ALL_PARTS
from maskrcnn_jax.models.keypoints.persons import PERSONS


def get_config(schedule: str = "1x") -> Config:
    """Returns the recipe.

    Args:
        schedule: as for configs/coco.py.

    Raises:
        ValueError: for another one.
    """
    config = config_flags.read(f"{recipes.folder() / 'coco.py'}:{schedule}")
    config.name = f"{config.name}_keypoints"
    config.init_parts = ALL_PARTS
    for split in ("train", "val"):
        arguments = getattr(config.data, split)
        arguments.annotations = f"annotations/person_keypoints_{split}2017.json"
    config.data.min_keypoints = 1
    if not config.data.augment.scale_range:
        config.data.augment.short_sides = (640, 672, 704, 736, 768, 800)
    config.model.masks = False
    config.model.rpn.post_nms_top_n_train = 1500
    config.model.box_head.box_loss_beta = 0.5
    set_values(config.model.keypoints, PERSONS)
    config.train.best_metric = "keypoints/AP"
    return config
