"""Mask R-CNN R50-FPN on COCO 2017, in the usual schedules.

    python train.py --config=configs/coco.py --config.data.train.root=DIR --config.data.val.root=DIR
    python train.py --config=configs/coco.py:3x ...

DIR holds `train2017/`, `val2017/` and `annotations/`. Data of your own in COCO format goes the same
way: set `images` and `annotations` of both splits.

The schedules are 1x (the default) and 3x, as Detectron2 has them, and 2x, as Detectron had it:
90,000, 270,000 and 180,000 steps of 16 images, or 12, 37 and 24 epochs; the learning rate falls to
a tenth twice. `cosine` is as long as 1x. All were written for 8 accelerators. For another batch
size, give the learning rate the rule for it and scale the numbers of steps against it
(docs/training.md):

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

SCHEDULES = {
    "1x": dict(steps=90_000, decay_steps=(60_000, 80_000)),
    "2x": dict(steps=180_000, decay_steps=(120_000, 160_000)),
    "3x": dict(steps=270_000, decay_steps=(210_000, 250_000)),
    "cosine": dict(steps=90_000, schedule="cosine"),
}


def get_config(schedule: str = "1x") -> Config:
    """Returns the recipe.

    Args:
        schedule: a key of `SCHEDULES`, which comes after the file's name and a colon.

    Raises:
        ValueError: for another one.
    """
    if schedule not in SCHEDULES:
        raise ValueError(
            f"there is no schedule {schedule!r}; give --config=configs/coco.py:NAME with one of "
            f"{', '.join(SCHEDULES)}"
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
    for key, value in SCHEDULES[schedule].items():
        setattr(config.train, key, value)
    return config
