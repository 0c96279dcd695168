import re

import numpy as np
import pytest
from PIL import Image

from maskrcnn_jax.data.formats import voc
from maskrcnn_jax.data.masks.segmentation import RLE, Polygons, to_mask
from maskrcnn_jax.data.read_options import ReadOptions

HALVES = [ReadOptions(split=split, val_fraction=0.5) for split in ("train", "val")]

OBJECTS = np.zeros((40, 60), np.uint8)
OBJECTS[5:25, 10:30] = 1
OBJECTS[5:25, 9] = OBJECTS[4, 9:31] = 255
OBJECTS[30:40, 50:60] = 2
CLASSES = np.choose(np.minimum(OBJECTS, 3), [0, 8, 15, 255]).astype(np.uint8)  # cat, person


def xml(*objects, size=(40, 60)):
    """Returns an XML file with objects (name, xmin, ymin, xmax, ymax, difficult)."""
    parts = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>"
        f"<xmax>{x2}</xmax><xmin>{x1}</xmin><ymax>{y2}</ymax><ymin>{y1}</ymin></bndbox>"
        "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part></object>"
        for name, x1, y1, x2, y2, difficult in objects
    )
    height, width = size
    sides = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation><filename>x.jpg</filename>{sides}{parts}</annotation>"


@pytest.fixture
def write(tmp_path, write_picture):
    root = tmp_path / "VOC2012"

    def write_image(name="a", objects=OBJECTS, classes=CLASSES, xml=None, image=True):
        if image:
            write_picture(f"VOC2012/JPEGImages/{name}.jpg")
        for part, ids in (("SegmentationObject", objects), ("SegmentationClass", classes)):
            (root / part).mkdir(parents=True, exist_ok=True)
            if ids is not None:
                picture = Image.fromarray(ids)
                if ids.ndim == 2:
                    picture.putpalette(np.arange(768, dtype=np.uint8).tobytes())
                picture.save(root / part / f"{name}.png")
        if xml is not None:
            (root / "Annotations").mkdir(exist_ok=True)
            (root / "Annotations" / f"{name}.xml").write_text(xml)
        return root

    return write_image


def test_masks_have_the_class_of_their_pixels_and_no_void(write):
    dataset = voc.read(write())
    assert dataset.class_names == voc.CLASS_NAMES
    assert len(dataset.class_names) == 20
    assert dataset.faults == []
    (record,) = dataset.records
    assert (record.image_id, record.height, record.width) == ("a", 40, 60)
    np.testing.assert_array_equal(record.boxes, [[10, 5, 30, 25], [50, 30, 60, 40]])
    assert [dataset.class_names[k - 1] for k in record.classes] == ["cat", "person"]
    assert record.crowd.tolist() == [False, False]
    assert record.areas.tolist() == [400, 100]
    np.testing.assert_array_equal(to_mask(record.segmentations[0], 40, 60), OBJECTS == 1)
    assert dataset.read_image(record).shape == (40, 60, 3)


def test_image_sets_and_divisions(write, tmp_path):
    for name in ("2007_1", "2007_2", "2008_3"):
        root = write(name)
    sets = root / "ImageSets" / "Segmentation"
    sets.mkdir(parents=True)
    (sets / "train.txt").write_text("2008_3\n2007_1 \n\n")
    dataset = voc.read(root, "train")
    assert dataset.name == "VOC2012-train"
    assert [record.image_id for record in dataset.records] == ["2008_3", "2007_1"]
    assert len(voc.read(root).records) == 3
    parts = [voc.read(root, options=half) for half in HALVES]
    assert sum(len(part.records) for part in parts) == 3
    with pytest.raises(ValueError, match=r"image_set is .*test\.txt', which does not exist"):
        voc.read(root, "test")
    (sets / "val.txt").write_text("../2008_3\n2009_9\n2007_2\n")
    dataset = voc.read(root, "val")
    assert [record.image_id for record in dataset.records] == ["2007_2"]
    assert [fault.image_id for fault in dataset.faults] == ["../2008_3", "2009_9"]


def test_names_may_be_those_of_a_file_or_given(write):
    root = write(classes=np.where(CLASSES == 8, 1, np.where(CLASSES == 15, 2, 0)).astype(np.uint8))
    names = root / "class_names.txt"
    names.write_text("__ignore__\n_background_\ncow\ntv/monitor\n")
    assert voc.read(root).class_names == ("cow", "tv/monitor")
    assert voc.read(root, class_names=("a", "b", "c")).class_names == ("a", "b", "c")
    names.write_text("cow\ntv/monitor\n")
    with pytest.raises(ValueError, match=r"begins with \['cow'\]; expected _background_"):
        voc.read(root)


def test_difficult_objects_and_those_without_a_mask_become_crowd_regions(write):
    root = write(
        xml=xml(
            ("person", 51, 31, 60, 40, 1),  # of the second mask
            ("cat", 11, 6, 30, 25, 0),  # of the first
            ("dog", 1, 1, 8, 4, 0),
            ("car", 41, 1, 60, 10, 1),
        )
    )
    dataset = voc.read(root)
    (record,) = dataset.records
    assert [dataset.class_names[k - 1] for k in record.classes] == ["cat", "person", "dog", "car"]
    assert record.crowd.tolist() == [False, True, True, True]
    np.testing.assert_array_equal(record.boxes[2:], [[0, 0, 8, 4], [40, 0, 60, 10]])
    assert [type(s) for s in record.segmentations] == [RLE, RLE, Polygons, Polygons]
    (fault,) = dataset.faults
    assert fault.severity == "warning"
    assert "the dog has a box but no mask" in fault.reason
    boxes = voc.read(root, options=ReadOptions(boxes_as_masks=True))
    assert boxes.faults == []
    assert boxes.records[0].crowd.tolist() == [False, True, False, True]


def test_mask_goes_to_one_object_of_its_class_alone(write):
    root = write(
        xml=xml(
            ("person", 11, 6, 30, 25, 1),  # where the cat is
            ("cat", 11, 6, 30, 25, 0),
            ("cat", 11, 6, 30, 24, 1),  # a second one in the same place
        )
    )
    (record,) = voc.read(root).records
    assert record.crowd.tolist() == [False, False, True, True]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (dict(image=False), r"there is no JPEGImages/b\.jpg"),
        (dict(classes=None), "No such file"),
        (dict(objects=OBJECTS.T), "the mask is 60 x 40"),
        (dict(classes=CLASSES.T), "the mask is 60 x 40"),
        (dict(objects=np.zeros((40, 60, 3), np.uint8)), "has colours"),
        (dict(xml="<annotation>"), "is not an XML file"),
        (dict(xml="<!DOCTYPE a><annotation/>"), "has a document type"),
        (dict(xml="<html/>"), "has <html> outermost"),
        (dict(xml=xml(size=(60, 40))), "an image of 60 x 40"),
    ],
)
def test_faulty_image_is_left_out_and_named(write, changes, reason):
    write("a")
    root = write("b", **changes)
    # Without an image set, the images are those that have a mask.
    dataset = voc.read(root)
    assert [record.image_id for record in dataset.records] == ["a"]
    (fault,) = dataset.faults
    assert fault.image_id == "b"
    with pytest.raises(ValueError, match=rf"image b: .*{reason}"):
        voc.read(root, options=ReadOptions(on_error="raise"))


@pytest.mark.parametrize(
    ("changes", "reason", "count"),
    [
        (dict(classes=np.where(OBJECTS == 1, 40, CLASSES)), r"class indices \{40: 400\}", 2),
        (dict(classes=np.where(OBJECTS == 1, 255, CLASSES)), r"class indices \{255: 400\}", 2),
        (dict(classes=np.where(OBJECTS == 1, 0, CLASSES)), r"class indices \{0: 400\}", 2),
        (dict(xml=xml(("cow boy", 1, 1, 9, 9, 0))), "its class 'cow boy' is not in class_names", 3),
        (dict(xml=xml(("cow", 9, 9, 3, 3, 0))), r"bndbox from \(9, 9\) to \(3, 3\) has no area", 2),
        (dict(xml=xml(("cow", 90, 90, 93, 93, 0))), "covers no pixel", 2),
        (dict(xml=xml(("cat", 1, "nan", 3, 4, 0))), "has no bndbox of four numbers", 2),
        (dict(xml=xml(("cat", 1, "", 3, 4, 0))), "has no bndbox of four numbers", 2),
    ],
)
def test_faulty_object_is_left_out_or_ignored_and_named(write, changes, reason, count):
    classes = changes.get("classes", CLASSES).astype(np.uint8)
    dataset = voc.read(write(**{**changes, "classes": classes}))
    (record,) = dataset.records
    (fault,) = dataset.faults
    assert "object 1" in fault.where
    assert re.search(reason, fault.reason)
    assert len(record.classes) == count
    assert record.crowd.sum() == fault.objects == ("ignored as a crowd region" in fault.reason)


def test_an_object_of_unknown_name_leaves_its_mask_alone(write):
    dataset = voc.read(write(xml=xml(("kitten", 11, 6, 30, 25, 0))))
    assert dataset.records[0].crowd.tolist() == [False, False]


@pytest.mark.parametrize("size", [(0, 0), ("", ""), ("x", 60), ("40.0", "60")])
def test_a_size_that_is_not_known_costs_nothing(write, size):
    dataset = voc.read(write(xml=xml(("cat", 11, 6, 30, 25, 0), size=size)))
    assert dataset.faults == []
    assert len(dataset.records[0].classes) == 2


@pytest.mark.parametrize("count", [254, 255, 300])
def test_all_objects_of_a_deep_image_are_read(write, count):
    ids = np.zeros((40, 60), np.uint16)
    ids[:, :30].flat[: 2 * count : 2] = np.arange(1, count + 1)
    classes = np.where(ids > 0, 8, 0).astype(np.uint8)
    root = write(objects=None, classes=classes)
    Image.fromarray(ids).save(root / "SegmentationObject" / "a.png")
    dataset = voc.read(root)
    assert dataset.faults == []
    assert len(dataset.records[0].classes) == count


def test_void_of_a_deep_image_is_no_object(write):
    ids = np.where(OBJECTS == 255, 65535, OBJECTS).astype(np.uint16)
    for void in (255, 65535):
        root = write(objects=None)
        picture = np.where(ids == 65535, void, ids).astype(np.uint16)
        Image.fromarray(picture).save(root / "SegmentationObject" / "a.png")
        assert len(voc.read(root).records[0].classes) == 2


def test_files_of_any_suffix(write, write_picture):
    root = write(image=False)
    write_picture("VOC2012/JPEGImages/a.tif")
    for part in ("SegmentationObject", "SegmentationClass"):
        (root / part / "a.png").rename(root / part / "a.PNG")
    assert len(voc.read(root).records) == 1


def test_folder_of_another_kind_is_refused(tmp_path, write):
    with pytest.raises(ValueError, match=r"JPEGImages is .*which does not exist"):
        voc.read(tmp_path)
    root = write(objects=None)
    with pytest.raises(ValueError, match="SegmentationObject has no image"):
        voc.read(root)


BOXES = ReadOptions(boxes_as_masks=True)


def test_boxes_alone_need_no_masks(tmp_path, write_picture):
    root = tmp_path / "boxes"
    (root / "Annotations").mkdir(parents=True)
    for name, found in (("a", ("cat", 11, 6, 30, 25, 0)), ("b", ("dog", 1, 1, 60, 40, 1))):
        write_picture(f"boxes/JPEGImages/{name}.jpg")
        (root / "Annotations" / f"{name}.xml").write_text(xml(found))
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    with pytest.raises(ValueError, match=r"SegmentationObject.* does not exist"):
        voc.read(root)
    dataset = voc.read(root, class_names=("cat", "dog"), options=BOXES)
    assert dataset.faults == []
    first, second = dataset.records
    np.testing.assert_array_equal(first.boxes, [[10, 5, 30, 25]])
    np.testing.assert_array_equal(second.boxes, [[0, 0, 60, 40]])
    assert [*first.classes, *second.classes] == [1, 2]
    assert [*first.crowd, *second.crowd] == [False, True]  # the dog is difficult
    (record,) = voc.read(root, "train", options=BOXES).records
    assert record.image_id == "a"


def test_faults_of_boxes_alone_are_named(tmp_path, write_picture):
    root = tmp_path / "boxes"
    (root / "Annotations").mkdir(parents=True)
    write_picture("boxes/JPEGImages/a.jpg")
    (root / "Annotations" / "a.xml").write_text(xml(("unknown", 1, 1, 9, 9, 0)))
    (root / "Annotations" / "b.xml").write_text(xml())
    (root / "Annotations" / "c.xml").write_text("<annotation>")
    write_picture("boxes/JPEGImages/c.jpg")
    (root / "Annotations" / "d.xml").write_text(xml(size=(60, 40)))
    write_picture("boxes/JPEGImages/d.jpg")
    dataset = voc.read(root, options=BOXES)
    assert [record.crowd.tolist() for record in dataset.records] == [[True]]
    told = " ".join(str(fault) for fault in dataset.faults)
    for part in (
        "unknown",
        "no JPEGImages/b.jpg",
        "c.xml",
        "60 x 40 (height x width); it is 40 x 60",
    ):
        assert part in told
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "val.txt").write_text("")
    with pytest.raises(ValueError, match=r"val\.txt has no image"):
        voc.read(root, "val", options=BOXES)
