"""The recipe of `tiny_folders`, whose images are not read while the file WAIT_WHILE is there."""

import os
import time
from pathlib import Path

from maskrcnn_jax.config import Config
from maskrcnn_jax.data import records
from tests.end_to_end.tiny_folders import get_config as folders_config

_read_image = records.read_image


def get_config() -> Config:
    records.read_image = _read_when_allowed
    return folders_config()


def _read_when_allowed(*arguments, **options):
    while Path(os.environ["WAIT_WHILE"]).exists():
        time.sleep(0.1)
    return _read_image(*arguments, **options)
