"""How many channels images have, of how many bits and in which range: what is asked of them."""

from typing import NamedTuple

import numpy as np

from maskrcnn_jax.images.config import ImageConfig


class PixelFormat(NamedTuple):
    """What is asked of an image.

    Attributes:
        channels: `config.data.channels`.
        depth: `config.data.depth`, bits of a value.
        percentiles: of each channel, which become 0 and the highest value: `data.percentiles`
            with `normalize` = "percentile"; None: values stay as they are.
    """

    channels: int = 3
    depth: int = 8
    percentiles: tuple[float, float] | None = None

    @property
    def dtype(self) -> type:
        """The dtype of the array that holds the image: uint8 or uint16."""
        return np.uint8 if self.depth == 8 else np.uint16


RGB8 = PixelFormat()


def pixel_format(data: ImageConfig) -> PixelFormat:
    """Returns what `config.data` asks of an image."""
    percentiles = data.percentiles if data.normalize == "percentile" else None
    return PixelFormat(data.channels, data.depth, percentiles)
