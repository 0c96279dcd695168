"""Image files: sizes from headers alone, pixels as RGB, masks as 0 and 1 or as numbers.

Pillow decodes because it refuses a truncated JPEG, which OpenCV's `imread` fills with grey and
returns. Speed is no reason against it: OpenCV's `imdecode` refuses such files too, gives the same
pixels and saves a tenth of what a training image costs (0.5 of 5.5 ms of CPU time at 640x480), but
knows fewer kinds of files. Both leave Python's lock to other threads meanwhile.
"""

import io
import struct
import zlib
from functools import reduce
from pathlib import Path

import numpy as np
from PIL import Image

MAX_PIXELS = 100_000_000
# What Pillow raises for files that are not what they say; its decoders trip over anything.
_BROKEN = (
    OSError,
    SyntaxError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_ORIENTATION = 0x0112  # the EXIF tag
_TURN = {  # what makes the stored picture upright, by the value of the tag
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(
    path: str | Path,
    max_pixels: int = MAX_PIXELS,
    size: tuple[int, int] | None = None,
    content: bytes | None = None,
) -> np.ndarray:
    """Returns the pixels of an image file.

    Transparency is dropped, 16-bit values keep their high byte. Cameras store a turned picture
    and an EXIF tag that says how to turn it back, and annotations may be of either. Where a
    quarter turn tells the two apart, `size` decides; else the tag is followed, as annotation
    tools and Detectron2 do.

    Args:
        path: any format that Pillow reads, of 8 or 16 bits a channel.
        max_pixels: an image of more pixels is refused before it is decoded.
        size: (height, width) that the annotations give; None where there is none.
        content: of the image file, where it is part of another, which `path` then names.

    Returns:
        [height, width, 3] uint8, RGB.

    Raises:
        ValueError: the file is not a readable image, is truncated, too large, or is not of `size`.
        OSError: the file is not there or may not be read.
    """
    try:
        with _open(path, max_pixels, content) as image:
            turn = _turn(image, size)
            if image.mode.startswith("I;16"):
                pixels = (np.asarray(image) >> 8).astype(np.uint8)
                image = Image.fromarray(pixels)
            elif image.mode in ("I", "F"):
                raise ValueError(
                    f"{path} has 32 bits a pixel, whose range is unknown; convert it to 8 or 16"
                )
            elif image.mode == "P":  # palettes with transparency pass through RGBA
                image = image.convert("RGBA")
            image = image.convert("RGB")
            image = image.transpose(turn) if turn is not None else image
            pixels = np.array(image)
    except _BROKEN as error:
        raise _unreadable(path, error) from error
    if size is not None and pixels.shape[:2] != tuple(size):
        raise ValueError(
            f"{path} is {pixels.shape[0]} x {pixels.shape[1]} (height x width); "
            f"its annotations are for {size[0]} x {size[1]}"
        )
    return pixels


def image_size(
    path: str | Path,
    max_pixels: int = MAX_PIXELS,
    size: tuple[int, int] | None = None,
    content: bytes | None = None,
) -> tuple[int, int]:
    """Returns (height, width) of what `read_image` would give, from the file's header alone.

    Args:
        path: the image file.
        max_pixels: an image of more pixels is refused.
        size: (height, width) that the annotations give; where the stored picture or the upright
            one has it, that is the answer.
        content: as for `read_image`.

    Raises:
        ValueError: the header cannot be read, or the image is too large.
        OSError: the file is not there or may not be read.
    """
    try:
        with _open(path, max_pixels, content) as image:
            width, height = image.size
            swapped = _turn(image, size) in (_TURN[5], _TURN[6], _TURN[7], _TURN[8])
    except _BROKEN as error:
        raise _unreadable(path, error) from error
    return (width, height) if swapped else (height, width)


def check_stated_size(height: object, width: object, max_pixels: int) -> None:
    """Raises ValueError if what annotations give as the size of an image cannot be one.

    Args:
        height, width: as they stand in the file.
        max_pixels: an image of more pixels is refused.
    """
    if not all(type(side) is int and side > 0 for side in (height, width)):
        raise ValueError(
            f"height and width are {(height, width)!r:.80}; expected whole numbers above 0"
        )
    if height * width > max_pixels:
        raise ValueError(
            f"it has {height} x {width} pixels, more than the {max_pixels} of data.max_pixels"
        )


def read_mask(
    path: str | Path, max_pixels: int = MAX_PIXELS, content: bytes | None = None
) -> np.ndarray:
    """Returns the mask that an image file shows bright on dark, [height, width] uint8, 0 or 1.

    A pixel belongs to the mask where the brightest of its colours (transparency is not one) is
    above half of the brightest in the file, so that masks of 0 and 1 are read like those of 0 and
    255. In a JPEG, where black is not quite 0, it is above 127.

    Args:
        path: the image file.
        max_pixels: an image of more pixels is refused before it is decoded.
        content: as for `read_image`.

    Raises:
        ValueError: the file is not a readable image, is truncated, or too large.
        OSError: the file is not there or may not be read.
    """
    try:
        with _open(path, max_pixels, content) as image:
            if image.mode in ("P", "CMYK", "YCbCr", "PA"):
                image = image.convert("RGB")
            values = np.asarray(image)
            is_jpeg = image.format == "JPEG"
    except _BROKEN as error:
        raise _unreadable(path, error) from error
    if values.ndim == 3:
        colours = {2: 1, 4: 3}.get(values.shape[2], values.shape[2])
        # One colour after the other: several times as fast as the maximum over an axis of three.
        values = reduce(np.maximum, np.moveaxis(values[..., :colours], -1, 0))
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
    try:
        with _open(path, max_pixels) as image:
            if image.mode not in ("1", "L", "P", "I") and not image.mode.startswith("I;16"):
                raise ValueError(
                    f"{path} has colours (mode {image.mode}); expected an image of numbers: grey "
                    "of 8 or 16 bits, or with a palette"
                )
            return np.array(image, np.uint8 if image.mode == "1" else None)
    except _BROKEN as error:
        raise _unreadable(path, error) from error


def _open(path: str | Path, max_pixels: int, content: bytes | None = None) -> Image.Image:
    """Opens a file and reads its header, not its pixels."""
    try:
        image = Image.open(path if content is None else io.BytesIO(content))
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"{path} is refused unread: {error}. If it is to be trusted, raise "
            "PIL.Image.MAX_IMAGE_PIXELS and data.max_pixels"
        ) from error
    width, height = image.size
    if width * height > max_pixels:
        image.close()
        raise ValueError(
            f"{path} has {width} x {height} pixels, more than the {max_pixels} of "
            "data.max_pixels; it is refused unread"
        )
    return image


def _turn(image: Image.Image, size: tuple[int, int] | None) -> Image.Transpose | None:
    """Returns how to turn a stored picture, if at all (see `read_image`)."""
    # Of the base class: a PNG's own getexif decodes the whole image to find a tag at its end.
    orientation = Image.Image.getexif(image).get(_ORIENTATION, 1)
    stored = image.size[::-1]
    if orientation in (5, 6, 7, 8) and size is not None and tuple(size) == stored != stored[::-1]:
        return None
    return _TURN.get(orientation)


def _unreadable(path: str | Path, error: Exception) -> Exception:
    """Tells a file that is not there from one whose content is wrong."""
    if isinstance(error, OSError) and error.errno is not None:
        return error  # names the file already
    return ValueError(f"{path} is not a readable image, or is truncated: {error}")
