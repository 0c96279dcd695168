"""Image files that are odd, damaged or made to harm: one clear error, or the picture."""

import os
import struct
import subprocess
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maskrcnn_jax.images.arrays import _packbits_size
from maskrcnn_jax.images.metadata import without_metadata
from maskrcnn_jax.images.pixels import PixelFormat
from maskrcnn_jax.images.read import image_size, read_image
from maskrcnn_jax.images.read_masks import read_ids, read_mask

READERS = (read_image, read_mask, read_ids, image_size)
SETTINGS = settings(max_examples=60, derandomize=True, deadline=None, database=None)


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(picture: np.ndarray, *parts: bytes, behind: bool = False) -> bytes:
    """Returns a PNG with these chunks before its pixels, or behind them."""
    height, width = picture.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in picture)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels, odd = chunk(b"IDAT", zlib.compress(rows)), b"".join(parts)
    middle = pixels + odd if behind else odd + pixels
    return b"\x89PNG\r\n\x1a\n" + header + middle + chunk(b"IEND", b"")


LARGE = zlib.compress(bytes(3_000_000))
ODD_PARTS = {
    "large text": chunk(b"zTXt", b"Comment\0\0" + LARGE),
    "large international text": chunk(b"iTXt", b"Comment\0\1\0\0\0" + LARGE),
    "large profile": chunk(b"iCCP", b"name\0\0" + LARGE),
    "unknown compression": chunk(b"iCCP", b"name\0\7" + LARGE),
    "broken EXIF": chunk(b"eXIf", b"MM\0*\0\0"),
    "EXIF of noise": chunk(b"eXIf", bytes(range(200))),
    "short gamma": chunk(b"gAMA", b"\0"),
    "short colours": chunk(b"cHRM", b"\0"),
    "wrong checksum": chunk(b"tEXt", b"a\0b")[:-4] + b"\0\0\0\0",
}


@pytest.mark.parametrize("behind", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize("name", ODD_PARTS)
def test_what_stands_beside_the_pixels_of_a_png_costs_nothing(tmp_path, picture, name, behind):
    path = tmp_path / "a.png"
    path.write_bytes(png_with(picture, ODD_PARTS[name], behind=behind))
    np.testing.assert_array_equal(read_image(path), picture)
    assert image_size(path) == (20, 30)
    assert read_mask(path).shape == (20, 30)


def test_the_orientation_outlives_a_large_text(tmp_path, picture):
    exif = chunk(b"eXIf", b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0))
    (tmp_path / "a.png").write_bytes(png_with(picture, ODD_PARTS["large text"], exif))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(picture, -1))


@SETTINGS
@given(
    marker=st.integers(0xE0, 0xEF).filter(lambda m: m not in (0xE0, 0xEE)) | st.just(0xFE),
    start=st.sampled_from(
        [b"", b"Exif\0\0", b"MPF\0", b"Photoshop 3.0\0", b"ICC_PROFILE\0", b"JFIF", b"Adobe"]
    ),
    data=st.binary(max_size=200),
)
def test_what_stands_beside_the_pixels_of_a_jpeg_costs_nothing(
    tmp_path_factory, marker, start, data
):
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    folder = tmp_path_factory.mktemp("jpeg")
    Image.fromarray(np.tile(ramp, (32, 1))).save(folder / "sound.jpg")
    content = (folder / "sound.jpg").read_bytes()
    segment = bytes([0xFF, marker]) + struct.pack(">H", len(start + data) + 2) + start + data
    (folder / "a.jpg").write_bytes(content[:2] + segment + content[2:])
    found, sound = read_image(folder / "a.jpg"), read_image(folder / "sound.jpg")
    if found.shape == sound.shape and marker != 0xE1:  # EXIF may, by chance, turn it
        np.testing.assert_array_equal(found, sound)
    assert sorted(found.shape) == sorted(sound.shape)


def test_without_metadata_keeps_the_picture(tmp_path, picture):
    for name in ("a.png", "a.jpg"):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(picture).save(tmp_path / name, exif=exif, comment="x")
        bare = without_metadata((tmp_path / name).read_bytes())
        np.testing.assert_array_equal(read_image("bare", content=bare), read_image(tmp_path / name))
    assert without_metadata(b"GIF89a") is None


STARTS_PROGRAMS = {
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 30\nshowpage\n%%EOF\n",
    "WMF": b"\xd7\xcd\xc6\x9a\x00\x00" + bytes(100),
    "FITS": b"SIMPLE  =                    T" + bytes(3000),
    "XPM": b'/* XPM */\nstatic char *a[] = {"1 1 1 1", "a c #000000", "a"};',
}


@pytest.mark.parametrize("name", STARTS_PROGRAMS)
def test_only_listed_formats_are_opened_and_no_program_is_started(tmp_path, monkeypatch, name):
    def start(*_, **__):
        raise AssertionError("a program was started")

    for function in ("Popen", "check_call", "run"):
        monkeypatch.setattr(subprocess, function, start)
    monkeypatch.setattr(os, "system", start)
    for path in (tmp_path / "photo.jpg", tmp_path / "photo.eps"):
        path.write_bytes(STARTS_PROGRAMS[name])
        for reader in READERS:
            with pytest.raises(ValueError, match=r"photo\..* is not a readable image"):
                reader(path)


@pytest.mark.parametrize("kind", ["FIFO", "device", "link to a FIFO", "folder"])
def test_only_regular_files_are_opened(tmp_path, kind):
    path = tmp_path / "a.png"
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to(tmp_path / "pipe")
    for reader in READERS:
        with pytest.raises((ValueError, IsADirectoryError), match=r"a\.png"):
            reader(path)


def test_links_to_pictures_are_followed(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "b.png"), picture)


def assert_reads_or_names(reader, path) -> None:
    """Calls a reader; what it raises, if anything, is an error that names the file."""
    error = None
    try:
        reader(path)
    except (ValueError, OSError) as raised:
        error = raised
    assert error is None or path.name in str(error)


@pytest.mark.parametrize("name", ["a.avif", "a.webp", "a.tif", "a.gif", "a.bmp"])
def test_damage_is_one_clear_error(tmp_path, picture, name):
    path = tmp_path / name
    Image.fromarray(picture).save(path)
    content = path.read_bytes()
    for end in range(0, len(content), max(1, len(content) // 40)):
        path.write_bytes(content[:end] + bytes(30))
        for reader in READERS:
            assert_reads_or_names(reader, path)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_max_pixels_is_the_only_limit(tmp_path, name):
    side = 14_000  # 196 million pixels; Pillow's own limit is 179 million
    path = tmp_path / name
    options = {"compression": "tiff_deflate"} if name == "a.tif" else {}
    pixels = Image.new("1", (side, side))
    pixels.save(path, **options)
    assert image_size(path, max_pixels=400_000_000) == (side, side)
    assert read_mask(path, max_pixels=400_000_000).shape == (side, side)
    with pytest.raises(ValueError, match=r"data\.max_pixels"):
        image_size(path)


def test_a_header_of_numpy_is_bounded(tmp_path):
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b" " * 100_000)
    with pytest.raises(ValueError, match=r"a\.npy is not a readable image"):
        read_image(path)
    np.save(path, np.zeros((4, 5), np.uint8))
    content = path.read_bytes()
    for changed in (content[:-1], content + b"\0"):
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=r"a\.npy is not a readable image.*bytes follow"):
            read_image(path)


def test_packbits_that_unpack_to_more_than_the_picture_are_refused(tmp_path):
    # 3 bytes literally; 5 times one byte; nothing; 1 byte.
    assert _packbits_size(b"\x02abc" + bytes([252]) + b"x" + b"\x80" + b"\x00y", 100) == 9
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((8, 8, 5), np.uint8), photometric="rgb")
    with tifffile.TiffFile(path, mode="r+b") as file:
        page = file.pages[0]
        page.tags["Compression"].overwrite(32773)
        offset, count = page.dataoffsets[0], page.databytecounts[0]
    content = bytearray(path.read_bytes())
    content[offset : offset + count] = bytes([129, 7]) * (count // 2)  # each: 128 sevens
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.tif .*unpacks to more than its"):
        read_image(path, wanted=PixelFormat(5, 8))
