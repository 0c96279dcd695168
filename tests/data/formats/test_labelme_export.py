import numpy as np
import pytest

from maskrcnn_jax.data.formats import labelme_export
from maskrcnn_jax.data.masks.segmentation import to_mask
from maskrcnn_jax.data.read_options import ReadOptions

HALVES = [ReadOptions(split=split, val_fraction=0.5) for split in ("train", "val")]

IDS = np.zeros((40, 60), np.uint8)
IDS[5:25, 10:30] = 1
IDS[30:40, 50:60] = 2
NAMES = "label_names:\n- _background_\n- tank1\n- tank2\n"


@pytest.fixture
def write(tmp_path, write_picture):
    """Returns a function that writes one folder of an export."""

    def write_folder(name="a", ids=IDS, yaml=NAMES, text=None):
        folder = f"train_data/labelme_json/{name}_json"
        write_picture(f"{folder}/img.png")
        if ids is not None:
            write_picture(f"{folder}/label.png", ids)
        for file, content in (("info.yaml", yaml), ("label_names.txt", text)):
            if content is not None:
                (tmp_path / folder / file).write_text(content)
        return tmp_path / "train_data"

    return write_folder


def test_each_number_is_an_instance_and_its_label_the_class_without_digits(write):
    write("b", IDS.astype(np.uint16), yaml=None, text="_background_\ndog\ntank_07\n")
    dataset = labelme_export.read(write())
    assert (dataset.name, dataset.class_names) == ("train_data", ("dog", "tank"))
    assert dataset.faults == []
    record, other = dataset.records
    assert record.image_id == "labelme_json/a_json"
    np.testing.assert_array_equal(record.boxes, [[10, 5, 30, 25], [50, 30, 60, 40]])
    assert (record.classes.tolist(), other.classes.tolist()) == ([2, 2], [1, 2])
    assert record.areas.tolist() == [400, 100]
    np.testing.assert_array_equal(to_mask(record.segmentations[1], 40, 60), IDS == 2)
    assert dataset.read_image(record).shape == (40, 60, 3)


def test_labels_that_are_class_names_keep_their_digits(write):
    folder = write(yaml="label_names: [_background_, grade1, grade2]")
    dataset = labelme_export.read(folder, class_names=("grade2", "grade1"))
    assert dataset.records[0].classes.tolist() == [2, 1]
    folder = write(yaml="label_names: [background, '1', 2]")
    assert labelme_export.read(folder).class_names == ("1", "2")


def test_ignored_labels_and_numbers_of_labels(write):
    folder = write(yaml="label_names:\n  tank: 1\n  __ignore__: 2\n  _background_: 0\n")
    dataset = labelme_export.read(folder)
    assert (dataset.class_names, dataset.faults) == (("tank",), [])
    np.testing.assert_array_equal(dataset.records[0].boxes, [[10, 5, 30, 25]])


def test_images_are_divided_and_classes_are_those_of_all(write):
    for number, letter in enumerate("abcdefgh"):
        folder = write(f"{number}", yaml=f"label_names: [_background_, {letter}1, {letter}2]")
    parts = [labelme_export.read(folder, options=half) for half in HALVES]
    assert parts[0].class_names == parts[1].class_names == tuple("abcdefgh")
    assert sum(len(part.records) for part in parts) == 8


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (dict(yaml="label_names: ["), "is not a YAML file"),
        (dict(yaml="names: [a]"), "has label_names None"),
        (dict(yaml="label_names: tank"), "has label_names 'tank'"),
        (dict(yaml="label_names: {tank: 7}"), r"has label_names \[None\]"),
        (dict(yaml=None), "No such file"),
        (dict(ids=IDS.T), "the mask is 60 x 40"),
        (dict(ids=np.zeros((40, 60, 3), np.uint8)), "has colours"),
    ],
)
def test_faulty_folder_is_left_out_and_named(write, changes, reason):
    write("b", **changes)
    folder = write()
    dataset = labelme_export.read(folder)
    assert [record.image_id for record in dataset.records] == ["labelme_json/a_json"]
    (fault,) = dataset.faults
    assert fault.image_id == "labelme_json/b_json"
    with pytest.raises(ValueError, match=reason):
        labelme_export.read(folder, options=ReadOptions(on_error="raise"))


def test_number_of_no_class_is_ignored_and_named(write):
    folder = write(ids=np.where(IDS == 1, 9, IDS), yaml=NAMES)
    dataset = labelme_export.read(folder)
    assert sorted(dataset.records[0].crowd.tolist()) == [False, True]
    (fault,) = dataset.faults
    assert (fault.severity, fault.objects) == ("warning", 1)
    assert "label_names has 3 entries" in fault.reason
    assert fault.where.endswith("label.png: number 9")
    dataset = labelme_export.read(folder, class_names=("dog",))
    assert "its class 'tank' is not in class_names (dog)" in dataset.faults[0].reason


def test_folder_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has no image in this format"):
        labelme_export.read(tmp_path)


def test_folder_without_a_usable_image_is_refused(write):
    with pytest.raises(ValueError, match=r"has no usable image; .*a_json: .*has label_names None"):
        labelme_export.read(write(yaml="names: [a]"))


def test_images_may_have_any_suffix(write, write_picture):
    folder = write(ids=None)
    base = folder / "labelme_json" / "a_json"
    (base / "img.png").unlink()
    write_picture("train_data/labelme_json/a_json/img.jpg")
    write_picture("train_data/labelme_json/a_json/label.tif", IDS)
    (record,) = labelme_export.read(folder).records
    assert record.path.endswith("img.jpg")
    assert len(record.classes) == 2
