import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from maskrcnn_jax.images.pixels import PixelFormat
from maskrcnn_jax.images.read import image_size, read_image
from maskrcnn_jax.images.read_masks import read_ids, read_mask


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def test_rgb_rgba_and_palette(tmp_path, picture):
    path = save(tmp_path / "a.png", picture)
    np.testing.assert_array_equal(read_image(path), picture)
    assert image_size(path) == (20, 30)
    clear = np.dstack([picture, np.zeros((20, 30), np.uint8)])
    np.testing.assert_array_equal(read_image(save(tmp_path / "b.png", clear)), picture)
    palette = Image.fromarray(picture).quantize(256)
    palette.save(tmp_path / "c.png", transparency=bytes(range(256)))
    np.testing.assert_array_equal(read_image(tmp_path / "c.png"), palette.convert("RGB"))


def test_grey_of_8_and_16_bits(tmp_path, picture):
    grey = picture[..., 0]
    expected = np.repeat(grey[..., None], 3, 2)
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", grey)), expected)
    deep = grey.astype(np.uint16) * 256 + 77
    np.testing.assert_array_equal(read_image(save(tmp_path / "b.png", deep)), expected)
    with pytest.raises(ValueError, match=r"c\.tif has 32 bits"):
        read_image(save(tmp_path / "c.tif", grey.astype(np.float32)))


@pytest.mark.parametrize("name", ["a.tif", "a.jpg"])
def test_inks_become_light(tmp_path, name):
    inks = np.repeat(
        np.uint8([[[0, 255, 255, 0], [0, 0, 0, 255], [0, 0, 0, 0], [255, 0, 0, 0]]]), 16, axis=1
    )
    path = tmp_path / name
    Image.fromarray(np.repeat(inks, 16, axis=0), "CMYK").save(path)
    colours = read_image(path)[8, 8::16]
    np.testing.assert_allclose(
        colours, [[255, 0, 0], [0, 0, 0], [255, 255, 255], [0, 255, 255]], atol=3
    )


@pytest.mark.parametrize("options", [{"subsampling": "4:2:0"}, {"progressive": True}], ids=str)
def test_jpeg_is_near_what_was_saved(tmp_path, options):
    ramp = np.linspace(0, 255, 64).round().astype(np.uint8)
    picture = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None], np.uint8(90)), axis=-1)
    path = save(tmp_path / "a.jpg", picture, quality=98, **options)
    assert np.abs(read_image(path).astype(int) - picture).max() <= 8


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_followed_unless_annotations_are_of_the_stored_size(
    tmp_path, picture, orientation
):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.png", picture, exif=exif)
    turned = {
        1: picture,
        2: picture[:, ::-1],
        3: picture[::-1, ::-1],
        4: picture[::-1],
        5: picture.transpose(1, 0, 2),
        6: np.rot90(picture, -1),
        7: picture[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(picture),
    }[orientation]
    np.testing.assert_array_equal(read_image(path), turned)
    np.testing.assert_array_equal(read_image(path, size=turned.shape[:2]), turned)
    assert image_size(path) == turned.shape[:2]
    if orientation >= 5:
        np.testing.assert_array_equal(read_image(path, size=(20, 30)), picture)
        assert image_size(path, size=(20, 30)) == (20, 30)


def test_size_that_is_neither_is_refused(tmp_path, picture):
    path = save(tmp_path / "a.png", picture)
    with pytest.raises(ValueError, match=r"a\.png is 20 x 30 .* for 30 x 20"):
        read_image(path, size=(30, 20))


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_truncated_file_is_named(tmp_path, picture, name):
    path = save(tmp_path / name, np.tile(picture, (10, 10, 1)))
    path.write_bytes(path.read_bytes()[:2000])
    assert image_size(path) == (200, 300)
    for read in (read_image, read_mask):
        with pytest.raises(ValueError, match=f"{name} is not a readable image, or is truncated"):
            read(path)


def test_other_content_is_named(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"<html>not found</html>")
    (tmp_path / "b.jpg").write_bytes(b"")
    for name in ("a.jpg", "b.jpg"):
        for read in (read_image, read_mask, image_size):
            with pytest.raises(ValueError, match=f"{name} is not a readable image"):
                read(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"c\.jpg"):
        read_image(tmp_path / "c.jpg")


@pytest.mark.parametrize("side", [12_000, 60_000])  # beyond our limit, and beyond Pillow's as well
def test_too_many_pixels_are_refused_by_the_header(tmp_path, side):
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    path = tmp_path / "bomb.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )
    )
    for read in (read_image, read_mask, image_size):
        with pytest.raises(ValueError, match=r"bomb\.png .*refused unread"):
            read(path)


def test_pixel_limit_is_an_argument(tmp_path, picture):
    path = save(tmp_path / "a.png", picture)
    assert read_image(path, max_pixels=600).shape == (20, 30, 3)
    with pytest.raises(ValueError, match=r"30 x 20 pixels, more than the 599"):
        read_image(path, max_pixels=599)


def test_masks_of_any_kind(tmp_path, picture):
    mask = picture[..., 0] > 128
    grey = mask.astype(np.uint8) * 255
    opaque = np.full((20, 30), 255, np.uint8)
    kinds = {
        "grey": grey,
        "ones": mask.astype(np.uint8),
        "bits": mask,
        "deep": mask.astype(np.uint16) * 65535,
        "rgb": np.dstack([grey, grey * 0, grey * 0]),
        "rgba": np.dstack([grey, grey, grey, opaque]),
        "soft": np.where(mask, 200, 90).astype(np.uint8),
    }
    for name, values in kinds.items():
        found = read_mask(save(tmp_path / f"{name}.png", values))
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, mask, err_msg=name)
    assert read_mask(save(tmp_path / "empty.png", grey * 0)).sum() == 0


def test_jpeg_mask_is_cut_in_the_middle(tmp_path):
    mask = np.zeros((64, 64), np.uint8)
    mask[16:48, 8:40] = 255
    np.testing.assert_array_equal(
        read_mask(save(tmp_path / "a.jpg", mask, quality=60)), mask // 255
    )
    dim = np.full((64, 64), 9, np.uint8)  # what compression makes of black
    assert read_mask(save(tmp_path / "b.jpg", dim)).sum() == 0


def test_numbers_of_any_kind(tmp_path):
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    palette = Image.fromarray(ids)
    palette.putpalette(np.random.default_rng(0).integers(0, 256, 768, np.uint8).tobytes())
    palette.save(tmp_path / "palette.png")
    np.testing.assert_array_equal(read_ids(tmp_path / "palette.png"), ids)
    for values in (ids, ids.astype(np.uint16) * 5000, ids > 5):
        np.testing.assert_array_equal(read_ids(save(tmp_path / "ids.png", values)), values)
    with pytest.raises(ValueError, match=r"rgb\.png has colours \(mode RGB\)"):
        read_ids(save(tmp_path / "rgb.png", np.dstack([ids] * 3)))
    with pytest.raises(ValueError, match=r"ids\.png has 4 x 3 pixels, more than the 11"):
        read_ids(tmp_path / "ids.png", max_pixels=11)
    (tmp_path / "none.png").write_bytes(b"none")
    with pytest.raises(ValueError, match=r"none\.png is not a readable image"):
        read_ids(tmp_path / "none.png")


def test_image_may_be_part_of_another_file(tmp_path, picture):
    content = save(tmp_path / "a.png", picture).read_bytes()
    np.testing.assert_array_equal(read_image("x.json", content=content), picture)
    assert image_size("x.json", content=content) == (20, 30)
    assert read_mask("x.json", content=content).shape == (20, 30)
    for read in (read_image, read_mask):
        with pytest.raises(ValueError, match=r"x\.json is not a readable image"):
            read("x.json", content=content[:100])


def png_of_16_bits(path, pixels):
    """Writes [h, w] or [h, w, 3 or 4] uint16; Pillow writes grey alone."""
    codes = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
    turned = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, codes[pixels.shape[2]])
    assert cv2.imwrite(str(path), turned)
    return path


def test_png_of_16_bits_is_read_without_loss(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 65536, (20, 30, 4)).astype(np.uint16)
    colours = png_of_16_bits(tmp_path / "a.png", pixels[..., :3])
    clear = png_of_16_bits(tmp_path / "b.png", pixels)
    grey = png_of_16_bits(tmp_path / "c.png", pixels[..., 0])
    for path, channels, expected in (
        (colours, 3, pixels[..., :3]),
        (clear, 4, pixels),
        (clear, 3, pixels[..., :3]),
        (grey, 1, pixels[..., :1]),
        (grey, 3, pixels[..., [0, 0, 0]]),
    ):
        found = read_image(path, wanted=PixelFormat(channels, 16))
        assert found.dtype == np.uint16
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(read_image(colours), pixels[..., :3] >> 8)
    with pytest.raises(ValueError, match=r"a\.png has 3 channels, config\.data\.channels is 2"):
        image_size(colours, wanted=PixelFormat(2, 16))
    colours.write_bytes(colours.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"a\.png is not a readable image, or is truncated"):
        read_image(colours, wanted=PixelFormat(3, 16))


def test_grey_is_wanted(tmp_path, picture):
    expected = np.asarray(Image.fromarray(picture).convert("L"))
    clear = np.dstack([picture, picture[..., 0]])
    for name, pixels in (("a.png", picture), ("b.png", clear), ("c.png", expected)):
        found = read_image(save(tmp_path / name, pixels), wanted=PixelFormat(1))
        np.testing.assert_array_equal(found, expected[..., None])
    equal = np.repeat(expected[..., None], 3, 2)  # grey saved as RGB
    found = read_image(save(tmp_path / "d.png", equal), wanted=PixelFormat(1))
    np.testing.assert_array_equal(found, expected[..., None])
    palette = Image.fromarray(picture).quantize(256)
    palette.save(tmp_path / "e.png")
    found = read_image(tmp_path / "e.png", wanted=PixelFormat(1))
    np.testing.assert_array_equal(found[..., 0], palette.convert("RGB").convert("L"))


def test_as_many_channels_as_the_file_has(tmp_path, picture):
    four = np.dstack([picture, picture[..., 0]])
    found = read_image(save(tmp_path / "a.png", four), wanted=PixelFormat(4))
    np.testing.assert_array_equal(found, four)
    with pytest.raises(ValueError, match=r"b\.png has 3 channels, config\.data\.channels is 4"):
        read_image(save(tmp_path / "b.png", picture), wanted=PixelFormat(4))
    with pytest.raises(ValueError, match=r"b\.png has 8 bits per value, config\.data\.depth is 16"):
        read_image(tmp_path / "b.png", wanted=PixelFormat(3, 16))
