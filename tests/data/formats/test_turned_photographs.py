"""Mask files of photographs that EXIF turns: of the upright picture, or of the stored one."""

import numpy as np
import pytest
from PIL import Image

from maskrcnn_jax.data.formats import labelme_export, mask_folders, penn_fudan, voc
from maskrcnn_jax.data.masks.segmentation import to_mask

STORED = (48, 64)  # height, width
CAT = 8  # among VOC's classes


def photograph(path, orientation) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", STORED[::-1], (9, 99, 199)).save(path, exif=exif)


def mask_file(path, size, value) -> None:
    """Writes a mask of one object with the box (8, 8, 24, 28)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros(size, np.uint8)
    mask[8:28, 8:24] = value
    Image.fromarray(mask).save(path)


def as_mask_folders(folder, size, orientation):
    photograph(folder / "x" / "images" / "x.jpg", orientation)
    mask_file(folder / "x" / "masks" / "1.png", size, 255)
    return mask_folders.read(folder)


def as_penn_fudan(folder, size, orientation):
    photograph(folder / "PNGImages" / "x.jpg", orientation)
    mask_file(folder / "PedMasks" / "x_mask.png", size, 1)
    return penn_fudan.read(folder)


def as_voc(folder, size, orientation):
    photograph(folder / "JPEGImages" / "x.jpg", orientation)
    mask_file(folder / "SegmentationObject" / "x.png", size, 1)
    mask_file(folder / "SegmentationClass" / "x.png", size, CAT)
    return voc.read(folder)


def as_labelme_export(folder, size, orientation):
    photograph(folder / "x_json" / "img.png", orientation)
    mask_file(folder / "x_json" / "label.png", size, 1)
    (folder / "x_json" / "label_names.txt").write_text("_background_\ncat\n")
    return labelme_export.read(folder)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["upright", "stored"])
@pytest.mark.parametrize("read", [as_mask_folders, as_penn_fudan, as_voc, as_labelme_export])
def test_the_masks_size_says_which_picture_they_are_of(tmp_path, read, kind, orientation):
    size = STORED[::-1] if kind == "upright" and orientation >= 5 else STORED
    dataset = read(tmp_path, size, orientation)
    assert [fault for fault in dataset.faults if fault.severity == "error"] == []
    (record,) = dataset.records
    assert (record.height, record.width) == size
    np.testing.assert_array_equal(record.boxes, [[8, 8, 24, 28]])
    assert to_mask(record.segmentations[0], *size).sum() == 16 * 20
    assert dataset.read_image(record).shape == (*size, 3)
