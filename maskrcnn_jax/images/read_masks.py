"""Image files whose pixels are annotations: masks as 0 and 1, or numbers of objects or classes."""

from collections.abc import Callable
from functools import reduce
from pathlib import Path

import numpy as np

from maskrcnn_jax.images.opening import Source, opened
from maskrcnn_jax.images.pixels import PixelFormat
from maskrcnn_jax.images.read import MAX_PIXELS, turned

_NUMBERS = "expected an image of numbers: grey of 8 or 16 bits, or with a palette"


def read_mask(
    path: str | Path,
    max_pixels: int = MAX_PIXELS,
    content: bytes | None = None,
    check: Callable[[np.ndarray], None] | None = None,
) -> np.ndarray:
    """Returns the mask that an image file shows bright on dark, [height, width] uint8, 0 or 1.

    A pixel belongs to the mask where the brightest of its colours (transparency is not one) is
    above half of the brightest in the file, so that masks of 0 and 1 are read like those of 0 and
    255. In a JPEG, where black is not quite 0, it is above 127.

    Args:
        path: the image file.
        max_pixels: an image of more pixels is refused before it is decoded.
        content: as for `read_image`.
        check: gets the values of a file that is not a JPEG, [height, width] or [height, width, C],
            and may raise.

    Raises:
        ValueError: the file is not a readable image, is truncated, or too large.
        OSError: the file is not there or may not be read.
    """
    with opened(path, max_pixels, content) as source:
        if source.picture is None:
            values, is_jpeg = _all_channels(source), False
        else:
            image = source.picture()
            is_jpeg = image.format in ("JPEG", "MPO")
            if image.mode in ("P", "CMYK", "YCbCr", "PA"):
                image = image.convert("RGB")
            values = np.asarray(image)
        values = turned(source, values)
    if values.ndim == 3:
        values = values[..., : {2: 1, 4: 3}.get(values.shape[2], values.shape[2])]
    if check is not None and not is_jpeg:
        check(values)
    if values.ndim == 3:
        # One colour after the other: several times as fast as the maximum over an axis of three.
        values = reduce(np.maximum, np.moveaxis(values, -1, 0))
    limit = 127 if is_jpeg else values.max() / 2
    return (values > limit).astype(np.uint8)


def read_ids(path: str | Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Returns the number that an image file has in each pixel, [height, width] integers.

    Of a file with a palette these are its indices, whatever their colours.

    Args:
        path: the image file.
        max_pixels: an image of more pixels is refused before it is decoded.

    Raises:
        ValueError: the file is not a readable image, is truncated, too large, or has colours.
        OSError: the file is not there or may not be read.
    """
    with opened(path, max_pixels) as source:
        if source.picture is None:
            ids = _all_channels(source)
            if ids.shape[2] > 1:
                raise ValueError(f"{path} has {ids.shape[2]} channels; {_NUMBERS}")
            return turned(source, ids[..., 0])
        image = source.picture()
        if image.mode not in ("1", "L", "P", "I") and not image.mode.startswith("I;16"):
            raise ValueError(f"{path} has colours (mode {image.mode}); {_NUMBERS}")
        ids = np.array(image, np.uint8 if image.mode == "1" else None)
        return turned(source, ids.astype(ids.dtype.newbyteorder("="), copy=False))


def _all_channels(source: Source) -> np.ndarray:
    """Returns the pixels of a file that Pillow does not read, [h, w, C] of the file's depth."""
    return source.read(PixelFormat(source.kind.channels, source.kind.depth))
