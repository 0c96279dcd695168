"""Image files that Pillow cannot read as they are: numpy's arrays, and TIFF of many channels.

A TIFF file gives the first series of its pages of one size and kind. Its channels are the samples
of each pixel, stored together or plane by plane, or else its pages, one channel each.
"""

import io
import lzma
import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from tifffile import COMPRESSION, PHOTOMETRIC, FileHandle, TiffFile, TiffPage, TiffPageSeries

from maskrcnn_jax.faults import FaultError, FaultKind
from maskrcnn_jax.images.channels import Kind

_MOST_HEADER = 2**16  # bytes, of numpy's files
_COLOURED = (PHOTOMETRIC.RGB, PHOTOMETRIC.SEPARATED, PHOTOMETRIC.YCBCR, PHOTOMETRIC.CIELAB)


class ArrayFile(NamedTuple):
    """What the header of a file says.

    Attributes:
        size: height and width as stored.
        kind: its channels and depth.
        orientation: 1, or how the stored picture is to be turned upright, 2 to 8 as EXIF has it.
        read: gives the pixels, [height, width, C] uint8 or uint16.
    """

    size: tuple[int, int]
    kind: Kind
    orientation: int
    read: Callable[[], np.ndarray]


def numpy_file(stream: BinaryIO, path: str | Path) -> ArrayFile:
    """Reads the header of a `.npy` file.

    Args:
        stream: of the file.
        path: of the file, for messages.

    Raises:
        ValueError: it holds no image.
    """
    # numpy reads a header as long as it says it is, up to 4 GiB, before it looks at its length.
    header = io.BytesIO(stream.read(_MOST_HEADER))
    version = np.lib.format.read_magic(header)
    read = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        read = np.lib.format.read_array_header_2_0
    shape, _, dtype = read(header)
    if len(shape) not in (2, 3) or 0 in shape:
        raise ValueError(
            f"{path} holds an array of shape {shape}; expected [height, width] or "
            "[height, width, channels]"
        )
    channels = shape[2] if len(shape) == 3 else 1
    kind = Kind(channels, channels if channels in (1, 3) else 0, _depth(dtype, path))

    def pixels() -> np.ndarray:
        given = stream.seek(0, io.SEEK_END) - header.tell()
        if given != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{given} bytes follow the header of an array {shape} of {dtype}")
        stream.seek(0)
        array = np.load(stream, allow_pickle=False)
        return array.reshape(*shape[:2], channels).astype(dtype.newbyteorder("="), copy=False)

    return ArrayFile((shape[0], shape[1]), kind, 1, pixels)


@contextmanager
def tiff_file(stream: BinaryIO, path: str | Path) -> Iterator[ArrayFile | None]:
    """Reads the header of a TIFF file.

    Args:
        stream: of the file, which has no file number: tifffile follows what the metadata of OME,
            Micro-Manager and NDTiff name beside a file that has one.
        path: of the file, for messages.

    Yields:
        What the header says; None where Pillow reads the file without loss.

    Raises:
        ValueError: the file has values of another kind, or is not what its first bytes say.
    """
    with TiffFile(stream, name=Path(path).name) as file:
        yield _first_series(file, path)
    stream.seek(0)


def _first_series(file: TiffFile, path: str | Path) -> ArrayFile | None:
    series = file.series[0]
    page, axes, shape = series.keyframe, series.axes, series.shape
    if series.dataoffset is None and None in list(series):
        raise ValueError(
            f"{path} says that a part of its image is in other files, which are not opened; save "
            "the whole image as one file, or each page as a file of its own"
        )
    if len(series) == 1 and _is_for_pillow(page):
        return None
    depth = _depth(page.dtype, path)
    others = [i for i, axis in enumerate(axes) if axis not in "YX" and shape[i] > 1]
    if axes.count("Y") != 1 or axes.count("X") != 1 or len(others) > 1:
        sizes = ", ".join(f"{axis}: {n}" for axis, n in zip(axes, shape, strict=True))
        raise FaultError(
            FaultKind.CHANNELS,
            f"{path} has the axes {sizes}; expected Y (rows), X (columns) and one more, for the "
            "channels: save each plane or time as a file of its own",
        )
    if page.photometric == PHOTOMETRIC.PALETTE:
        raise ValueError(f"{path} has {len(series)} pages of palette colours; save them as RGB")
    height, width = shape[axes.index("Y")], shape[axes.index("X")]
    channels = shape[others[0]] if others else 1
    is_rgb = page.photometric == PHOTOMETRIC.RGB and channels in (3, 4)
    kind = Kind(channels, 3 if is_rgb else int(channels == 1), depth)
    orientation = page.tags.valueof("Orientation")
    orientation = orientation if orientation in range(1, 9) else 1

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

    return ArrayFile((height, width), kind, orientation, pixels)


def _check_segments(series: TiffPageSeries, stream: FileHandle) -> None:
    """Raises ValueError where a strip or tile unpacks to more than its size in pixels.

    tifffile unpacks them whole, and a small file can hold a strip of many gigabytes.
    """
    unpacked_size = _UNPACKED_SIZES.get(series.keyframe.compression)
    if unpacked_size is None:
        return
    most = math.prod(series.keyframe.chunks) * np.dtype(series.keyframe.dtype).itemsize
    for page in series.pages:
        if page is None:
            continue
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
            stream.seek(offset)
            if unpacked_size(stream.read(count), most) > most:
                raise ValueError(f"a strip or tile unpacks to more than its {most} bytes")


def _deflated_size(content: bytes, most: int) -> int:
    return len(zlib.decompressobj().decompress(content, max_length=most + 1))


def _lzma_size(content: bytes, most: int) -> int:
    return len(lzma.LZMADecompressor().decompress(content, max_length=most + 1))


def _packbits_size(content: bytes, most: int) -> int:
    """Returns the size of what PackBits packed: counts, each with its bytes or a repeated one.

    Source: TIFF 6.0, section 9.
    """
    size = at = 0
    while at < len(content) and size <= most:
        count = content[at]
        if count < 128:
            size, at = size + count + 1, at + count + 2
        else:
            size, at = size + (257 - count if count > 128 else 0), at + (2 if count > 128 else 1)
    return size


_UNPACKED_SIZES: dict[int, Callable[[bytes, int], int]] = {
    COMPRESSION.ADOBE_DEFLATE: _deflated_size,
    COMPRESSION.DEFLATE: _deflated_size,
    COMPRESSION.LZMA: _lzma_size,
    COMPRESSION.PACKBITS: _packbits_size,
}


def _is_for_pillow(page: TiffPage) -> bool:
    """Returns whether Pillow reads a page without loss: grey, or coloured of 8 bits."""
    if page.dtype is None or page.dtype.itemsize > 4 or page.dtype == np.float16:
        return False
    if page.samplesperpixel == 1:
        return page.dtype.itemsize == 1 or page.photometric == PHOTOMETRIC.MINISBLACK
    is_coloured = page.photometric in _COLOURED and page.samplesperpixel <= 4
    return is_coloured and page.dtype.itemsize == 1


def _depth(dtype: np.dtype | None, path: str | Path) -> int:
    """Returns 8 or 16; raises ValueError for values of another type."""
    if dtype is not None and (dtype.kind == "b" or (dtype.kind == "u" and dtype.itemsize <= 2)):
        return 8 * dtype.itemsize
    raise FaultError(
        FaultKind.CHANNELS,
        f"{path} has {8 * dtype.itemsize if dtype else '?'} bits per value ({dtype}), whose range "
        "is "
        "unknown; scale them to 0..65535 and save them as uint16, or to 0..255 as uint8",
    )
