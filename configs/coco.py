"""Mask R-CNN R50-FPN on COCO 2017, in the usual schedules.

    python train.py --config=configs/coco.py --config.data.train.root=DIR --config.data.val.root=DIR
    python train.py --config=configs/coco.py:3x ...

DIR holds `train2017/`, `val2017/` and `annotations/`. Data of your own in COCO format goes the same
way: set `images` and `annotations` of both splits.

The schedules are 1x (the default) and 3x, as Detectron2 has them, and 2x, as Detectron had it:
90,000, 270,000 and 180,000 steps of 16 images, or 12, 37 and 24 epochs; the learning rate falls to
a tenth twice. `cosine` is as long as 1x. `r101` is ResNet-101 in the 3x schedule, and `x101`
ResNeXt-101 32x8d, which has 1.6 times the operations of `r101`. `lsj` is 100 epochs from scratch
with large-scale jitter, 64 images of 1024 x 1024 a step, batch norm everywhere and the heads of
torchvision's v2; `lsj_paste` has copy-paste besides (Ghiasi et al. 2021).

Expected, by Detectron2's model zoo, whose schedules these are (none has been run to its end here):

    name  million images  box AP  mask AP  Detectron2
    1x    1.4             38.6    35.2     COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x
    3x    4.3             41.0    37.2     COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x
    r101  4.3             42.9    38.6     COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x
    x101  4.3             44.3    39.5     COCO-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_3x
    lsj   11.8            44.6    40.3     new_baselines/mask_rcnn_R_50_FPN_100ep_LSJ

At the 151 images/s that the steps of one H200 ran at (bfloat16, benchmarks/RESULTS.md), 1x is 2.6
hours and `lsj` 22. All but `lsj` were written for 8 accelerators. For another batch size, give the
learning rate the rule for it and scale the numbers of steps against it (docs/training.md):

    --config.train.batch_size=8 --config.train.learning_rate_rule=linear \
        --config.train.steps=180000 --config.train.decay_steps='(120000, 160000)'

The backbone starts from ImageNet, as in every published 1x schedule: its batch norms and its first
two stages stay as they are. Other beginnings:

    --config.init=coco_torchvision_v1    a detector trained on COCO, for data of your own: the
                                         classes that COCO has too are known from the first step
    --config.init=runs/coco              a run of ours, likewise
    --config.init=none --config.model.backbone.norm=bn --config.train.layers=all
                                         nothing: it takes several times as many steps
"""

from ml_collections import ConfigDict

from maskrcnn_jax.config import Config
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.pretrained.tables.torchvision import MODEL_OVERRIDES

SCHEDULES = {
    "1x": dict(steps=90_000, decay_steps=(60_000, 80_000)),
    "2x": dict(steps=180_000, decay_steps=(120_000, 160_000)),
    "3x": dict(steps=270_000, decay_steps=(210_000, 250_000)),
    "cosine": dict(steps=90_000, schedule="cosine"),
}


def get_config(schedule: str = "1x") -> Config:
    """Returns the recipe.

    Args:
        schedule: a key of `SCHEDULES` or `VARIANTS`, which comes after the file's name and a colon.

    Raises:
        ValueError: for another one.
    """
    if schedule not in (*SCHEDULES, *VARIANTS):
        raise ValueError(
            f"there is no schedule {schedule!r}; give --config=configs/coco.py:NAME with one of "
            f"{', '.join((*SCHEDULES, *VARIANTS))}"
        )
    config = Config()
    config.name = "coco" if schedule == "1x" else f"coco_{schedule}"
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
    if schedule in VARIANTS:
        VARIANTS[schedule](config)
        return config
    set_values(config.train, SCHEDULES[schedule])
    return config


def _r101(config: Config) -> None:
    config.init = "imagenet_torchvision_r101"
    config.model.backbone.depth = 101
    set_values(config.train, SCHEDULES["3x"])


def _x101(config: Config) -> None:
    """Detectron2's, but for torchvision's weights of ImageNet to begin with."""
    _r101(config)
    config.init = "imagenet_torchvision_x101_32x8d"
    config.model.backbone.groups, config.model.backbone.width_per_group = 32, 8


def _lsj(config: Config) -> None:
    """Detectron2's new baseline of 100 epochs, from scratch."""
    config.init = "none"
    set_values(config.model, MODEL_OVERRIDES["v2"])
    config.data.resize = "square"
    config.data.buckets = ((1024, 1024),)
    config.data.augment.scale_range = (0.1, 2.0)
    lsj = dict(
        batch_size=64,
        layers="all",
        steps=184_375,
        learning_rate=0.1,
        decay_steps=(163_889, 177_546),
        warmup_steps=500,
        warmup_factor=0.067,
        weight_decay=4e-5,
    )
    set_values(config.train, lsj)


def _lsj_paste(config: Config) -> None:
    _lsj(config)
    config.data.augment.copy_paste = 0.5


VARIANTS = {"r101": _r101, "x101": _x101, "lsj": _lsj, "lsj_paste": _lsj_paste}
