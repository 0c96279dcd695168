"""Pictures are upright whatever file they are in: each format, each orientation, each depth."""

import struct

import numpy as np
import pytest
import tifffile
from PIL import Image, features

from maskrcnn_jax.images.opening import opened
from maskrcnn_jax.images.pixels import RGB8, PixelFormat
from maskrcnn_jax.images.read import MAX_PIXELS, image_size, read_image
from maskrcnn_jax.images.read_masks import read_ids, read_mask

# Where pixel (row, column) of the upright picture of height h and width w is stored: EXIF 2.32,
# tag 0x0112 ("the 0th row is the visual top", and so on).
STORED = {
    1: lambda r, c, h, w: (r, c),
    2: lambda r, c, h, w: (r, w - 1 - c),
    3: lambda r, c, h, w: (h - 1 - r, w - 1 - c),
    4: lambda r, c, h, w: (h - 1 - r, c),
    5: lambda r, c, h, w: (c, r),
    6: lambda r, c, h, w: (w - 1 - c, r),
    7: lambda r, c, h, w: (w - 1 - c, h - 1 - r),
    8: lambda r, c, h, w: (c, h - 1 - r),
}
LOSSY = {"jpg": 12, "avif": 12}  # grey levels that a corner may be off


def upright(dtype: type, channels: int) -> np.ndarray:
    """Returns a picture [24, 40, channels] of four different quarters: each turn shows."""
    levels = np.array([[0, 90], [170, 255]])
    picture = np.kron(levels, np.ones((12, 20)))[..., None] + np.zeros(channels)
    return (picture * (np.iinfo(dtype).max // 255)).astype(dtype)


def stored(picture: np.ndarray, orientation: int) -> np.ndarray:
    """Returns the picture as a camera that was held so stores it."""
    height, width = picture.shape[:2]
    shape = (width, height) if orientation >= 5 else (height, width)
    result = np.zeros((*shape, *picture.shape[2:]), picture.dtype)
    for row in range(height):
        for column in range(width):
            result[STORED[orientation](row, column, height, width)] = picture[row, column]
    return result


def write(path, pixels: np.ndarray, orientation: int, writer: str) -> None:
    """Writes pixels [h, w, C] with the tag, by one of the writers."""
    pixels = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    if writer == "tifffile":
        tag = (0x0112, "H", 1, orientation, True)
        photometric = "rgb" if pixels.ndim == 3 else "minisblack"
        tifffile.imwrite(path, pixels, extratags=[tag], photometric=photometric)
        return
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if path.suffix == ".webp" else {"quality": 100}
    if writer == "lzw":
        options = {"compression": "tiff_lzw"}
    Image.fromarray(pixels).save(path, exif=exif, **options)


WRITERS = [
    *((name, "pillow", np.uint8, c) for name in ("jpg", "png", "tif") for c in (1, 3)),
    ("webp", "pillow", np.uint8, 3),
    *(("tif", writer, np.uint8, c) for writer in ("lzw", "tifffile") for c in (1, 3)),
    *(("tif", writer, np.uint16, 1) for writer in ("pillow", "lzw", "tifffile")),
    ("tif", "tifffile", np.uint16, 3),
    ("png", "pillow", np.uint16, 1),
    *([("avif", "pillow", np.uint8, 3)] if features.check("avif") else []),
]


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(("suffix", "writer", "dtype", "channels"), WRITERS)
def test_size_and_pixels_are_upright(tmp_path, suffix, writer, dtype, channels, orientation):
    picture = upright(dtype, channels)
    path = tmp_path / f"a.{suffix}"
    camera = stored(picture, orientation)
    write(path, camera, orientation, writer)
    wanted = PixelFormat(channels, 8 * np.dtype(dtype).itemsize)
    tolerance = LOSSY.get(suffix, 0)
    inner = np.s_[2::4, 2::4]  # beside the borders of the quarters, where JPEG rings
    for given in (None, (24, 40)):
        assert image_size(path, size=given) == (24, 40)
        found = read_image(path, size=given, wanted=wanted)
        assert found.dtype == dtype
        difference = np.abs(found.astype(int) - picture)
        assert difference[inner].max() <= tolerance
    assert image_size(path, wanted=RGB8) == read_image(path).shape[:2] == (24, 40)
    if orientation >= 5:  # annotations of the stored picture
        assert image_size(path, size=(40, 24)) == (40, 24)
        found = read_image(path, size=(40, 24), wanted=wanted)
        assert np.abs(found.astype(int) - camera)[inner].max() <= tolerance
    assert np.array_equal(read_mask(path)[inner], picture[inner][..., 0] > np.iinfo(dtype).max / 2)
    if channels == 1:
        assert np.abs(read_ids(path).astype(int) - picture[..., 0])[inner].max() <= tolerance


def test_deep_png_of_colours_is_upright(tmp_path):
    picture = upright(np.uint16, 3)
    content = _deep_png(stored(picture, 6), 6)
    (tmp_path / "a.png").write_bytes(content)
    found = read_image(tmp_path / "a.png", wanted=PixelFormat(3, 16))
    np.testing.assert_array_equal(found, picture)


def test_heif_is_upright(tmp_path):
    reason = "not installed: pip install pillow-heif"
    pillow_heif = pytest.importorskip("pillow_heif", reason=reason)
    for orientation in STORED:
        picture = upright(np.uint8, 3)
        image = Image.fromarray(stored(picture, orientation))
        exif = Image.Exif()
        exif[0x0112] = orientation
        pillow_heif.register_heif_opener()
        image.save(tmp_path / "a.heic", exif=exif, quality=-1)
        assert image_size(tmp_path / "a.heic") == (24, 40)
        found = read_image(tmp_path / "a.heic").astype(int)
        assert np.abs(found - picture)[2::4, 2::4].max() <= 12


def test_a_tag_that_is_none_of_the_eight_turns_nothing(tmp_path):
    picture = upright(np.uint8, 3)
    for orientation in (0, 9, 65535):
        for writer in ("pillow", "tifffile"):
            write(tmp_path / "a.tif", picture, orientation, writer)
            np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), picture)
            with opened(tmp_path / "a.tif", MAX_PIXELS) as source:
                assert source.orientation == 1


def _deep_png(pixels: np.ndarray, orientation: int) -> bytes:
    """Returns [h, w, 3] uint16 as PNG, which Pillow does not write."""
    import zlib

    height, width = pixels.shape[:2]
    exif = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)),
        (b"eXIf", exif),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
