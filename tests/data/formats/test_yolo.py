import re

import numpy as np
import pytest

from maskrcnn_jax.data import check
from maskrcnn_jax.data.formats import yolo
from maskrcnn_jax.data.read_options import ReadOptions

HALVES = [ReadOptions(split=split, val_fraction=0.5) for split in ("train", "val")]

SQUARE = "0.25 0.25 0.75 0.25 0.75 0.5 0.25 0.5"  # of 40 x 60: x 15 to 45, y 10 to 20
YAML = "path: ../datasets/pets\ntrain: images/train\nval: images/val\nnames:\n  0: cat\n  1: dog\n"


@pytest.fixture
def write(tmp_path, write_picture):
    """Returns a function that writes an image and its labels, and one that writes any text."""

    def write_image(name, *lines, labels=None):
        write_picture(f"pets/{name}")
        if lines:
            path = labels or name.replace("images", "labels").rsplit(".", 1)[0] + ".txt"
            write_text(path, "\n".join(lines))
        return tmp_path / "pets"

    def write_text(name, text):
        path = tmp_path / "pets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    write_image.text = write_text
    return write_image


def test_polygons_are_in_shares_of_the_image(write):
    write.text("data.yaml", YAML)
    write("images/train/a.jpg", f"1 {SQUARE}", "", "0.0 0 0 1 0 1.0000001 1")
    write("images/train/sub/b.png", " ")
    folder = write("images/val/c.jpg", f"0 {SQUARE}")
    dataset = yolo.read(folder, options=ReadOptions(split="train"))
    assert (dataset.name, dataset.class_names) == ("pets-train", ("cat", "dog"))
    assert dataset.faults == []
    record, empty = dataset.records
    assert (record.image_id, empty.image_id) == ("images/train/a.jpg", "images/train/sub/b.png")
    np.testing.assert_array_equal(record.boxes, [[15, 10, 45, 20], [0, 0, 60, 40]])
    assert record.classes.tolist() == [2, 1]
    assert record.areas[0] == 300
    assert check.check(dataset) == []
    assert empty.boxes.shape == (0, 4)
    (record,) = yolo.read(folder, options=ReadOptions(split="val")).records
    assert record.image_id == "images/val/c.jpg"


@pytest.mark.parametrize(
    "yaml",
    [
        "train: ../train/images\nnames: [cat, dog]",  # as Roboflow exports it
        "train: ./train/images/\nnames: [cat, dog]",
        "train: [train/images]\nnames: {1: dog, 0: cat}",
        "train: train.txt\nnames: ['cat', \"dog\"]",
    ],
)
def test_folders_and_names_in_the_forms_they_have(write, yaml):
    write.text("data.yaml", yaml)
    write.text("train.txt", "./train/images/a.jpg\n")
    folder = write("train/images/a.jpg", f"1 {SQUARE}")
    dataset = yolo.read(folder, options=ReadOptions(split="train"))
    assert dataset.class_names == ("cat", "dog")
    assert [record.image_id for record in dataset.records] == ["train/images/a.jpg"]
    assert dataset.records[0].classes.tolist() == [2]


def test_images_without_a_division_are_divided(write):
    for number in range(8):
        folder = write(f"images/{number}.jpg", f"0 {SQUARE}")
    write.text("classes.txt", "cat\ndog\n")
    for options in (dict(names="classes.txt"), dict(class_names=("cat", "dog"))):
        assert len(yolo.read(folder, **options).records) == 8
        parts = [yolo.read(folder, **options, options=half) for half in HALVES]
        assert [part.class_names for part in parts] == [("cat", "dog")] * 2
        assert sum(len(part.records) for part in parts) == 8


def test_labels_may_lie_beside_images(write):
    write.text("data.yaml", YAML)
    folder = write("photos/a.jpg", f"1 {SQUARE}", labels="photos/a.txt")
    (record,) = yolo.read(folder, images="photos").records
    assert record.classes.tolist() == [2]


def test_image_without_labels_has_no_objects_and_a_warning(write):
    write.text("data.yaml", YAML)
    write("images/train/a.jpg", f"1 {SQUARE}")
    dataset = yolo.read(write("images/train/b.jpg"), options=ReadOptions(split="train"))
    assert [len(record.classes) for record in dataset.records] == [1, 0]
    (fault,) = dataset.faults
    assert fault.severity == "warning"
    assert "b.jpg" in fault.where


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("2 0.1 0.1 0.9 0.1 0.9 0.9", "its class is 2; expected 0 to 1"),
        ("-1 0.1 0.1 0.9 0.1 0.9 0.9", "its class is -1"),
        ("0.5 0.1 0.1 0.9 0.1 0.9 0.9", "its class is 0.5"),
        ("nan 0.1 0.1 0.9 0.1 0.9 0.9", "its class is nan"),
        ("cat 0.1 0.1 0.9 0.1 0.9 0.9", "expected numbers alone"),
        ("0 0.5 0.5 0.2 0.2", "it has a box; expected"),
        ("0", "its polygon has 0 corners"),
        ("0 0.1 0.1", "its polygon has 1 corners"),
        ("0 0.1 0.1 0.9 0.1 0.9 0.9 0.1", "it has 7 numbers after its class"),
        ("0 0.1 0.1 0.9 0.1 0.9 nan", "its coordinates go from nan"),
        ("0 15 10 45 10 45 20", "its coordinates go from 10 to 45; expected fractions"),
        ("0 0.1 0.1 0.9 0.1 0.9 -0.2", "its coordinates go from -0.2 to 0.9"),
        ("0 0.1 0.1 0.1 0.1 0.1 0.1", "covers no pixel"),
    ],
)
def test_faulty_line_is_left_out_or_ignored_and_named(write, line, reason):
    write.text("data.yaml", YAML)
    folder = write("images/train/a.jpg", f"1 {SQUARE}", "", line, f"0 {SQUARE}")
    dataset = yolo.read(folder, options=ReadOptions(split="train"))
    (record,) = dataset.records
    assert record.classes[~record.crowd].tolist() == [2, 1]
    (fault,) = dataset.faults
    assert fault.where == f"{folder}/labels/train/a.txt: line 3"
    assert re.search(reason, fault.reason)
    is_ignored = "its class is" in fault.reason or "it has a box" in fault.reason
    assert record.crowd.sum() == (fault.severity == "warning") == is_ignored
    assert fault.objects == 1


def test_boxes_may_be_taken_as_masks(write):
    write.text("data.yaml", YAML)
    folder = write("images/train/a.jpg", "0 0.5 0.5 0.2 0.4")
    options = ReadOptions(split="train", boxes_as_masks=True)
    dataset = yolo.read(folder, options=options)
    (record,) = dataset.records
    assert dataset.faults == []
    assert not record.crowd.any()
    wide, high = record.width, record.height
    box = [0.4 * wide, 0.3 * high, 0.6 * wide, 0.7 * high]
    np.testing.assert_allclose(record.boxes, [box], atol=1e-3)


def test_unreadable_images_and_labels_are_named(write):
    write.text("data.yaml", "train: train.txt\nnames: [cat, dog]")
    write.text("train.txt", "images/a.jpg\nimages/b.jpg\n../c.jpg\n/etc/passwd\nimages/d.jpg\n")
    write("images/a.jpg", f"1 {SQUARE}")
    folder = write("images/d.jpg")
    (folder / "labels" / "d.txt").write_bytes(b"\xff\xfe0")
    dataset = yolo.read(folder, options=ReadOptions(split="train"))
    assert [record.image_id for record in dataset.records] == ["images/a.jpg"]
    found = [fault.reason for fault in dataset.faults]
    parts = ("'../c.jpg' leads out", "'/etc/passwd' leads out", "No such file", "not text in UTF-8")
    assert len(found) == 4
    assert all(part in reason for part, reason in zip(parts, found, strict=True))


@pytest.mark.parametrize(
    ("yaml", "reason"),
    [
        ("names: [", r"data\.yaml is not a YAML file"),
        ("cat", r"data\.yaml holds 'cat'"),
        ("train: images/train", "has no usable `names`"),
        ("names: {1: cat, 2: dog}", "has no usable `names`"),
        ("names: [cat, cat]", "each once"),
        ("names: [cat]\ntrain: /data/images", "leads out of"),
        ("names: [cat]\ntrain: a/../../../images", "leads out of"),
        ("names: [cat]\ntrain: images/test", "the folder of images is .*which does not exist"),
        ("names: [cat]\ntrain: images/empty", "there are no images in images/empty"),
        ("names: [cat]\ntrain: images/train", "has no labels: those of images/train/a.jpg"),
    ],
)
def test_dataset_that_cannot_be_read_is_explained(write, yaml, reason):
    write.text("data.yaml", yaml)
    write.text("images/empty/readme.md", "none")
    folder = write("images/train/a.jpg")
    with pytest.raises(ValueError, match=reason):
        yolo.read(folder, options=ReadOptions(split="train"))
