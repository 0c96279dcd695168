"""How many channels images have, and of how many bits: what the configuration asks."""

from typing import NamedTuple

import numpy as np

from maskrcnn_jax.images.config import ImageConfig


class PixelFormat(NamedTuple):
    """What is asked of an image: `data.channels` and `data.depth` of the configuration."""

    channels: int = 3
    depth: int = 8

    @property
    def dtype(self) -> type:
        """Of the array that holds the image: uint8 or uint16."""
        return np.uint8 if self.depth == 8 else np.uint16


RGB8 = PixelFormat()


def pixel_format(data: ImageConfig) -> PixelFormat:
    """Returns what `config.data` asks of an image."""
    return PixelFormat(data.channels, data.depth)
