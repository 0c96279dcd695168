"""Images of any number of channels: from what a file has to what is wanted, and through OpenCV.

`docs/formats/channels.md` tells which files give which channels.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from maskrcnn_jax.faults import FaultError, FaultKind
from maskrcnn_jax.images.pixels import PixelFormat

_MOST_AT_ONCE = 4  # channels that all of OpenCV's functions can take


class Kind(NamedTuple):
    """What an image file has.

    Attributes:
        channels: all of them, transparency too.
        colours: how many of these are its colours: 1, grey; 3, RGB; 0: channels of another sense.
        depth: bits of a value, 8 or 16; 32 for numbers of unknown range, which only masks may have.
    """

    channels: int
    colours: int
    depth: int


def check_kind(kind: Kind, wanted: PixelFormat, where: str) -> None:
    """Raises ValueError if a file cannot give what is asked.

    Args:
        kind: what it has.
        wanted: what is asked.
        where: the file, for the message.
    """
    if kind.depth == 32:
        raise FaultError(
            FaultKind.CHANNELS,
            f"{where} has 32 bits per value (or a sign), whose range is unknown; scale them to "
            "0..65535 and save them as uint16, or to 0..255 as uint8",
        )
    if kind.depth < wanted.depth and wanted.percentiles is None:
        raise FaultError(
            FaultKind.CHANNELS,
            f"{where} has {kind.depth} bits per value, config.data.depth is {wanted.depth}: "
            f"set it to {kind.depth} if all images are so, or config.data.normalize to percentile, "
            "or convert this one",
        )
    by_colour = kind.colours and wanted.channels in (1, 3)
    if kind.channels != wanted.channels and not by_colour:
        raise FaultError(
            FaultKind.CHANNELS,
            f"{where} has {kind.channels} channels, config.data.channels is {wanted.channels}: "
            f"set it to {kind.channels} if all images are so, or convert this one",
        )


def fitted(pixels: np.ndarray, colours: int, wanted: PixelFormat) -> np.ndarray:
    """Returns an image as it is asked for.

    Args:
        pixels: [h, w, C] uint8 or uint16 of any byte order, of a kind that passes `check_kind`.
        colours: of that kind.
        wanted: what is asked.

    Returns:
        [h, w, `wanted.channels`] `wanted.dtype`: the high byte of 16 bits where 8 are asked, the
        brightness of RGB where one channel is, grey three times where three are.
    """
    if wanted.depth == 8 and pixels.dtype.itemsize == 2:
        pixels = pixels >> 8
    # Also out of the file's byte order, which OpenCV would not heed.
    pixels = pixels.astype(wanted.dtype, copy=False)
    if pixels.shape[2] == wanted.channels:
        return pixels
    if colours == 1:
        return np.repeat(pixels[..., :1], wanted.channels, 2)
    return pixels[..., :3] if wanted.channels == 3 else brightness(pixels)


def as_wanted(
    read: Callable[[PixelFormat], np.ndarray], depth: int, wanted: PixelFormat
) -> np.ndarray:
    """Returns an image in the range that is asked for.

    Args:
        read: gives its pixels [h, w, C] in the channels and depth asked, their values as they are.
        depth: bits of a value that the image has.
        wanted: what is asked.
    """
    if wanted.percentiles is None:
        return read(wanted)
    return _stretched(read(PixelFormat(wanted.channels, depth)), wanted.percentiles, wanted.dtype)


def _stretched(pixels: np.ndarray, percentiles: tuple[float, float], dtype: type) -> np.ndarray:
    """Returns each channel from one of its percentiles, 0, to another, the highest value of a type.

    Values beyond them are cut; a channel of one value becomes 0. A percentile is the lowest value
    that at least so many of the pixels do not exceed.

    Args:
        pixels: [h, w, C] uint8 or uint16.
        percentiles: low and high, 0 to 100.
        dtype: uint8 or uint16.
    """
    values, most = np.arange(np.iinfo(pixels.dtype).max + 1), np.iinfo(dtype).max
    stretched: np.ndarray = np.empty(pixels.shape, dtype)
    for channel in range(pixels.shape[2]):
        below = np.bincount(pixels[..., channel].ravel(), minlength=len(values)).cumsum()
        low, high = np.searchsorted(below, np.array(percentiles) / 100 * below[-1])
        low = max(low, np.searchsorted(below, 1))  # at 0 %: the lowest value that there is
        parts = np.clip((values - low) / max(high - low, 1), 0, 1)
        stretched[..., channel] = np.round(most * parts).astype(dtype)[pixels[..., channel]]
    return stretched


def brightness(pixels: np.ndarray) -> np.ndarray:
    """Returns the brightness [h, w, 1] of RGB, by the weights and the rounding of Pillow's "L".

    Args:
        pixels: [h, w, C] uint8 or uint16, red, green and blue first.
    """
    weights = np.array([19595, 38470, 7471], np.uint32)  # of ITU-R BT.601, in parts of 65536
    summed = sum(pixels[..., i].astype(np.uint32) * weights[i] for i in range(3))
    return ((summed + 0x8000) >> 16).astype(pixels.dtype)[..., None]


def in_fours(
    function: Callable[..., np.ndarray], image: np.ndarray, *values: np.ndarray
) -> np.ndarray:
    """Applies a function of OpenCV's to an image of any number of channels, four at a time.

    Some of them take no more than that, and all drop the axis of a single channel.

    Args:
        function: from [h, w, c], and [c] of each of the values, to [h', w', c].
        image: [h, w, C], or [h, w].
        values: [C], for each channel.

    Returns:
        [h', w', C], or [h', w'].
    """
    if image.ndim == 2 or 1 < image.shape[2] <= _MOST_AT_ONCE:
        return function(image, *values)
    parts = []
    for first in range(0, image.shape[2], _MOST_AT_ONCE):
        here = slice(first, first + _MOST_AT_ONCE)
        part = np.ascontiguousarray(image[..., here])
        parts.append(function(part, *(value[here] for value in values)))
    return np.concatenate([part.reshape(*part.shape[:2], -1) for part in parts], 2)
