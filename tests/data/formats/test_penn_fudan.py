import numpy as np
import pytest

from maskrcnn_jax.data.formats import penn_fudan
from maskrcnn_jax.data.masks.segmentation import to_mask
from maskrcnn_jax.data.read_options import ReadOptions

HALVES = [ReadOptions(split=split, val_fraction=0.5) for split in ("train", "val")]

IDS = np.zeros((40, 60), np.uint8)
IDS[5:25, 10:30] = 1
IDS[10:12, 28:33] = 4  # lies over the first


@pytest.fixture
def write(tmp_path, write_picture):
    def write_image(name, ids=IDS):
        write_picture(f"PennFudanPed/PNGImages/{name}.png")
        if ids is not None:
            write_picture(f"PennFudanPed/PedMasks/{name}_mask.png", ids)
        return tmp_path / "PennFudanPed"

    return write_image


def test_each_number_is_an_instance(write):
    write("b", np.zeros((40, 60), np.uint16))
    dataset = penn_fudan.read(write("a"))
    assert (dataset.name, dataset.class_names) == ("PennFudanPed", ("person",))
    assert dataset.faults == []
    record, empty = dataset.records
    assert (record.image_id, record.height, record.width) == ("a", 40, 60)
    np.testing.assert_array_equal(record.boxes, [[10, 5, 30, 25], [28, 10, 33, 12]])
    assert record.classes.tolist() == [1, 1]
    assert record.areas.tolist() == [400 - 4, 10]
    assert record.annotation_ids.tolist() == [1, 2]
    for segmentation, number in zip(record.segmentations, (1, 4), strict=True):
        np.testing.assert_array_equal(to_mask(segmentation, 40, 60), number == IDS)
    assert dataset.read_image(record).shape == (40, 60, 3)
    assert empty.boxes.shape == (0, 4)


def test_images_are_divided_by_name(write):
    for number in range(12):
        folder = write(f"{number}")
    parts = [penn_fudan.read(folder, "cell", half) for half in HALVES]
    ids = [record.image_id for part in parts for record in part.records]
    assert sorted(ids, key=int) == [str(number) for number in range(12)]
    assert [part.name for part in parts] == ["PennFudanPed-train", "PennFudanPed-val"]


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        (None, "No such file"),
        (IDS.T, "the mask is 60 x 40 .*its image is 40 x 60"),
        (np.zeros((40, 60, 3), np.uint8), "has colours"),
    ],
)
def test_image_whose_masks_cannot_be_used_is_left_out_and_named(write, ids, reason):
    write("a", ids)
    folder = write("b")
    dataset = penn_fudan.read(folder)
    assert [record.image_id for record in dataset.records] == ["b"]
    (fault,) = dataset.faults
    assert (fault.image_id, fault.severity) == ("a", "error")
    with pytest.raises(ValueError, match=rf"a_mask\.png: .*{reason}"):
        penn_fudan.read(folder, options=ReadOptions(on_error="raise"))


def test_folder_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"PNGImages is .*which does not exist"):
        penn_fudan.read(tmp_path)
    for part in ("PNGImages", "PedMasks"):
        (tmp_path / part).mkdir()
    with pytest.raises(ValueError, match="has no images"):
        penn_fudan.read(tmp_path)
