"""The tiny run on labelme's files: some of one folder for training, the others for validation."""

from ml_collections import ConfigDict

from maskrcnn_jax.config import Config
from tests.end_to_end.tiny import get_config as tiny_config


def get_config() -> Config:
    config = tiny_config()
    config.name = "tiny_labelme"
    config.data.format = "labelme"
    for split in ("train", "val"):
        setattr(config.data, split, ConfigDict(dict(folder="", split=split, val_fraction=0.5)))
    config.train.steps = 2
    config.train.log_every = 1
    return config
