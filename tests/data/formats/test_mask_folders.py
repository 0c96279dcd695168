import numpy as np
import pytest
from PIL import Image

from maskrcnn_jax.data.formats import mask_folders
from maskrcnn_jax.data.masks.segmentation import to_mask
from maskrcnn_jax.data.read_options import ReadOptions


def block(top, bottom, left, right, size=(20, 30)) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    mask[top:bottom, left:right] = 255
    return mask


def test_boxes_are_tight_around_masks(write_mask_folder):
    masks = [block(2, 5, 3, 10), block(0, 20, 29, 30)]
    write_mask_folder("b", [])
    dataset = mask_folders.read(write_mask_folder("a", masks), class_name="cell")
    assert (dataset.class_names, dataset.category_ids) == (("cell",), (1,))
    assert dataset.faults == []
    record, empty = dataset.records
    assert (record.image_id, empty.image_id) == ("a", "b")
    assert (record.height, record.width) == (20, 30)
    np.testing.assert_array_equal(record.boxes, [[3, 2, 10, 5], [29, 0, 30, 20]])
    assert record.classes.tolist() == [1, 1]
    assert record.areas.tolist() == [21, 20]
    assert record.annotation_ids.tolist() == [1, 2]
    for segmentation, mask in zip(record.segmentations, masks, strict=True):
        np.testing.assert_array_equal(to_mask(segmentation, 20, 30), mask // 255)
    assert dataset.read_image(record).shape == (20, 30, 3)
    assert empty.boxes.shape == (0, 4)


def test_annotation_ids_go_on_over_images(write_mask_folder):
    for name in "abc":
        root = write_mask_folder(name, [block(2, 5, 3, 10)] * 2)
    records = mask_folders.read(root).records
    assert [r.annotation_ids.tolist() for r in records] == [[1, 2], [3, 4], [5, 6]]


def test_faulty_masks_and_images_are_named(write_mask_folder):
    root = write_mask_folder(
        "a", [block(0, 0, 0, 0), block(2, 5, 3, 10), block(1, 2, 1, 2, (9, 9))]
    )
    (root / "a" / "masks" / "3.png").write_bytes(b"")
    (root / "a" / "masks" / "notes.txt").write_text("not a mask")
    (root / "b").mkdir()
    dataset = mask_folders.read(root)
    assert [len(record.classes) for record in dataset.records] == [1]
    assert [fault.reason[:12] for fault in dataset.faults[:2]] == ["the mask is ", "the mask is "]
    found = "\n".join(map(str, dataset.faults))
    for part in ("0.png: the mask is empty", "2.png: the mask is 9 x 9", "3.png", "0 images"):
        assert part in found
    assert len(dataset.faults) == 4
    with pytest.raises(ValueError, match="4 faults"):
        mask_folders.read(root, options=ReadOptions(on_error="raise"))


def test_folder_of_another_kind_is_refused(tmp_path):
    (tmp_path / "train2017").mkdir()
    with pytest.raises(ValueError, match=r"no image in this format.*train2017"):
        mask_folders.read(tmp_path)
    with pytest.raises(ValueError, match="which does not exist"):
        mask_folders.read(tmp_path / "train")


@pytest.mark.parametrize("split", ["train", "val"])
def test_nuclei_are_all_read(nuclei_dir, split):
    dataset = mask_folders.read(nuclei_dir / split)
    assert dataset.faults == []
    files = {path.name: [*path.glob("masks/*.png")] for path in (nuclei_dir / split).iterdir()}
    assert {record.image_id: len(record.classes) for record in dataset.records} == {
        name: len(masks) for name, masks in files.items()
    }
    for record in dataset.records[:12]:
        files = nuclei_dir.glob(f"{split}/{record.image_id}/masks/*.png")
        expected = sorted(np.count_nonzero(Image.open(file)) for file in files)
        assert sorted(record.areas) == expected


def test_an_image_without_a_folder_of_masks_is_a_fault_not_background(write_mask_folder):
    write_mask_folder("a", [block(2, 5, 3, 10)])
    root = write_mask_folder("b", [])
    (root / "b" / "masks").rmdir()
    dataset = mask_folders.read(root)
    assert [record.image_id for record in dataset.records] == ["a"]
    assert "no folder masks/" in dataset.faults[0].reason


def test_a_label_map_is_not_one_mask(write_mask_folder):
    write_mask_folder("a", [block(2, 5, 3, 10)])
    root = write_mask_folder("b", [block(2, 6, 3, 10) // 255 + block(10, 16, 3, 10) // 255 * 2])
    dataset = mask_folders.read(root)
    assert [record.image_id for record in dataset.records] == ["a"]
    (fault,) = dataset.faults
    assert (fault.severity, fault.image_id) == ("error", "b")
    assert "give config.data.format=label_images" in fault.reason
