"""Image files: sizes from headers alone, pixels as asked for.

Pillow decodes because it refuses a truncated JPEG, which OpenCV's `imread` fills with grey and
returns. Speed is no reason against it: OpenCV's `imdecode` refuses such files too, gives the same
pixels and saves a tenth of what a training image costs (0.5 of 5.5 ms of CPU time at 640x480), but
knows fewer kinds of files. Both leave Python's lock to other threads meanwhile.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from maskrcnn_jax.faults import FaultError, FaultKind
from maskrcnn_jax.images.channels import as_wanted, check_kind
from maskrcnn_jax.images.opening import Source, opened
from maskrcnn_jax.images.pixels import RGB8, PixelFormat

MAX_PIXELS = 100_000_000
_TURN: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    # What makes the stored picture upright, by the value of the tag.
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}
_BACK = {6: 8, 8: 6}  # the turn that undoes one; the others undo themselves
_QUARTERS = (5, 6, 7, 8)


def read_image(
    path: str | Path,
    max_pixels: int = MAX_PIXELS,
    size: tuple[int, int] | None = None,
    content: bytes | None = None,
    wanted: PixelFormat = RGB8,
) -> np.ndarray:
    """Returns the pixels of an image file.

    Where 1 or 3 channels are wanted, grey and RGB become each other and transparency is dropped;
    else the file needs as many as are wanted. Of 16 bits, where 8 are wanted, the high byte stays,
    unless each channel is to be stretched between percentiles.
    Cameras store a turned picture and an EXIF tag that says how to turn it back, and annotations
    may be of either. Where a quarter turn tells the two apart, `size` decides; else the tag is
    followed, as annotation tools and Detectron2 do.

    Args:
        path: of a file in one of `opening.FORMATS`, `.npy`, or TIFF of any number of channels.
        max_pixels: an image of more pixels is refused before it is decoded.
        size: (height, width) that the annotations give; None where there is none.
        content: of the image file, where it is part of another, which `path` then names.
        wanted: channels, depth and range.

    Returns:
        [height, width, `wanted.channels`] `wanted.dtype`.

    Raises:
        ValueError: the file is not a readable image, is truncated, too large, not of `size`, or has
            other channels or a lower depth.
        OSError: the file is not there or may not be read.
    """
    with opened(path, max_pixels, content) as source:
        check_kind(source.kind, wanted, str(path))
        pixels = as_wanted(source.read, source.kind.depth, wanted)
        pixels = turned(source, pixels, size)
    if size is not None and pixels.shape[:2] != tuple(size):
        raise FaultError(
            FaultKind.IMAGE_SIZE,
            f"{path} is {pixels.shape[0]} x {pixels.shape[1]} (height x width); "
            f"its annotations are for {size[0]} x {size[1]}",
        )
    return pixels


def image_size(
    path: str | Path,
    max_pixels: int = MAX_PIXELS,
    size: tuple[int, int] | None = None,
    content: bytes | None = None,
    wanted: PixelFormat | None = None,
) -> tuple[int, int]:
    """Returns (height, width) of what `read_image` would give, from the file's header alone.

    Args:
        path: the image file.
        max_pixels: an image of more pixels is refused.
        size: (height, width) that the annotations give; where the stored picture or the upright
            one has it, that is the answer.
        content: as for `read_image`.
        wanted: channels and depth; None: any.

    Raises:
        ValueError: the header cannot be read, the image is too large, or has other channels or a
            lower depth.
        OSError: the file is not there or may not be read.
    """
    with opened(path, max_pixels, content) as source:
        if wanted is not None:
            check_kind(source.kind, wanted, str(path))
        is_swapped = source.orientation in _QUARTERS and not _is_of_stored(source, size)
        return source.size[::-1] if is_swapped else source.size


def check_stated_size(height: object, width: object, max_pixels: int) -> None:
    """Raises ValueError if what annotations give as the size of an image cannot be one.

    Args:
        height: as it stands in the file.
        width: as it stands in the file.
        max_pixels: an image of more pixels is refused.
    """
    if type(height) is not int or type(width) is not int or min(height, width) < 1:
        raise FaultError(
            FaultKind.IMAGE_SIZE,
            f"height and width are {(height, width)!r:.80}; expected whole numbers above 0",
        )
    if height * width > max_pixels:
        raise FaultError(
            FaultKind.FILE_TOO_LARGE,
            f"it has {height} x {width} pixels, more than the {max_pixels} of "
            "config.data.max_pixels",
        )


def turned(source: Source, pixels: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
    """Returns a picture upright; as it is stored where `size` says so (see `read_image`).

    Args:
        source: that gave the pixels, turned or not.
        pixels: [h, w] or [h, w, C].
        size: (height, width) of the annotations.
    """
    orientation = source.orientation
    is_wanted_turned = not _is_of_stored(source, size)
    if orientation == 1 or is_wanted_turned == source.is_turned:
        return pixels
    turn = orientation if is_wanted_turned else _BACK.get(orientation, orientation)
    return np.ascontiguousarray(_TURN[turn](pixels))


def _is_of_stored(source: Source, size: tuple[int, int] | None) -> bool:
    """Returns whether annotations of this size can only be of the picture as it is stored."""
    is_quarter = source.orientation in _QUARTERS
    return is_quarter and size is not None and tuple(size) == source.size != source.size[::-1]
