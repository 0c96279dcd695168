"""CST: circles, squares and triangles, ten in an image of 512 pixels, 600 images.

    python train.py --config=configs/cst.py --config.data.train.folder=DIR/cst \
        --config.data.val.folder=DIR/cst

`cst` is the folder that has `annotation/`, `train/`, `val/` and `test/`. A small network trained
from scratch on a CPU, at half of the images' size. Cost: 2,000 steps of 4 images, 45 minutes of CPU
time (1.6 hours of 2 cores with much other work). Result on the 100 images of `val`: box AP 99.6,
mask AP 99.6 (docs/results.md).
"""

from ml_collections import ConfigDict

from maskrcnn_jax.config import Config
from maskrcnn_jax.small_config import get_config as small_config


def get_config() -> Config:
    config = small_config()
    config.name = "cst"
    config.data.format = "cst"
    config.data.train = ConfigDict(dict(folder="cst", split="train"))
    config.data.val = ConfigDict(dict(folder="cst", split="val"))
    config.data.max_instances = 16
    config.data.mask_size = 56
    config.data.resize = "square"
    config.data.buckets = ((256, 256),)

    model = config.model
    model.anchors.sizes = (16.0, 32.0, 64.0, 128.0, 256.0)
    model.rpn.pre_nms_top_n_train = model.rpn.pre_nms_top_n_eval = 300
    model.rpn.post_nms_top_n_train = model.rpn.post_nms_top_n_eval = 300
    model.roi.samples_per_image = 128
    model.roi.canonical_size = 112.0
    model.detections.max_per_image = 30

    train = config.train
    train.batch_size = 4
    train.steps = 2_000
    train.warmup_steps = 100
    train.checkpoint_every = 500
    train.eval_every = 1_000
    config.eval.batch_size = 4
    return config
