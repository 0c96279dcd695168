"""PointRend R50-FPN on COCO 2017: masks of 224 x 224 with sharp outlines (Kirillov et al. 2020).

    python train.py --config=configs/coco_point_rend.py --config.data.train.root=DIR \
        --config.data.val.root=DIR
    python train.py --config=configs/coco_point_rend.py:3x ...

DIR, schedules and beginnings are those of configs/coco.py. The settings are those of Detectron2's
`pointrend_rcnn_R_50_FPN_1x_coco` and `_3x_coco` (projects/PointRend), whose published mask AP is
36.2 at 1x and 38.3 at 3x, where its Mask R-CNN has 35.2 and 37.2 (MODEL_ZOO.md); of boxes nothing
changes. This recipe has not been run to its end.

Cost: a training step has 0.8 times the operations of configs/coco.py's convolutions and dense
layers, since the points of a RoI cost less than four convolutions of 14 x 14. The masks of a
prediction cost 1.6 times as many, the choice of the least certain points, and 64 times the memory:
20 MB for the 100 masks of an image.

    --config.init=coco_detectron2_point_rend_r50_3x    that model's weights, for data of your own

Any other recipe takes it by `--config.model.point_rend.enabled=True`; give it masks that are finer
than 28 x 28, too: `--config.data.mask_size=112` at least.
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
    config.name = f"{config.name}_point_rend"
    config.model.point_rend.enabled = True
    # Boxes by L1, as Detectron2.
    config.model.box_head.box_loss = config.model.rpn.box_loss = "l1"
    return config
