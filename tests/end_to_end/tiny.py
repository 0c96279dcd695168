"""The smallest run that has everything: 64-pixel shapes and a detector of a few channels.

Its batches come from threads, as importing TensorFlow takes 3 s of each process; tests of tf.data
ask for it.
"""

from ml_collections import ConfigDict

from maskrcnn_jax.config import Config
from maskrcnn_jax.config import get_config as base_config


def get_config() -> Config:
    config = base_config()
    config.name = "tiny"
    config.data.format = "shapes"
    config.data.train = ConfigDict(dict(count=12, seed=0, size=64))
    config.data.val = ConfigDict(dict(count=4, seed=1, size=64))
    config.data.max_instances = 6
    config.data.mask_size = 28
    config.data.resize = "square"
    config.data.buckets = ((64, 64),)
    config.data.workers = 1
    config.data.engine = "threads"

    model = config.model
    model.backbone.depth = 18
    model.backbone.width = 8
    model.backbone.norm = "gn"
    model.fpn.channels = 16
    model.anchors.sizes = (4.0, 8.0, 16.0, 32.0, 64.0)
    model.rpn.pre_nms_top_n_train = model.rpn.pre_nms_top_n_eval = 32
    model.rpn.post_nms_top_n_train = model.rpn.post_nms_top_n_eval = 24
    model.rpn.samples_per_image = 32
    model.roi.samples_per_image = 16
    model.roi.canonical_size = 28.0
    model.box_head.dense_channels = 32
    model.mask_head.convs = 1
    model.mask_head.channels = 16
    model.detections.max_per_image = 5

    train = config.train
    train.batch_size = 2
    train.steps = 8
    train.layers = "2+"
    train.learning_rate = 0.005
    train.warmup_steps = 4
    train.decay_steps = (6,)
    train.clip_norm = 5.0
    train.log_every = 2
    train.checkpoint_every = 3
    train.eval_every = 0
    config.eval.batch_size = 2
    config.eval.pictures = 1
    return config
