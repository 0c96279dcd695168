"""Which parts of which images are samples of training: whole images, or tiles that overlap.

A tile is a window of an image; what it shows is treated like a crop of it. So an object that lies
across the border of two tiles is in both, as far as each shows it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from maskrcnn_jax.data.config import AugmentConfig
from maskrcnn_jax.data.records import Record
from maskrcnn_jax.images.tiles import Window, tile_windows


class Sample(NamedTuple):
    """An image, and the part of it that one slot of a batch is made of."""

    record: Record
    window: Window

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the part."""
        x1, y1, x2, y2 = self.window
        return y2 - y1, x2 - x1


def whole_images(records: Sequence[Record]) -> list[Sample]:
    """Returns each image as one sample."""
    return [Sample(record, (0, 0, record.width, record.height)) for record in records]


def training_samples(records: Sequence[Record], augment: AugmentConfig) -> list[Sample]:
    """Returns the samples of one epoch: image after image, tile after tile, row by row.

    Args:
        records: the images.
        augment: the configuration's `data.augment` section.

    Raises:
        ValueError: `augment.empty_tiles` is false and no tile shows an object.
    """
    if not augment.tile:
        return whole_images(records)
    samples = [
        Sample(record, window)
        for record in records
        for window in tile_windows(record.height, record.width, augment.tile, augment.tile_overlap)
        if augment.empty_tiles or objects_shown(record, window, augment.min_visible).any()
    ]
    if records and not samples:
        raise ValueError(
            f"none of the tiles of {len(records)} images shows an object; check the annotations, "
            "or set config.data.augment.empty_tiles=True"
        )
    return samples


def objects_shown(record: Record, window: Window, min_visible: float) -> np.ndarray:
    """Returns of which objects enough of the box lies in a window, [n] bool.

    Args:
        record: an image with n instances; crowd regions are no objects.
        window: a part of the image.
        min_visible: the fraction of a box's area that is enough; some of it must be there.
    """
    boxes = record.boxes.astype(np.float64)
    low, high = np.maximum(boxes[:, :2], window[:2]), np.minimum(boxes[:, 2:], window[2:])
    shown = np.maximum(high - low, 0).prod(1)
    enough = shown >= min_visible * (boxes[:, 2:] - boxes[:, :2]).prod(1)
    return (shown > 0) & enough & ~record.crowd
