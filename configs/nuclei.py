"""Cell nuclei in microscope images: the 2018 Data Science Bowl's layout of one folder per image.

    python train.py --config=configs/nuclei.py --config.data.train.folder=DIR/train \
        --config.data.val.folder=DIR/val

A small network trained from scratch on a CPU, on images of 256 pixels; nuclei are small, hence the
small anchors, and many in an image, hence the 300 detections. Cost: 0.6 hours on 2 cores. Result on
67 images that were kept apart: box AP 51.8, mask AP 54.0 (docs/results.md).
"""

from ml_collections import ConfigDict

from maskrcnn_jax.config import Config
from maskrcnn_jax.small_config import get_config as small_config


def get_config() -> Config:
    config = small_config()
    config.name = "nuclei"
    config.data.format = "mask_folders"
    config.data.train = ConfigDict(dict(folder="nuclei_dsb2018/train", class_name="nucleus"))
    config.data.val = ConfigDict(dict(folder="nuclei_dsb2018/val", class_name="nucleus"))
    config.data.max_instances = 200
    config.data.mask_size = 56
    config.data.resize = "square"
    config.data.buckets = ((256, 256),)

    model = config.model
    model.anchors.sizes = (8.0, 16.0, 32.0, 64.0, 128.0)
    model.rpn.pre_nms_top_n_train = 500
    model.rpn.post_nms_top_n_train = 500
    model.rpn.pre_nms_top_n_eval = 500
    model.rpn.post_nms_top_n_eval = 500
    model.roi.samples_per_image = 128
    model.roi.canonical_size = 56.0
    model.detections.max_per_image = 300

    train = config.train
    train.batch_size = 4
    train.steps = 3_500
    train.warmup_steps = 100
    train.checkpoint_every = 500
    train.eval_every = 1_750
    config.eval.batch_size = 4
    config.eval.max_detections = (1, 100, 300)
    return config
