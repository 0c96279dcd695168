"""Images of 16 bits that are nearly black when they are read as 8: those of 12-bit cameras."""

import numpy as np

from maskrcnn_jax.data.records import Dataset, Record
from maskrcnn_jax.data.threads import each_in_threads
from maskrcnn_jax.faults import Fault, FaultKind
from maskrcnn_jax.images.opening import opened
from maskrcnn_jax.images.pixels import PixelFormat
from maskrcnn_jax.images.read import read_image

_LOOKED_AT = 10  # images, evenly spread
_DARK = 2**15  # a highest value below this leaves less than half of the 256 levels


def dark_images(dataset: Dataset, max_pixels: int, wanted: PixelFormat) -> list[Fault]:
    """Returns a warning where files of 16 bits are read as 8, of which few levels are left.

    Args:
        dataset: whose first images are looked at.
        max_pixels: larger images are passed over.
        wanted: channels and depth that images are read with.
    """
    records = [record for record in dataset.records if record.path]
    if wanted.depth != 8 or not records:
        return []
    places = np.unique(np.linspace(0, len(records) - 1, _LOOKED_AT).round().astype(int))
    ranges = each_in_threads(
        lambda place: _range(records[place], max_pixels), places.tolist(), "ranges of values read"
    )
    found = [limits for limits in ranges if limits is not None]
    if not found:
        return []
    low, high = min(pair[0] for pair in found), max(pair[1] for pair in found)
    if high >= _DARK:
        return []
    reason = (
        f"images of 16 bits are read as 8, by their high byte; those looked at have values from "
        f"{low} to {high} of 65535, so {(high >> 8) - (low >> 8) + 1} of 256 levels are left: set "
        "data.depth=16, with model.pixel.mean and std as `stats` measures them, or scale the files"
    )
    return [Fault(dataset.name, reason, FaultKind.VALUE_RANGE, "warning", count=len(found))]


def _range(record: Record, max_pixels: int) -> tuple[int, int] | None:
    """Returns the lowest and highest value of an image of 16 bits; None of any other."""
    try:
        with opened(record.path, max_pixels) as source:
            if source.kind.depth != 16:
                return None
            pixels = PixelFormat(source.kind.channels, 16)
        image = read_image(record.path, max_pixels, wanted=pixels)
    except (ValueError, OSError):
        return None  # the check of files tells of it
    return int(image.min()), int(image.max())
