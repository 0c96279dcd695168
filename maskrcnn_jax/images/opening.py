"""Opening an image file of any format: its size, its channels, which way is up, its pixels.

Only the formats of a list are opened, each by code that decodes pixels and does nothing else:
Pillow would start other programs for some (Ghostscript for PostScript), whatever a file's name is.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import cv2
import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from maskrcnn_jax.faults import FaultError, FaultKind
from maskrcnn_jax.files import regular
from maskrcnn_jax.images.channels import Kind, as_wanted, check_kind, fitted
from maskrcnn_jax.images.metadata import without_metadata
from maskrcnn_jax.images.pixels import PixelFormat

if TYPE_CHECKING:
    from maskrcnn_jax.images.arrays import ArrayFile

# Pillow's names. HEIF is there where the package pillow-heif is installed.
FORMATS = (
    *("JPEG", "PNG", "TIFF", "WEBP", "BMP", "DIB", "GIF", "AVIF", "HEIF", "JPEG2000"),
    *("PPM", "QOI", "PCX", "SGI", "TGA"),
)
_MOST_METADATA = 2**30  # bytes of a file that is read a second time, without what is not pixels
_ORIENTATION, _WIDTH, _HEIGHT = 0x0112, 0x0100, 0x0101  # tags of EXIF and TIFF
_NPY = b"\x93NUMPY"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two: BigTIFF
_GREY = ("1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N")  # Pillow's modes


class Source(NamedTuple):
    """An open image file.

    Attributes:
        size: height and width as stored.
        kind: its channels and depth.
        orientation: 1, or how the stored picture is to be turned upright, 2 to 8 as EXIF has it.
        read: gives the pixels as wanted, [h, w, C].
        picture: gives Pillow's image, decoded; None where Pillow does not read the file.
        is_turned: whether these two give the upright picture, not the stored one.
    """

    size: tuple[int, int]
    kind: Kind
    orientation: int
    read: Callable[[PixelFormat], np.ndarray]
    picture: Callable[[], Image.Image] | None = None
    is_turned: bool = False


@contextmanager
def opened(path: str | Path, max_pixels: int, content: bytes | None = None) -> Iterator[Source]:
    """Opens an image file and reads its header.

    Args:
        path: of the file.
        max_pixels: an image of more pixels is refused; there is no other limit.
        content: of the file, where it is part of another, which `path` then names.

    Yields:
        What the header says. What goes wrong while it is used is a ValueError that names the file.

    Raises:
        ValueError: the file is of no known format, is damaged or too large.
        OSError: it is not there or may not be read.
    """
    with _faults_named(path), _stream(path, content) as stream:
        with _array_file(stream, path) as found:
            if found is not None:
                _check_pixels(path, found.size, max_pixels)
                yield Source(
                    found.size,
                    found.kind,
                    found.orientation,
                    lambda wanted: fitted(found.read(), found.kind.colours, wanted),
                )
                return
        with _image(stream, path, max_pixels) as image:
            yield _source(image, stream, path)


def image_pixels(image: Image.Image, wanted: PixelFormat) -> np.ndarray:
    """Returns the pixels of an image of Pillow as they lie in it, [h, w, C] as wanted.

    Args:
        image: opened or made by whoever calls.
        wanted: channels, depth and range.

    Raises:
        ValueError: it has other channels or a lower depth, or cannot be decoded.
    """
    name = getattr(image, "filename", "") or f"the image of mode {image.mode}"
    with _faults_named(name):
        kind = _kind(image)._replace(depth=_depth_in_memory(image))
        check_kind(kind, wanted, name)

        def read(form: PixelFormat) -> np.ndarray:
            if form.depth == 8:
                return _shallow(image, form.channels)
            return fitted(np.array(image)[..., None], kind.colours, form)

        return as_wanted(read, kind.depth, wanted)


def _depth_in_memory(image: Image.Image) -> int:
    """Returns the bits of a value of a decoded image, where only grey keeps 16."""
    return 32 if image.mode in ("I", "F") else 16 if image.mode.startswith("I;16") else 8


def _stream(path: str | Path, content: bytes | None) -> BinaryIO:
    if content is not None:
        return io.BytesIO(content)
    return _Alone(io.FileIO(path, opener=regular))


@contextmanager
def _faults_named(path: str | Path) -> Iterator[None]:
    """Makes what a reader trips over a ValueError that names the file."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:  # of a broken file anything can come
        if str(path) in str(error) or (isinstance(error, OSError) and error.errno is not None):
            raise
        if "imagecodecs" in str(error):
            raise ValueError(
                f"{path} is packed in a way that tifffile alone cannot unpack ({error}): pip "
                "install imagecodecs, or save it uncompressed or by deflate"
            ) from error
        raise ValueError(f"{path} is not a readable image, or is truncated: {error}") from error


@contextmanager
def _array_file(stream: BinaryIO, path: str | Path) -> Iterator["ArrayFile | None"]:
    """Reads the header of a file that Pillow cannot read as it is; yields None of any other."""
    start = stream.read(len(_NPY))
    stream.seek(0)
    if start != _NPY and start[:4] not in _TIFF:
        yield None
        return
    from maskrcnn_jax.images import arrays  # and tifffile, which other files do not need

    if start == _NPY:
        yield arrays.numpy_file(stream, path)
    else:
        with arrays.tiff_file(stream, path) as found:
            yield found


class _Alone(io.BufferedReader):
    """A file as a stream without a place on the disk: nothing can look for others beside it.

    The metadata of OME, Micro-Manager and NDTiff can name further files, in any folder, and
    tifffile follows them from a stream that has a file number.
    """

    def fileno(self) -> int:
        raise io.UnsupportedOperation("this file is read by itself")


@cache
def _formats() -> tuple[str, ...]:
    """Returns the formats of the list that this installation can read."""
    Image.init()
    with suppress(ImportError):
        import pillow_heif

        pillow_heif.register_heif_opener()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _image(stream: BinaryIO, path: str | Path, max_pixels: int) -> Image.Image:
    """Opens a stream by Pillow, whose header is then read and whose pixels are not."""
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels  # who raises ours means Pillow's, too
    try:
        try:
            image: Image.Image = Image.open(stream, formats=_formats())
        except Image.DecompressionBombError:
            raise
        except Exception:
            bare = _bare_image(stream)
            if bare is None:
                raise
            image = bare
    except Image.DecompressionBombError as error:
        raise FaultError(
            FaultKind.FILE_TOO_LARGE, f"{path} is refused unread: {_cure(error, max_pixels)}"
        ) from error
    except Image.UnidentifiedImageError as error:
        raise ValueError(
            f"{path} is not a readable image, or is truncated: it has none of the formats "
            f"{', '.join(_formats())}"
        ) from error
    try:
        _check_pixels(path, _stored_size(image), max_pixels)
    except ValueError:
        image.close()
        raise
    return image


def _bare_image(stream: BinaryIO) -> Image.Image | None:
    """Opens a stream again, without its metadata; None where that is of no use either."""
    stream.seek(0)
    content = stream.read(_MOST_METADATA)
    bare = without_metadata(content)
    if bare is None or bare == content:
        return None
    with suppress(Exception):  # what was wrong at first is what counts
        return Image.open(io.BytesIO(bare), formats=_formats())
    return None


def _source(image: Image.Image, stream: BinaryIO, path: str | Path) -> Source:
    kind, orientation = _kind(image), _orientation(image)

    def picture() -> Image.Image:
        try:
            image.load()
            return image
        except Exception:
            bare = _bare_image(stream)  # texts may stand behind the pixels
            if bare is None or bare.size != image.size:
                raise
            with suppress(Exception):
                bare.load()
                return bare
            raise

    def read(wanted: PixelFormat) -> np.ndarray:
        if wanted.depth == 8:
            return _shallow(picture(), wanted.channels)
        if kind.channels > 1:
            return fitted(_deep_png(stream, path), kind.colours, wanted)
        return fitted(np.array(picture())[..., None], kind.colours, wanted)

    # Pillow turns TIFF files upright when it decodes them, and no others.
    is_turned = image.format == "TIFF"
    return Source(_stored_size(image), kind, orientation, read, picture, is_turned)


def _orientation(image: Image.Image) -> int:
    """Returns 1 to 8; 1 where there is no such tag, or none that can be read."""
    try:
        # The base class's method: a PNG's own getexif decodes the whole image to find a tag at its
        # end.
        orientation = Image.Image.getexif(image).get(_ORIENTATION, 1)
    except Exception:  # a damaged note of the camera; anything can come of it
        return 1
    return orientation if orientation in range(1, 9) else 1


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Returns height and width as stored; Pillow gives those of a TIFF's upright picture."""
    if isinstance(image, TiffImageFile):
        return image.tag_v2[_HEIGHT], image.tag_v2[_WIDTH]
    return image.size[::-1]


def _check_pixels(path: str | Path, size: tuple[int, int], max_pixels: int) -> None:
    """Raises ValueError where an image of this height and width has too many pixels, or none."""
    height, width = size
    if min(size) < 1:
        raise ValueError(f"{path} has {width} x {height} pixels; expected at least one")
    if width * height > max_pixels:
        raise FaultError(
            FaultKind.FILE_TOO_LARGE,
            f"{path} has {width} x {height} pixels, more than the {max_pixels} of "
            "config.data.max_pixels; it is refused unread",
        )


def _cure(error: Exception, max_pixels: int) -> str:
    return (
        f"{str(error).rstrip('.')}; config.data.max_pixels is {max_pixels}: raise it if this is "
        "meant"
    )


def _kind(image: Image.Image) -> Kind:
    """Returns what the header says of an image that Pillow has opened."""
    if image.mode in ("I", "F"):
        return Kind(1, 1, 32)
    if image.mode.startswith("I;16"):
        return Kind(1, 1, 16)
    colours = 1 if image.mode in _GREY else 3
    channels = 3 if image.mode in ("P", "PA") else len(image.getbands())
    # Pillow makes 8 bits of a PNG's 16, unless it is plain grey; its decoder's argument tells.
    tiles = getattr(image, "tile", ())
    is_deep = image.format == "PNG" and any("16" in str(tile.args) for tile in tiles)
    return Kind(channels, colours, 16 if is_deep else 8)


def _shallow(image: Image.Image, channels: int) -> np.ndarray:
    """Returns an image with 8 bits per value, [height, width, channels] uint8."""
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


def _deep_png(stream: BinaryIO, path: str | Path) -> np.ndarray:
    """Returns a PNG of colours or transparency of 16 bits per value, [height, width, C] uint16."""
    stream.seek(0)
    content = np.frombuffer(stream.read(), np.uint8)
    pixels = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError(f"{path} is not a readable image, or is truncated")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
