"""Image files that Pillow cannot read as they are: numpy's arrays, and TIFF of many channels.

Of a TIFF file this is the first series of pages of one size and kind. Its channels are the samples
of each pixel, stored together or plane by plane, or else its pages, one channel each.
"""

import io
import lzma
import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

import numpy as np
from tifffile import COMPRESSION, PHOTOMETRIC, FileHandle, TiffFile, TiffPage, TiffPageSeries

from maskrcnn_jax.images.channels import Kind
from maskrcnn_jax.images.png import encode_png

_NPY = b"\x93NUMPY"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two: BigTIFF
_COLOURED = (PHOTOMETRIC.RGB, PHOTOMETRIC.SEPARATED, PHOTOMETRIC.YCBCR, PHOTOMETRIC.CIELAB)


_UNPACKERS = {
    COMPRESSION.ADOBE_DEFLATE: zlib.decompressobj,
    COMPRESSION.DEFLATE: zlib.decompressobj,
    COMPRESSION.LZMA: lzma.LZMADecompressor,
}
T = TypeVar("T")


class ArrayFile(NamedTuple):
    """What the header of a file says.

    Attributes:
        size: height and width as stored.
        kind: its channels and depth.
        orientation: as of EXIF: 1, or how the picture is to be turned upright.
        read: gives the pixels, [height, width, C] uint8 or uint16.
    """

    size: tuple[int, int]
    kind: Kind
    orientation: int
    read: Callable[[], np.ndarray]


@contextmanager
def opened(path: str | Path, content: bytes | None = None) -> Iterator[ArrayFile | None]:
    """Opens a file and reads its header.

    Args:
        path: of the file.
        content: of the file, where it is part of another, which `path` then names.

    Yields:
        What the header says; None where the file is for Pillow.

    Raises:
        ValueError: the file has values of another kind, or is not what its first bytes say.
        OSError: it is not there or may not be read.
    """
    with _Alone(io.FileIO(path)) if content is None else io.BytesIO(content) as stream:
        start = stream.read(len(_NPY))
        stream.seek(0)
        if start == _NPY:
            yield _guarded(partial(_numpy_file, stream, path), path)
        elif start[:4] in _TIFF:
            with _guarded(partial(TiffFile, stream, name=Path(path).name), path) as file:
                yield _guarded(partial(_tiff_file, file, path), path)
        else:
            yield None


class _Alone(io.BufferedReader):
    """A file as a stream without a place on the disk: nothing can look for others beside it.

    The metadata of OME, Micro-Manager and NDTiff can name further files, in any folder, and
    tifffile follows them from a stream that has a file number.
    """

    def fileno(self) -> int:
        raise io.UnsupportedOperation("this file is read by itself")


def to_file(image: np.ndarray) -> tuple[bytes, str]:
    """Returns an image [h, w, C] as the content of a file without loss, and how its name ends.

    It is PNG for RGB of 8 bits, and else numpy's `.npy`.
    """
    if image.shape[2] == 3 and image.dtype == np.uint8:
        return encode_png(image), ".png"
    stream = io.BytesIO()
    np.save(stream, image, allow_pickle=False)
    return stream.getvalue(), ".npy"


def _numpy_file(stream: BinaryIO, path: str | Path) -> ArrayFile:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        read = np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if len(shape) not in (2, 3) or 0 in shape:
        raise ValueError(
            f"{path} holds an array of shape {shape}; expected [height, width] or "
            "[height, width, channels]"
        )
    channels = shape[2] if len(shape) == 3 else 1
    kind = Kind(channels, channels if channels in (1, 3) else 0, _depth(dtype, path))

    def pixels() -> np.ndarray:
        stream.seek(0)
        array = np.load(stream, allow_pickle=False)
        return array.reshape(*shape[:2], channels).astype(dtype.newbyteorder("="), copy=False)

    return ArrayFile(shape[:2], kind, 1, partial(_guarded, pixels, path))


def _tiff_file(file: TiffFile, path: str | Path) -> ArrayFile | None:
    series = file.series[0]
    page, axes, shape = series.keyframe, series.axes, series.shape
    if series.dataoffset is None and None in list(series):
        raise ValueError(
            f"{path} says that a part of its image is in other files, which are not opened; save "
            "the whole image as one file, or each page as a file of its own"
        )
    depth = _depth(page.dtype, path)
    if len(series) == 1 and _is_for_pillow(page):
        return None
    others = [i for i, axis in enumerate(axes) if axis not in "YX" and shape[i] > 1]
    if axes.count("Y") != 1 or axes.count("X") != 1 or len(others) > 1:
        sizes = ", ".join(f"{axis}: {n}" for axis, n in zip(axes, shape, strict=True))
        raise ValueError(
            f"{path} has the axes {sizes}; expected Y (rows), X (columns) and one more, for the "
            "channels: save each plane or time as a file of its own"
        )
    if page.photometric == PHOTOMETRIC.PALETTE:
        raise ValueError(f"{path} has {len(series)} pages of palette colours; save them as RGB")
    height, width = shape[axes.index("Y")], shape[axes.index("X")]
    channels = shape[others[0]] if others else 1
    is_rgb = page.photometric == PHOTOMETRIC.RGB and channels in (3, 4)
    kind = Kind(channels, 3 if is_rgb else int(channels == 1), depth)
    orientation = page.tags.valueof("Orientation") or 1

    def pixels() -> np.ndarray:
        _check_segments(series, file.filehandle)
        array = series.asarray(maxworkers=1)  # images are the unit of parallel work
        order = [axes.index("Y"), axes.index("X"), *others]
        array = array.transpose(order + [i for i in range(len(axes)) if i not in order])
        array = array.reshape(height, width, channels)
        if array.dtype == bool:
            array = array * np.uint8(255)
        if page.photometric == PHOTOMETRIC.MINISWHITE:
            array = np.iinfo(array.dtype).max - array
        return array

    return ArrayFile((height, width), kind, int(orientation), partial(_guarded, pixels, path))


def _check_segments(series: TiffPageSeries, stream: FileHandle) -> None:
    """Raises ValueError where a strip or tile unpacks to more than its size in pixels.

    tifffile unpacks them whole, and a small file can hold a strip of many gigabytes.
    """
    unpacker = _UNPACKERS.get(series.keyframe.compression)
    if unpacker is None:
        return
    most = math.prod(series.keyframe.chunks) * series.keyframe.dtype.itemsize
    for page in series.pages:
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            stream.seek(offset)
            if len(unpacker().decompress(stream.read(count), max_length=most + 1)) > most:
                raise ValueError(f"a strip or tile unpacks to more than its {most} bytes")


def _is_for_pillow(page: TiffPage) -> bool:
    """Returns whether Pillow reads a page without loss: grey, or coloured of 8 bits."""
    if page.samplesperpixel == 1:
        return page.dtype.itemsize == 1 or page.photometric == PHOTOMETRIC.MINISBLACK
    is_coloured = page.photometric in _COLOURED and page.samplesperpixel <= 4
    return is_coloured and page.dtype.itemsize == 1


def _depth(dtype: np.dtype | None, path: str | Path) -> int:
    """Returns 8 or 16; raises ValueError for values of another type."""
    if dtype is not None and (dtype.kind == "b" or (dtype.kind == "u" and dtype.itemsize <= 2)):
        return 8 * dtype.itemsize
    raise ValueError(
        f"{path} has {8 * dtype.itemsize if dtype else '?'} bits a value ({dtype}), whose range is "
        "unknown; scale them to 0..65535 and save them as uint16, or to 0..255 as uint8"
    )


def _guarded(function: Callable[[], T], path: str | Path) -> T:
    """Returns what a function reads; what it trips over is a ValueError that names the file."""
    try:
        return function()
    except Exception as error:  # of a broken file anything can come
        if str(path) in str(error) or (isinstance(error, OSError) and error.errno is not None):
            raise
        if "imagecodecs" in str(error):
            raise ValueError(
                f"{path} is packed in a way that tifffile alone cannot unpack ({error}): pip "
                "install imagecodecs, or save it uncompressed or by deflate"
            ) from error
        raise ValueError(f"{path} is not a readable image, or is truncated: {error}") from error
