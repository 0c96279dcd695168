"""TIFF of many channels and numpy's arrays: every layout gives the same pixels."""

import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile

from maskrcnn_jax.data.augment.colour import map_colours
from maskrcnn_jax.images.pixels import PixelFormat
from maskrcnn_jax.images.read import image_size, read_image
from maskrcnn_jax.images.read_masks import read_ids
from maskrcnn_jax.images.sizes import resize_image

FIVE = np.random.default_rng(0).integers(0, 65536, (20, 30, 5)).astype(np.uint16)
WANTED = PixelFormat(5, 16)


def tiff(path, array=FIVE, **options):
    tifffile.imwrite(path, array, **{"photometric": "minisblack"} | options)
    return path


def npy(path, array=FIVE):
    np.save(path, array)
    return path


def npy_header(shape: str, dtype: str = "|u1") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


PLANES = FIVE.transpose(2, 0, 1)
LAYOUTS = {
    "together": (FIVE, {"planarconfig": "contig"}),
    "packed": (FIVE, {"planarconfig": "contig", "compression": "deflate", "predictor": True}),
    "tiles": (FIVE, {"planarconfig": "contig", "tile": (16, 16), "compression": "lzma"}),
    "rgb and two more": (FIVE, {"planarconfig": "contig", "photometric": "rgb"}),
    "plane by plane": (PLANES, {"planarconfig": "separate"}),
    "pages": (PLANES, {}),
    "ImageJ": (PLANES, {"imagej": True}),
    "OME": (PLANES, {"ome": True, "metadata": {"axes": "CYX"}}),
    "BigTIFF": (PLANES, {"bigtiff": True}),
    "big end first": (PLANES, {"byteorder": ">"}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_channels(tmp_path, layout):
    array, options = LAYOUTS[layout]
    path = tiff(tmp_path / "a.tif", array, **options)
    found = read_image(path, wanted=WANTED)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, FIVE)
    assert image_size(path, wanted=WANTED) == (20, 30)
    np.testing.assert_array_equal(read_image(path, wanted=PixelFormat(5)), FIVE >> 8)
    with pytest.raises(ValueError, match=r"a\.tif has 5 channels, config\.data\.channels is 3"):
        image_size(path, wanted=PixelFormat())


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 12])
def test_tiff_of_8_and_16_bits(tmp_path, channels):
    array = np.random.default_rng(1).integers(0, 65536, (6, 7, channels)).astype(np.uint16)
    for depth, pixels in ((16, array), (8, array.astype(np.uint8))):
        stored, options = (
            (pixels, {"planarconfig": "contig"}) if channels > 1 else (pixels[..., 0], {})
        )
        path = tiff(tmp_path / f"{depth}.tif", stored, **options)
        np.testing.assert_array_equal(read_image(path, wanted=PixelFormat(channels, depth)), pixels)


def test_rgb_tiff_of_16_bits_is_colour(tmp_path):
    path = tiff(tmp_path / "a.tif", FIVE[..., :3], photometric="rgb")
    np.testing.assert_array_equal(read_image(path, wanted=PixelFormat(3, 16)), FIVE[..., :3])
    np.testing.assert_array_equal(read_image(path), FIVE[..., :3] >> 8)
    weights = [0.299, 0.587, 0.114]
    grey = read_image(path, wanted=PixelFormat(1, 16))[..., 0]
    np.testing.assert_allclose(grey, FIVE[..., :3] @ weights, atol=1)
    path = tiff(tmp_path / "b.tif", FIVE[..., :4], photometric="rgb", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(read_image(path, wanted=PixelFormat(3, 16)), FIVE[..., :3])
    np.testing.assert_array_equal(read_image(path, wanted=PixelFormat(4, 16)), FIVE[..., :4])


def test_white_as_zero_is_turned_round(tmp_path):
    path = tiff(tmp_path / "a.tif", FIVE[..., 0], photometric="miniswhite")
    found = read_image(path, wanted=PixelFormat(1, 16))
    np.testing.assert_array_equal(found[..., 0], 65535 - FIVE[..., 0])


def test_pages_of_one_bit_are_black_and_white(tmp_path):
    planes = PLANES[:2] > 30_000
    found = read_image(tiff(tmp_path / "a.tif", planes), wanted=PixelFormat(2))
    np.testing.assert_array_equal(found, 255 * planes.transpose(1, 2, 0))
    assert found.dtype == np.uint8


def test_orientation_is_followed(tmp_path):
    tag = [(274, "H", 1, 6, True)]  # stored a quarter turn to the left
    path = tiff(tmp_path / "a.tif", FIVE, planarconfig="contig", extratags=tag)
    assert image_size(path) == (30, 20)
    np.testing.assert_array_equal(read_image(path, wanted=WANTED), np.rot90(FIVE, -1))
    np.testing.assert_array_equal(read_image(path, size=(20, 30), wanted=WANTED), FIVE)


@pytest.mark.parametrize("array", [FIVE, FIVE.astype(np.uint8), FIVE.astype(">u2"), FIVE[..., 0]])
def test_arrays_of_numpy(tmp_path, array):
    path = npy(tmp_path / "a.npy", array)
    channels = 5 if array.ndim == 3 else 1
    found = read_image(path, wanted=PixelFormat(channels, 8 * array.itemsize))
    np.testing.assert_array_equal(found, array.reshape(20, 30, channels))
    assert found.dtype.isnative
    assert image_size(path) == (20, 30)
    content = path.read_bytes()
    again = read_image("b.json", content=content, wanted=PixelFormat(channels, 8 * array.itemsize))
    np.testing.assert_array_equal(again, found)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (FIVE.astype(np.float32), r"32 bits per value \(float32\), whose range is unknown; scale"),
        (FIVE.astype(np.int16), r"16 bits per value \(int16\)"),
    ],
)
@pytest.mark.parametrize("write", [tiff, npy])
def test_other_values_are_refused(tmp_path, write, array, message):
    path = write(tmp_path / "a.file.tif" if write is tiff else tmp_path / "a.file.npy", array)
    for read in (read_image, image_size):
        with pytest.raises(ValueError, match=r"a\.file\.\w+ has " + message):
            read(path, wanted=WANTED)


def test_pages_of_two_kinds_and_arrays_of_other_shapes_are_refused(tmp_path):
    stack = np.zeros((4, 2, 8, 9), np.uint16)
    path = tiff(tmp_path / "a.tif", stack, imagej=True, metadata={"axes": "ZCYX"})
    with pytest.raises(ValueError, match=r"a\.tif has the axes Z: 4, C: 2, Y: 8, X: 9; expected"):
        read_image(path, wanted=WANTED)
    with pytest.raises(ValueError, match=r"b\.npy holds an array of shape \(4, 2, 8, 9\)"):
        read_image(npy(tmp_path / "b.npy", stack), wanted=WANTED)
    objects = np.array([[None]], object)
    with pytest.raises(ValueError, match=r"c\.npy has 64 bits per value \(object\)"):
        read_image(npy(tmp_path / "c.npy", objects), wanted=WANTED)


@pytest.mark.parametrize("kept", [5, 100, 300, 3000, 5990])
@pytest.mark.parametrize("form", ["npy", "plain", "packed"])
def test_truncated_files_are_named(tmp_path, form, kept):
    path = tmp_path / f"a.{form}"
    options = {"compression": "deflate"} if form == "packed" else {}
    npy(tmp_path / "b.npy").rename(path) if form == "npy" else tiff(path, PLANES, **options)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=rf"a\.{form} (is not a readable image|has \d channels)"):
        read_image(path, wanted=WANTED)


def test_any_change_of_a_byte_gives_an_image_or_a_named_fault(tmp_path):
    path = tiff(tmp_path / "a.tif", PLANES[:, :6, :7], compression="deflate")
    content, rng = path.read_bytes(), np.random.default_rng(0)
    faults = unnamed = 0
    for _ in range(150):
        changed = bytearray(content)
        changed[rng.integers(4, len(content))] ^= 1 << rng.integers(8)
        try:
            image = read_image("a.tif", 10_000, content=bytes(changed), wanted=WANTED)
            assert image.shape[2] == 5
        except ValueError as error:
            faults += "a.tif" in str(error)
            unnamed += "a.tif" not in str(error)
    assert unnamed == 0
    assert faults > 20


def test_too_many_pixels_are_refused_by_the_header(tmp_path):
    path = tiff(tmp_path / "a.tif", FIVE, planarconfig="contig")
    for read in (read_image, image_size):
        with pytest.raises(ValueError, match=r"a\.tif has 30 x 20 pixels, .* 599 .*unread"):
            read(path, 599, wanted=WANTED)
    with tifffile.TiffFile(path, mode="r+") as file:
        for name in ("ImageWidth", "ImageLength"):
            file.pages[0].tags[name].overwrite(200_000)
    with pytest.raises(ValueError, match=r"200000 x 200000 pixels.*refused unread"):
        read_image(path, wanted=WANTED)
    forged = npy_header("(100000, 100000, 5)")
    with pytest.raises(ValueError, match=r"b\.npy has 100000 x 100000 pixels.*refused unread"):
        read_image("b.npy", content=forged, wanted=PixelFormat(5))
    forged = npy_header("(10, 10, 1000000000000)")
    with pytest.raises(ValueError, match=r"b\.npy has 1000000000000 channels"):
        read_image("b.npy", content=forged, wanted=PixelFormat(5))


def test_a_strip_that_unpacks_to_more_than_its_pixels_is_refused(tmp_path):
    path = tiff(tmp_path / "a.tif", FIVE, planarconfig="contig", compression="deflate")
    with tifffile.TiffFile(path, mode="r+") as file:
        bomb, page = zlib.compress(bytes(20_000_000)), file.pages[0]
        end = file.filehandle.seek(0, 2)
        file.filehandle.write(bomb)
        for name, value in (("StripOffsets", end), ("StripByteCounts", len(bomb))):
            page.tags[name].overwrite([value] * len(page.dataoffsets))
    with pytest.raises(ValueError, match=r"a\.tif is not .* unpacks to more than its 6000 bytes"):
        read_image(path, wanted=WANTED)


def test_what_tifffile_cannot_unpack_is_told(tmp_path):
    path = tiff(tmp_path / "a.tif", FIVE, planarconfig="contig")
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags["Compression"].overwrite(34887)  # LERC
    with pytest.raises(ValueError, match=r"a\.tif (is packed .* imagecodecs|is not a readable)"):
        read_image(path, wanted=WANTED)


FILES = {  # by the number of channels: what writes them, and how they end
    "grey TIFF": (1, lambda path, pixels: tiff(path, pixels[..., 0], byteorder=">")),
    "RGB TIFF": (3, lambda path, pixels: tiff(path, pixels, photometric="rgb", byteorder=">")),
    "TIFF of many": (5, lambda path, pixels: tiff(path, pixels.transpose(2, 0, 1), byteorder=">")),
    "numpy": (5, lambda path, pixels: npy(path.with_suffix(".npy"), pixels.astype(">u2"))),
    "PNG": (1, lambda path, pixels: png(path.with_suffix(".png"), pixels[..., 0])),
}


def png(path, array):
    assert cv2.imwrite(str(path), array)
    return path


@pytest.mark.parametrize("form", FILES)
def test_pixels_are_of_this_machines_byte_order_whatever_the_files(tmp_path, form):
    channels, write = FILES[form]
    expected = np.ascontiguousarray(FIVE[..., :channels])
    found = read_image(write(tmp_path / "a.tif", expected), wanted=PixelFormat(channels, 16))
    assert found.dtype.isnative
    for change in (
        lambda image: resize_image(image, (33, 44)),
        lambda image: cv2.flip(image, 1),
        lambda image: map_colours(image, 1.2, 0.8, 1.0, 0.0),
    ):
        np.testing.assert_array_equal(change(found), change(expected))


def test_numbers_of_16_bits_and_their_high_bytes_of_big_end_first(tmp_path):
    path = tiff(tmp_path / "a.tif", FIVE[..., 0], byteorder=">")
    ids = read_ids(path)
    np.testing.assert_array_equal(ids, FIVE[..., 0])
    assert ids.dtype.isnative
    np.testing.assert_array_equal(read_image(path, wanted=PixelFormat(1)), FIVE[..., :1] >> 8)


def ome_xml(files: list[str]) -> str:
    """Returns the metadata of an image of two channels, each in one of the files."""
    data = "".join(
        f'<TiffData FirstC="{i}" IFD="0" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{i}</UUID>'
        "</TiffData>"
        for i, name in enumerate(files)
    )
    return (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="30" SizeY="20" '
        f'SizeC="2" SizeZ="1" SizeT="1">{data}</Pixels></Image></OME>'
    )


@pytest.mark.parametrize("name", ["../secret/b.tif", "b.tif", "missing.tif"])
def test_a_file_cannot_have_others_opened(tmp_path, monkeypatch, name):
    (tmp_path / "set").mkdir()
    (tmp_path / "secret").mkdir()
    for place in ("secret", "set"):
        tiff(tmp_path / place / "b.tif", FIVE[..., 1])
    xml = ome_xml(["a.tif", name])
    path = tiff(tmp_path / "set/a.tif", PLANES[0], description=xml, metadata=None)
    with tifffile.TiffFile(path) as file:
        assert file.series[0].shape == (2, 20, 30)  # else the file would prove nothing

    opened, init = [], tifffile.TiffFile.__init__

    def counting(self, *arguments, **options):
        opened.append(arguments)
        init(self, *arguments, **options)

    monkeypatch.setattr(tifffile.TiffFile, "__init__", counting)
    for read in (read_image, image_size):
        with pytest.raises(
            ValueError, match=r"a\.tif says .* in other files, which are not opened"
        ):
            read(path, wanted=PixelFormat(2, 16))
    assert len(opened) == 2  # the file itself, each time


def test_ome_with_its_own_name_in_it_is_read(tmp_path):
    xml = ome_xml(["a.tif"]).replace('SizeC="2"', 'SizeC="5"').replace('Count="1"', 'Count="5"')
    path = tiff(tmp_path / "a.tif", PLANES, description=xml, metadata=None)
    np.testing.assert_array_equal(read_image(path, wanted=WANTED), FIVE)
