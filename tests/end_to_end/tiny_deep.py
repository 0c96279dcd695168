"""The tiny run on images of 16 bits, whose channels the command line gives."""

from ml_collections import ConfigDict

from maskrcnn_jax.config import Config
from tests.end_to_end.tiny import get_config as tiny_config


def get_config() -> Config:
    config = tiny_config()
    config.name = "tiny_deep"
    config.data.format = "coco"
    config.data.depth = 16
    config.data.train = ConfigDict(dict(images="", annotations=""))
    config.data.val = ConfigDict(dict(images="", annotations=""))
    config.data.augment.rotate = 10.0
    config.data.augment.fill = (400,)
    config.data.augment.noise = 100.0
    config.data.augment.contrast = 0.2
    config.train.steps = 3
    return config
