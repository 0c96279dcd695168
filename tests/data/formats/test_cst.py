import numpy as np
import pytest

from maskrcnn_jax.data.formats import cst
from maskrcnn_jax.data.masks.segmentation import to_mask
from maskrcnn_jax.data.read_options import ReadOptions

BLOCK = np.zeros((40, 60), np.uint8)
BLOCK[8:24, 16:32] = 255  # on the grid of JPEG's blocks, so that it stays exact
HEADER = "image_id,object_id,class,bbox,mask_path"
ROW = "a,a-0,s,13 2 35 27,a/masks/a-0.jpg"


@pytest.fixture
def write(tmp_path, write_picture):
    """Writes two images, the first with a mask, and the given lines of the CSV file."""

    def write_split(*lines):
        for name in "ab":
            write_picture(f"cst/train/{name}/{name}.jpg")
        write_picture("cst/train/a/masks/a-0.jpg", np.stack([BLOCK] * 3, -1))
        table = tmp_path / "cst" / "annotation" / "anno-train.csv"
        table.parent.mkdir(exist_ok=True)
        table.write_text("\n".join(lines) + "\n")
        return tmp_path / "cst"

    return write_split


def test_boxes_are_those_of_masks_not_of_the_table(write):
    dataset = cst.read(write(HEADER, ROW))
    assert (dataset.name, dataset.class_names) == ("cst-train", ("circle", "square", "triangle"))
    assert dataset.faults == []
    record, empty = dataset.records
    assert (record.image_id, empty.image_id) == ("a", "b")
    np.testing.assert_array_equal(record.boxes, [[16, 8, 32, 24]])
    assert record.classes.tolist() == [2]
    np.testing.assert_array_equal(to_mask(record.segmentations[0], 40, 60), BLOCK // 255)
    assert empty.boxes.shape == (0, 4)


def test_a_row_of_an_unknown_class_is_ignored(write):
    dataset = cst.read(write(HEADER, "a,a-1,x,1 2 3 4,a/masks/a-0.jpg", ROW))
    record = next(record for record in dataset.records if record.image_id == "a")
    assert (record.classes.tolist(), record.crowd.tolist()) == ([0, 2], [True, False])
    (fault,) = dataset.faults
    assert (fault.severity, fault.objects) == ("warning", 1)
    assert "its class 'x' is not in class_names (c, s, t); it is ignored" in fault.reason


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a,a-1,c,1 2 3 4,a/masks/a-7.jpg", "No such file"),
        ("a,a-1,c,1 2 3 4,../../a-0.jpg", "leads out of"),
        ("a,a-1,c,1 2 3 4,/a-0.jpg", "leads out of"),
        ("a,a-1,c", "leads out of|not a readable image|directory"),
        ("a,a-1,c,1 2 3 4,a/a.jpg", "the mask is"),
    ],
)
def test_faulty_row_is_left_out_and_named(write, write_picture, row, reason):
    folder = write(HEADER, row, ROW)
    write_picture("cst/train/a/a.jpg", np.zeros((40, 60), np.uint8))
    dataset = cst.read(folder)
    assert [len(record.classes) for record in dataset.records] == [1, 0]
    (fault,) = dataset.faults
    assert fault.where.endswith("anno-train.csv: object a-1")
    with pytest.raises(ValueError, match=reason):
        cst.read(folder, options=ReadOptions(on_error="raise"))


def test_image_that_is_not_there_is_named(write):
    folder = write(HEADER, ROW, "c,c-0,c,1 2 3 4,c/masks/c-0.jpg")
    (folder / "train" / "b" / "b.jpg").unlink()
    dataset = cst.read(folder)
    assert [record.image_id for record in dataset.records] == ["a"]
    assert [fault.image_id for fault in dataset.faults] == ["c", "b"]


def test_other_tables_and_splits_are_refused(write):
    with pytest.raises(ValueError, match=r"missing: \['object_id', 'mask_path'\]"):
        cst.read(write("image_id,class", "a,c"))
    with pytest.raises(ValueError, match=r"anno-val\.csv', which does not exist"):
        cst.read(write(HEADER, ROW), "val")


def test_every_image_of_cst_has_ten_objects(cst_dir):
    dataset = cst.read(cst_dir, "train")
    assert dataset.faults == []
    count = len(list((cst_dir / "train").iterdir()))
    assert [len(record.classes) for record in dataset.records] == [10] * count
    assert {(record.height, record.width) for record in dataset.records} == {(512, 512)}
    ids = np.concatenate([record.annotation_ids for record in dataset.records])
    assert ids.tolist() == [*range(1, 10 * count + 1)]
    shares = {name: [] for name in dataset.class_names}  # of the box that the mask fills
    for record in dataset.records:
        sides = record.boxes[:, 2:] - record.boxes[:, :2]
        for number, share in zip(record.classes, record.areas / sides.prod(1), strict=True):
            shares[dataset.class_names[number - 1]].append(share)
    expected = {"circle": np.pi / 4, "square": 1.0, "triangle": 0.5}
    assert {name: np.median(share) for name, share in shares.items()} == pytest.approx(
        expected, abs=0.05
    )
