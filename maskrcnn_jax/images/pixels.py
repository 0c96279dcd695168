"""How many channels images have, and of how many bits: what the configuration asks."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict


class PixelFormat(NamedTuple):
    """What is asked of an image: `data.channels` and `data.depth` of the configuration."""

    channels: int = 3
    depth: int = 8

    @property
    def dtype(self) -> type:
        """Of the array that holds the image: uint8 or uint16."""
        return np.uint8 if self.depth == 8 else np.uint16


RGB8 = PixelFormat()


def pixel_format(data: Mapping) -> PixelFormat:
    """Returns what the `data` section asks; 3 channels of 8 bits where it lacks these keys."""
    return PixelFormat(data.get("channels", 3), data.get("depth", 8))


def check_channels(config: ConfigDict) -> None:
    """Checks that the model takes the images that the data section asks for.

    Args:
        config: the whole configuration.

    Raises:
        ValueError: naming the key.
    """
    channels, depth = checked_format(config.data)
    pixel = config.model.pixel
    lengths = len(pixel.mean), len(pixel.std)
    if lengths != (channels, channels):
        raise ValueError(
            f"model.pixel.mean has {lengths[0]} values and model.pixel.std {lengths[1]}; "
            f"data.channels = {channels} needs {channels} of each: `python -m maskrcnn_jax.data "
            "stats`, with the recipe and the keys of this command, measures them"
        )
    if max(pixel.mean) > 2**depth - 1:
        raise ValueError(
            f"model.pixel.mean is {tuple(pixel.mean)}, but with data.depth = {depth} no value of "
            f"an image is above {2**depth - 1}: set data.depth to 16, or measure mean and std anew "
            "with `python -m maskrcnn_jax.data stats`"
        )
    if min(pixel.std) <= 0:
        raise ValueError(
            f"model.pixel.std is {tuple(pixel.std)}; each must be above 0: give 1 for a channel "
            "that is the same in all images"
        )
    if pixel.order != "rgb" and channels != 3:
        raise ValueError(
            f"model.pixel.order is {pixel.order!r}, of images with 3 channels; data.channels is "
            f"{channels}: set it to 'rgb', which leaves channels in their order"
        )


def checked_format(data: Mapping) -> PixelFormat:
    """Returns what the `data` section asks; raises ValueError where that makes no sense."""
    wanted = pixel_format(data)
    if wanted.channels < 1:
        raise ValueError(
            f"data.channels is {wanted.channels}; expected 1 (grey), 3 (RGB), or as many as the "
            "image files have"
        )
    if wanted.depth not in (8, 16):
        raise ValueError(f"data.depth is {wanted.depth}; expected 8 or 16, the bits of a value")
    return wanted
