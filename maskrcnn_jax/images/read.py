"""Image files: sizes from headers alone, pixels as asked for, masks as 0 and 1 or as numbers.

Pillow decodes because it refuses a truncated JPEG, which OpenCV's `imread` fills with grey and
returns. Speed is no reason against it: OpenCV's `imdecode` refuses such files too, gives the same
pixels and saves a tenth of what a training image costs (0.5 of 5.5 ms of CPU time at 640x480), but
knows fewer kinds of files. Both leave Python's lock to other threads meanwhile.
"""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from maskrcnn_jax.images import arrays as array_files
from maskrcnn_jax.images.channels import Kind, check_kind, fitted
from maskrcnn_jax.images.pixels import RGB8, PixelFormat

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
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}
_QUARTERS = (_TURN[5], _TURN[6], _TURN[7], _TURN[8])
_GREY = ("1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N")  # Pillow's modes


class _Source(NamedTuple):
    """An open image file: what its header says, and how to have its pixels as wanted."""

    size: tuple[int, int]
    kind: Kind
    orientation: int
    read: Callable[[PixelFormat], np.ndarray]


def read_image(
    path: str | Path,
    max_pixels: int = MAX_PIXELS,
    size: tuple[int, int] | None = None,
    content: bytes | None = None,
    wanted: PixelFormat = RGB8,
) -> np.ndarray:
    """Returns the pixels of an image file.

    Where 1 or 3 channels are wanted, grey and RGB become each other and transparency is dropped;
    else the file needs as many as are wanted. Of 16 bits, where 8 are wanted, the high byte stays.
    Cameras store a turned picture and an EXIF tag that says how to turn it back, and annotations
    may be of either. Where a quarter turn tells the two apart, `size` decides; else the tag is
    followed, as annotation tools and Detectron2 do.

    Args:
        path: any format that Pillow reads, `.npy`, or TIFF of any number of channels.
        max_pixels: an image of more pixels is refused before it is decoded.
        size: (height, width) that the annotations give; None where there is none.
        content: of the image file, where it is part of another, which `path` then names.
        wanted: channels and depth.

    Returns:
        [height, width, `wanted.channels`] `wanted.dtype`.

    Raises:
        ValueError: the file is not a readable image, is truncated, too large, not of `size`, or has
            other channels or a lower depth.
        OSError: the file is not there or may not be read.
    """
    try:
        with _source(path, max_pixels, content) as source:
            check_kind(source.kind, wanted, str(path))
            pixels = source.read(wanted)
            turn = _turn(source.orientation, source.size, size)
    except _BROKEN as error:
        raise _unreadable(path, error) from error
    if turn is not None:
        pixels = np.ascontiguousarray(turn(pixels))
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
    try:
        with _source(path, max_pixels, content) as source:
            if wanted is not None:
                check_kind(source.kind, wanted, str(path))
            swapped = _turn(source.orientation, source.size, size) in _QUARTERS
    except _BROKEN as error:
        raise _unreadable(path, error) from error
    return source.size[::-1] if swapped else source.size


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
            ids = np.array(image, np.uint8 if image.mode == "1" else None)
            return ids.astype(ids.dtype.newbyteorder("="), copy=False)
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
    try:
        _check_pixels(path, image.size, max_pixels)
    except ValueError:
        image.close()
        raise
    return image


def _check_pixels(path: str | Path, size: tuple[int, int], max_pixels: int) -> None:
    """Raises ValueError where an image of this width and height has too many pixels."""
    width, height = size
    if width * height > max_pixels:
        raise ValueError(
            f"{path} has {width} x {height} pixels, more than the {max_pixels} of "
            "data.max_pixels; it is refused unread"
        )


@contextmanager
def _source(path: str | Path, max_pixels: int, content: bytes | None) -> Iterator[_Source]:
    """Opens an image file of any kind."""
    with array_files.opened(path, content) as found:
        if found is not None:
            _check_pixels(path, found.size[::-1], max_pixels)

            def read(wanted: PixelFormat) -> np.ndarray:
                return fitted(found.read(), found.kind.colours, wanted)

            yield _Source(found.size, found.kind, found.orientation, read)
            return
    with _open(path, max_pixels, content) as image:
        kind = _kind(image, path)
        # Of the base class: a PNG's own getexif decodes the whole image to find a tag at its end.
        orientation = Image.Image.getexif(image).get(_ORIENTATION, 1)

        def read(wanted: PixelFormat) -> np.ndarray:
            if wanted.depth == 8:
                return _shallow(image, wanted.channels)
            pixels = _deep_png(path, content) if kind.channels > 1 else np.array(image)[..., None]
            return fitted(pixels, kind.colours, wanted)

        yield _Source(image.size[::-1], kind, orientation, read)


def _kind(image: Image.Image, path: str | Path) -> Kind:
    """Returns what the header says of an image that Pillow has opened."""
    if image.mode in ("I", "F"):
        raise ValueError(
            f"{path} has 32 bits a value, whose range is unknown; scale them to 0..65535 and save "
            "them as uint16, or to 0..255 as uint8"
        )
    if image.mode.startswith("I;16"):
        return Kind(1, 1, 16)
    colours = 1 if image.mode in _GREY else 3
    channels = 3 if image.mode in ("P", "PA") else len(image.getbands())
    # Pillow makes 8 bits of a PNG's 16, unless it is plain grey; its decoder's argument tells.
    is_deep = image.format == "PNG" and "16" in str(image.tile[0].args)
    return Kind(channels, colours, 16 if is_deep else 8)


def _shallow(image: Image.Image, channels: int) -> np.ndarray:
    """Returns an image with 8 bits a value, [height, width, channels] uint8."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode == "P":  # palettes with transparency pass through RGBA
        image = image.convert("RGBA")
    if channels == 3:
        return np.array(image.convert("RGB"))
    if channels == 1:
        grey = image if image.mode in _GREY else image.convert("RGB")
        return np.array(grey.convert("L"))[..., None]
    return np.array(image)


def _deep_png(path: str | Path, content: bytes | None) -> np.ndarray:
    """Returns a PNG of colours or transparency with 16 bits a value, [height, width, C] uint16."""
    content = Path(path).read_bytes() if content is None else content
    pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError(f"{path} is not a readable image, or is truncated")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)


def _turn(
    orientation: int, stored: tuple[int, int], size: tuple[int, int] | None
) -> Callable[[np.ndarray], np.ndarray] | None:
    """Returns how to turn a stored picture, if at all (see `read_image`)."""
    if orientation in (5, 6, 7, 8) and size is not None and tuple(size) == stored != stored[::-1]:
        return None
    return _TURN.get(orientation)


def _unreadable(path: str | Path, error: Exception) -> Exception:
    """Tells a file that is not there from one whose content is wrong."""
    if isinstance(error, OSError) and error.errno is not None:
        return error  # names the file already
    return ValueError(f"{path} is not a readable image, or is truncated: {error}")
