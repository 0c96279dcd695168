"""Balloons: matterport's sample, 61 photographs to train on and 13 to evaluate on.

    python train.py --config=configs/balloon.py
    python predict.py --workdir=runs/balloon --splash PHOTO.jpg

`balloon` is the folder, as balloon_dataset.zip of matterport/Mask_RCNN's release 2.1 unpacks, with
`train`, `val` and their `via_region_data.json`.

It starts from a detector trained on COCO, and as in matterport's sample the heads alone are
trained, with the FPN. Cost: 1,500 steps of 2 images (theirs: 3,000 of 2), minutes of a GPU. It has
not been run, and matterport publishes no number of it; `segm/matterport` is measured as their
notebooks do.
"""

from ml_collections import ConfigDict

from maskrcnn_jax.config import Config


def get_config() -> Config:
    config = Config()
    config.name = "balloon"
    config.init = "coco_torchvision_v1"
    config.data.format = "via"
    config.data.train = ConfigDict(dict(folder="balloon/train", class_name="balloon"))
    config.data.val = ConfigDict(dict(folder="balloon/val", class_name="balloon"))
    config.data.max_instances = 64
    config.data.resize = "square"
    config.data.buckets = ((1024, 1024),)
    config.eval.metrics = ("matterport",)

    train = config.train
    train.layers = "heads"
    train.batch_size = 2
    train.steps = 1_500
    train.warmup_steps = 100
    train.learning_rate = 0.0025  # 0.02 for 16 images, in proportion
    train.schedule = "cosine"
    train.clip_norm = 10.0
    train.checkpoint_every = 250
    train.eval_every = 500
    config.eval.batch_size = 2
    return config
