"""Images of 16 bits that are nearly black when they are read as 8: those of 12-bit cameras."""

from pathlib import Path

from maskrcnn_jax.images.opening import opened
from maskrcnn_jax.images.pixels import PixelFormat
from maskrcnn_jax.images.read import read_image

_DARK = 2**15  # a highest value below this leaves less than half of the 256 levels


def deep_range(path: str | Path, max_pixels: int, wanted: PixelFormat) -> tuple[int, int] | None:
    """Returns the lowest and highest value of a file of 16 bits that is read by its high byte.

    Args:
        path: of the image file.
        max_pixels: a larger image is passed over.
        wanted: channels, depth and range that images are read with.

    Returns:
        Both values; None of any other file, and of one that cannot be read.
    """
    if wanted.depth != 8 or wanted.percentiles is not None:
        return None
    try:
        with opened(path, max_pixels) as source:
            if source.kind.depth != 16:
                return None
            pixels = PixelFormat(source.kind.channels, 16)
        image = read_image(path, max_pixels, wanted=pixels)
    except (ValueError, OSError):
        return None  # whoever reads it for its pixels says so
    return int(image.min()), int(image.max())


def is_dark(highest: int) -> bool:
    """Returns whether little is left of such images when 8 bits are read of their values."""
    return highest < _DARK


def levels_left(low: int, high: int) -> str:
    """Returns in words what is left of such images.

    Args:
        low: their lowest value.
        high: their highest.
    """
    return (
        f"values from {low} to {high} of 65535, so {(high >> 8) - (low >> 8) + 1} of 256 levels "
        "are left"
    )
