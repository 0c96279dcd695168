import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from maskrcnn_jax.data.formats import label_images
from maskrcnn_jax.data.masks.segmentation import to_mask
from maskrcnn_jax.data.read_options import ReadOptions

IDS = np.zeros((40, 60), np.uint16)
IDS[5:25, 10:30] = 1
IDS[5:25, 30:35] = 7  # touches the first
IDS[38:40, 50:60] = 300


@pytest.fixture
def write(tmp_path):
    """Returns a function that writes an image and its label image; gives the dataset's folder."""

    def write_pair(image="images/a.tif", mask="masks/a.tif", ids=IDS):
        for name, pixels in ((image, np.full((40, 60), 128, np.uint8)), (mask, ids)):
            if name:
                path = tmp_path / "cells" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                if path.suffix == ".npy":
                    np.save(path, pixels)
                else:
                    Image.fromarray(pixels).save(path)
        return tmp_path / "cells"

    return write_pair


def test_each_value_is_an_instance(write):
    dataset = label_images.read(write())
    assert dataset.class_names == ("object",)
    assert dataset.faults == []
    (record,) = dataset.records
    assert (record.image_id, record.height, record.width) == ("a", 40, 60)
    assert record.boxes.tolist() == [[10, 5, 30, 25], [30, 5, 35, 25], [50, 38, 60, 40]]
    assert record.areas.tolist() == [400, 100, 20]
    np.testing.assert_array_equal(to_mask(record.segmentations[1], 40, 60), IDS == 7)
    assert dataset.read_image(record).shape == (40, 60, 3)


@pytest.mark.parametrize(
    ("image", "mask", "image_id"),
    [
        ("images/a.tif", "masks/a.png", "a"),
        ("images/a.jpg", "labels/a_masks.tif", "a"),
        ("images/x/y/a.png", "masks/x/y/a_mask.png", "x/y/a"),
        ("train/images/a.tiff", "train/masks/a.tif", "train/a"),
        ("a.tif", "a_masks.tif", "a"),
        ("x/a.png", "x/a_cp_masks.png", "x/a"),
        ("images/scan.2.png", "masks/scan.2_label.png", "scan.2"),
        ("images/cell_mask.png", "masks/cell_mask_mask.png", "cell_mask"),
        ("images/a.png", "masks/a.npy", "a"),
        ("images/\u00e9.png", "masks/e\u0301.png", "\u00e9"),
    ],
)
def test_pairs_are_found(write, image, mask, image_id):
    dataset = label_images.read(write(image, mask))
    assert dataset.faults == []
    assert [record.image_id for record in dataset.records] == [image_id]
    assert len(dataset.records[0].classes) == 3


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_depths_of_label_images(write, dtype):
    dataset = label_images.read(write(ids=np.minimum(IDS, 200).astype(dtype)))
    assert dataset.faults == []
    assert len(dataset.records[0].classes) == 3


def test_palette_and_empty_label_images(write):
    folder = write()
    picture = Image.fromarray(np.minimum(IDS, 3).astype(np.uint8))
    picture.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0, 0, 0, 200])
    picture.save(folder / "masks" / "a.png")
    (folder / "masks" / "a.tif").unlink()
    write("images/b.tif", "masks/b.tif", np.zeros((40, 60), np.uint16))
    assert [len(record.classes) for record in label_images.read(folder).records] == [2, 0]


@pytest.mark.parametrize("by_image", [False, True])
def test_a_map_has_the_class_of_each_number(write, by_image):
    folder = write()
    of_numbers = {"1": "cell", "300": "debris"}
    content = {"a": of_numbers} if by_image else of_numbers
    (folder / "classes.json").write_text(json.dumps(content))
    dataset = label_images.read(folder, class_map="classes.json")
    assert dataset.class_names == ("cell", "debris")
    (record,) = dataset.records
    assert record.classes.tolist() == [1, 0, 2]
    assert record.crowd.tolist() == [False, True, False]  # number 7 has no class: ignored
    (fault,) = dataset.faults
    assert (fault.severity, fault.objects) == ("warning", 1)
    assert fault.where.endswith("a.tif: number 7")
    dataset = label_images.read(folder, class_map="classes.json", class_names=("debris", "cell"))
    assert dataset.records[0].classes.tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("image", "mask", "ids", "reason"),
    [
        ("images/b.tif", "", IDS, "it has no label image"),
        ("images/b.tif", "masks/b.tif", IDS.T, "the mask is 60 x 40"),
        ("images/b.tif", "masks/b.png", np.zeros((40, 60, 3), np.uint8), "has colours"),
    ],
)
def test_faulty_image_is_left_out_and_named(write, image, mask, ids, reason):
    write(image, mask, ids)
    folder = write()
    dataset = label_images.read(folder)
    assert [record.image_id for record in dataset.records] == ["a"]
    (fault,) = dataset.faults
    assert (fault.severity, fault.image_id) == ("error", "b")
    with pytest.raises(ValueError, match=reason):
        label_images.read(folder, options=ReadOptions(on_error="raise"))


def test_label_images_without_an_image_are_mentioned(write):
    write("", "masks/b.tif")
    (fault,) = label_images.read(write()).faults
    assert (fault.severity, fault.count) == ("warning", 1)
    assert "1 label images have no image: b" in fault.reason


@pytest.mark.parametrize("name", ["images/a.tif", "masks/a.tif"])
def test_folder_of_another_kind_is_refused(write, name):
    pair = (name, "") if name.startswith("images") else ("", name)
    with pytest.raises(ValueError, match=r"expected images/<id>\.tif and masks/<id>\.tif"):
        label_images.read(write(*pair))


@settings(
    derandomize=True,
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(values=st.lists(st.integers(1, 65535), min_size=1, max_size=20, unique=True))
def test_any_numbers_come_back_as_so_many_objects(write, values):
    ids = np.zeros((40, 60), np.uint16)
    ids[::2, ::2].flat[: len(values)] = values
    dataset = label_images.read(write(ids=ids))
    assert len(dataset.records[0].classes) == len(values)
    assert set(dataset.records[0].areas.tolist()) == {1.0}
