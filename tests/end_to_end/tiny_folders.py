"""The tiny run on folders of masks: other data, another number of classes."""

from ml_collections import ConfigDict

from maskrcnn_jax.config import Config
from tests.end_to_end.tiny import get_config as tiny_config


def get_config() -> Config:
    config = tiny_config()
    config.name = "tiny_folders"
    config.data.format = "mask_folders"
    config.data.train = ConfigDict(dict(folder="", class_name=""))
    config.data.val = ConfigDict(dict(folder="", class_name=""))
    return config
