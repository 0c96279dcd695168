import base64
import json
import re

import numpy as np
import pytest
from PIL import Image, ImageDraw

from maskrcnn_jax.data import check
from maskrcnn_jax.data.formats import coco, labelme, mask_folders, voc
from maskrcnn_jax.data.masks.segmentation import RLE, Polygons, to_mask
from maskrcnn_jax.data.read_options import ReadOptions

HALVES = [ReadOptions(split=split, val_fraction=0.5) for split in ("train", "val")]

SQUARE = [[10, 5], [30, 5], [30, 25], [10, 25]]


def png(pixels: np.ndarray, path) -> str:
    """Returns an image file of these pixels in base64."""
    Image.fromarray(pixels).save(path)
    return base64.b64encode(path.read_bytes()).decode()


@pytest.fixture
def write(tmp_path, write_picture):
    """Returns a function that writes a JSON file and, unless told otherwise, its image.

    A shape is what differs from a polygon of a cat.
    """

    def write_file(*shapes, name="a", image=True, **changes):
        if image:
            write_picture(f"labels/{name}.png")
        base = dict(label="cat", points=SQUARE, group_id=None, shape_type="polygon", flags={})
        content = dict(
            version="5.0.0",
            flags={},
            shapes=[base | s if isinstance(s, dict) else s for s in shapes],
            imagePath=f"{name.split('/')[-1]}.png",
            imageData=None,
            imageHeight=40,
            imageWidth=60,
        )
        path = tmp_path / "labels" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content | changes))
        return tmp_path / "labels"

    return write_file


def test_each_shape_with_an_inside_is_an_instance(write, tmp_path):
    bitmap = np.zeros((5, 7), np.uint8)
    bitmap[1:3, 2:6] = 1
    folder = write(
        {},
        dict(label="dog", shape_type="rectangle", points=[[30, 25], [10, 5]]),
        dict(shape_type="circle", points=[[30, 20], [30, 30]]),
        dict(shape_type="oriented_rectangle"),
        dict(shape_type="mask", points=[[50, 38], [56, 42]], mask=png(bitmap, tmp_path / "m.png")),
        dict(shape_type=None),  # as labelme wrote it before it had other shapes
    )
    dataset = labelme.read(folder)
    assert (dataset.name, dataset.class_names) == ("labels", ("cat", "dog"))
    assert dataset.category_ids == (1, 2)
    assert dataset.faults == []
    (record,) = dataset.records
    assert (record.image_id, record.height, record.width) == ("a", 40, 60)
    np.testing.assert_allclose(
        record.boxes,
        [[10, 5, 30, 25]] * 2
        + [[20, 10, 40, 30], [10, 5, 30, 25], [52, 39, 56, 40], [10, 5, 30, 25]],
        atol=0.1,
    )
    assert record.classes.tolist() == [1, 2, 1, 1, 1, 1]
    areas = [400, 400, np.pi * 100, 400, 4, 400]  # of the bitmap one row is inside the image
    np.testing.assert_allclose(record.areas, areas, rtol=0.02)
    assert [type(s) for s in record.segmentations] == [Polygons] * 4 + [RLE, Polygons]
    assert check.check(dataset) == []
    assert dataset.read_image(record).shape == (40, 60, 3)


def test_shapes_of_one_label_and_group_are_one_instance(write, tmp_path):
    left, right = [[10, 5], [20, 5], [20, 25], [10, 25]], [[50, 5], [60, 5], [60, 25], [50, 25]]
    bitmap = png(np.full((3, 3), 1, np.uint8), tmp_path / "m.png")
    folder = write(
        dict(points=left, group_id=0),
        dict(points=right, group_id=1),
        dict(points=right, group_id=0),
        dict(points=right, group_id=0, label="dog"),
        dict(points=right, group_id=None),
        dict(points=left, group_id=2),
        dict(shape_type="mask", points=[[0, 0], [2, 2]], mask=bitmap, group_id=2),
    )
    (record,) = labelme.read(folder).records
    assert record.boxes.tolist() == [
        [10, 5, 60, 25],
        [50, 5, 60, 25],
        [50, 5, 60, 25],
        [50, 5, 60, 25],
        [0, 0, 20, 25],
    ]
    assert record.areas.tolist() == [400, 200, 200, 200, 209]
    assert record.classes.tolist() == [1, 1, 2, 1, 1]


def test_flags_and_labels_may_say_to_ignore_a_shape_or_that_it_is_a_crowd(write):
    folder = write(
        dict(flags=dict(crowd=True, ignore=False)),
        dict(flags=dict(crowd=False)),
        dict(label="__ignore__"),
        dict(flags=dict(ignore=True)),
        dict(label="shadow"),
    )
    (record,) = labelme.read(folder, ignore=("__ignore__", "ignore", "shadow")).records
    assert record.crowd.tolist() == [True, False]
    dataset = labelme.read(folder)
    assert dataset.class_names == ("cat", "shadow")
    assert len(dataset.records[0].classes) == 4


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (dict(points=SQUARE[:2]), "its polygon has 2 corners"),
        (dict(points=[]), "its polygon has 0 corners"),
        (dict(points=None), "its points are None"),
        (dict(points=[[1, 2], [3, float("nan")], [5, 6]]), "its points are"),
        (dict(points=[[1, 2], [3, "4 px"], [5, 6]]), "its points are"),
        (dict(points=[[1, 2], [3, 10**400], [5, 6]]), "its points are"),
        (dict(points=[[1, 2], [3, 4], [5, 6]]), "covers no pixel"),
        (dict(points=[[80, 5], [90, 5], [90, 25]]), "covers no pixel"),
        (dict(points=[[10, 5], [1e8, 5], [30, 25]]), "far out of its image"),
        (dict(shape_type="rectangle", points=[[1, 2], [1, 5]]), "has no area"),
        (dict(shape_type="circle", points=[[1, 2], [1, 2]]), "it has radius 0"),
        (dict(shape_type="circle", points=[[1, 2]]), "it has 1 points; expected 2"),
        (dict(shape_type="linestrip"), "its 'linestrip' has no area"),
        (dict(shape_type="point", points=[[1, 2]]), "its 'point' has no area"),
        (dict(shape_type=["polygon"]), "has no area"),
        (dict(shape_type="mask", points=[[1, 2], [3, 4]]), "not a PNG file in base64"),
        (dict(shape_type="mask", points=[[1, 2], [3, 4]], mask="AAAA"), "not a readable image"),
        (dict(label="dgo"), r"its class 'dgo' is not in class_names \(cat, dog\)"),
        (dict(label=None), "its class None is not"),
        (dict(label=["cat"]), "is not in class_names"),
        ("cat", "its points are None"),
    ],
)
def test_faulty_shape_is_left_out_or_ignored_and_named(write, changes, reason):
    folder = write({}, changes, dict(label="dog"))
    dataset = labelme.read(folder, class_names=("cat", "dog"))
    (record,) = dataset.records
    assert record.classes[~record.crowd].tolist() == [1, 2]
    (fault,) = dataset.faults
    assert fault.where == f"{folder}/a.json: shape 2"
    assert re.search(reason, fault.reason)
    # The class is unknown; its place is known and must not become background.
    assert record.crowd.sum() == (fault.severity == "warning") == ("class" in fault.reason)


def test_shape_that_leaves_the_image_is_clipped_with_a_warning(write):
    dataset = labelme.read(write(dict(points=[[50, 5], [70, 5], [70, 25], [50, 25]])))
    np.testing.assert_array_equal(dataset.records[0].boxes, [[50, 5, 60, 25]])
    (fault,) = dataset.faults
    assert fault.severity == "warning"
    assert "a.json: shape 1" in fault.where


def test_image_is_found_from_the_json_file(write, write_picture):
    write_picture("labels/images/a.png")
    folder = write({}, name="json/a", image=False, imagePath="..\\images\\a.png")
    (record,) = labelme.read(folder).records
    assert record.image_id == "json/a"
    assert record.path == str(folder / "images" / "a.png")
    write({}, name="json/a", image=False, imagePath="C:\\Users\\me\\Pictures\\a.png")
    (record,) = labelme.read(folder, images="images").records
    assert record.path == str(folder / "images" / "a.png")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (dict(imagePath="../b.png"), "leads out of"),
        (dict(imagePath="x/../../b.png"), "leads out of"),
        (dict(imagePath="/etc/passwd"), "leads out of .*give the images' folder as `images`"),
        (dict(imagePath="C:\\d.png"), "leads out of"),
        (dict(imagePath="c.png"), r"there is no image .*c\.png"),
        (dict(imagePath=None), "imagePath is None"),
        (dict(imageHeight=0), r"are \(0, 60\)"),
        (dict(imageHeight="4 0"), r"are \('4 0', 60\)"),
        (dict(imageHeight=None), r"are \(None, 60\)"),
        (dict(imageHeight=2**40), "pixels, more than the 100000000 of config.data.max_pixels"),
        (dict(shapes=None), "has no list 'shapes'"),
        (dict(imagePath="../b.png", imageData="no base64"), "imageData is not an image file in"),
        (dict(imagePath="../b.png", imageData="AAAA"), "not a readable image"),
        (dict(imagePath="../b.png", imageData=5), "imageData is not an image file in base64"),
    ],
)
def test_faulty_file_is_left_out_and_named(write, changes, reason):
    write({}, name="b", **changes)
    folder = write({})
    dataset = labelme.read(folder)
    assert [record.image_id for record in dataset.records] == ["a"]
    (fault,) = dataset.faults
    assert (fault.where, fault.image_id) == (f"{folder}/b.json", "b")
    with pytest.raises(ValueError, match=reason):
        labelme.read(folder, options=ReadOptions(on_error="raise"))


def test_size_that_differs_from_the_image_is_found_by_the_check(write):
    dataset = labelme.read(write({}, imageWidth=61))
    (fault,) = check.check(dataset)
    assert "the image is 40 x 60 (height x width); its annotations are for 40 x 61" in fault.reason


def test_size_that_is_not_given_is_read(write):
    (record,) = labelme.read(write({}, imageHeight=None, imageWidth=None)).records
    assert (record.height, record.width) == (40, 60)


def test_image_may_lie_in_the_json_file(write, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    data = png(pixels, tmp_path / "image.png")
    folder = write({}, image=False, imagePath="../a.png", imageData=data)
    write(dict(label="dog"), name="b", imageData=data)  # a file goes first
    dataset = labelme.read(folder)
    inside, beside = dataset.records
    assert inside.path == ""
    np.testing.assert_array_equal(dataset.read_image(inside), pixels)
    np.testing.assert_array_equal(dataset.read_image(beside), np.full((40, 60, 3), 128))
    assert check.check(dataset) == []
    with pytest.raises(ValueError, match=r"a\.json: it has 40 x 60 pixels, more than the 99"):
        labelme.read(folder, options=ReadOptions(max_pixels=99, on_error="raise"))
    write({}, image=False, imagePath="../a.png", imageData=data, imageWidth=61)
    with pytest.raises(ValueError, match=r"its imageData is 40 x 60 .*are 40 x 61"):
        labelme.read(folder, options=ReadOptions(on_error="raise"))


def test_both_parts_of_a_division_have_the_classes_of_all(write):
    for number in range(8):
        folder = write(dict(label=f"class {number}"), name=f"{number}")
    parts = [labelme.read(folder, options=half) for half in HALVES]
    assert parts[0].class_names == parts[1].class_names == tuple(f"class {i}" for i in range(8))
    ids = [{record.image_id for record in part.records} for part in parts]
    assert ids[0] | ids[1] == {str(number) for number in range(8)}
    assert not ids[0] & ids[1]
    first = min(ids[0])
    (folder / f"{first}.json").write_text("{")
    faulty = [labelme.read(folder, options=half).faults for half in HALVES]
    assert [len(faults) for faults in faulty] == [1, 0]  # each is reported once


def test_folder_without_labels_is_refused(tmp_path, write):
    with pytest.raises(ValueError, match="has no JSON file"):
        labelme.read(tmp_path)
    with pytest.raises(ValueError, match="no class"):
        labelme.read(write())


def by_name(dataset) -> dict:
    """Returns the records of the three photos by the names of their files."""
    return {record.path.rsplit("/", 1)[-1]: record for record in dataset.records}


def masks_by_class(dataset, record) -> list[tuple]:
    """Returns (class name, mask, box) of each instance."""
    names = [dataset.class_names[number - 1] for number in record.classes]
    masks = [to_mask(s, record.height, record.width) for s in record.segmentations]
    return list(zip(names, masks, record.boxes, strict=True))


def best_iou(name: str, mask: np.ndarray, others: list[tuple]) -> tuple[float, np.ndarray]:
    """Returns the IoU of a mask with that of its class that is most like it, and its box."""
    candidates = [((m & mask).sum() / (m | mask).sum(), b) for n, m, b in others if n == name]
    return max(candidates, key=lambda candidate: candidate[0])


def test_labelme_and_coco_readers_give_the_same_instances(labelme_voc_dir):
    root = labelme_voc_dir
    ours = labelme.read(root / "labelme")
    theirs = coco.read(root / "coco", root / "coco" / "annotations.json")
    assert ours.faults == theirs.faults == []
    assert by_name(ours).keys() == by_name(theirs).keys()
    assert sum(len(record.classes) for record in ours.records) == 12
    for name, record in by_name(ours).items():
        expected = masks_by_class(theirs, by_name(theirs)[name])
        assert len(record.classes) == len(expected)
        for label, mask, box in expected:
            iou, found = best_iou(label, mask, masks_by_class(ours, record))
            assert iou >= 0.98
            assert np.abs(found - box).max() <= 1


def drawn(record, dataset) -> list[tuple]:
    """Returns (class, mask) of each instance as labelme draws them for its export to VOC.

    Outlines belong to the inside there, and what is drawn later covers what was before.
    """
    canvas = Image.new("L", (record.width, record.height))
    for number, polygons in enumerate(record.segmentations, 1):
        for part in polygons.parts:
            corners = [tuple(corner) for corner in part]
            ImageDraw.Draw(canvas).polygon(corners, outline=number, fill=number)
    ids = np.asarray(canvas)
    names = [dataset.class_names[number - 1] for number in record.classes]
    return [(name, ids == number) for number, name in enumerate(names, 1)]


def test_labelme_and_voc_readers_give_the_same_instances(labelme_voc_dir):
    root = labelme_voc_dir
    ours = labelme.read(root / "labelme", class_names=voc_names(root), ignore=())
    theirs = voc.read(root / "voc")
    assert theirs.faults == []
    assert sum(len(record.classes) for record in theirs.records) == 12
    for name, record in by_name(ours).items():
        given = masks_by_class(theirs, by_name(theirs)[name])
        seen = [item for item in drawn(record, ours) if item[0] != "__ignore__"]
        assert len(given) == len(seen)
        for label, mask in seen:
            iou, box = best_iou(label, mask, given)
            assert iou >= 0.98
            y, x = np.nonzero(mask)
            assert np.abs(box - [x.min(), y.min(), x.max() + 1, y.max() + 1]).max() <= 1
        for label, mask, _ in masks_by_class(ours, record):
            if label != "__ignore__":  # outlines are a larger part of small objects
                assert best_iou(label, mask, given)[0] >= 0.93


def voc_names(root) -> list[str]:
    names = (root / "voc" / "class_names.txt").read_text().split("\n")
    return [*names[1:], "__ignore__"]


def test_a_folder_of_other_json_files_says_so_before_it_is_divided(write):
    folder = write(name="a")
    (folder / "a.json").write_text('{"images": [], "annotations": [], "categories": []}')
    with pytest.raises(
        ValueError, match=r"no usable JSON file; .*a\.json: it has no list 'shapes'"
    ):
        labelme.read(folder, options=ReadOptions(split="val"))


def test_a_faulty_file_is_listed_in_its_own_split(write):
    names = [f"image{i}" for i in range(12)]
    for name in names:
        folder = write({}, name=name)
    val = [
        record.image_id for record in labelme.read(folder, options=ReadOptions(split="val")).records
    ]
    assert 0 < len(val) < len(names)
    (folder / f"{val[0]}.json").write_text("{")
    assert labelme.read(folder, options=ReadOptions(split="train")).faults == []
    (fault,) = labelme.read(folder, options=ReadOptions(split="val")).faults
    assert fault.image_id == val[0]


def test_outlines_of_nuclei_are_their_masks(small_nuclei_dir):
    outlines = labelme.read(small_nuclei_dir / "labelme")
    masks = mask_folders.read(small_nuclei_dir / "train", class_name="nucleus")
    assert outlines.faults == masks.faults == []
    of_masks = by_name(masks)
    assert len(outlines.records) == 4
    for name, record in by_name(outlines).items():
        given = masks_by_class(masks, of_masks[name])
        assert len(record.classes) == len(given)
        pixels = outlines.read_image(record)
        np.testing.assert_array_equal(pixels, masks.read_image(of_masks[name]))
        for label, mask, box in masks_by_class(outlines, record):
            iou, found = best_iou(label, mask, given)
            assert iou >= 0.8
            assert np.abs(found - box).max() <= 1.5


def test_images_without_a_json_file_are_mentioned(write, write_picture):
    write_picture("labels/b.jpg")
    write_picture("labels/sub/c.png")
    folder = write({})
    dataset = labelme.read(folder)
    assert [record.image_id for record in dataset.records] == ["a"]
    (fault,) = dataset.faults
    assert (fault.severity, fault.count) == ("warning", 2)
    assert "2 images without a JSON file: b.jpg, sub/c.png. They" in fault.reason


def test_labels_of_points_and_lines_alone_are_no_classes(write):
    folder = write({}, dict(label="nose", shape_type="point", points=[[1, 2]]))
    dataset = labelme.read(folder)
    assert dataset.class_names == ("cat",)
    (fault,) = dataset.faults
    assert (fault.severity, fault.objects) == ("error", 0)
    assert "its 'point' has no area" in fault.reason


def test_numbers_are_read_however_they_are_written(write):
    corners = [[str(x), float(y)] for x, y in SQUARE]
    folder = write(dict(label=7, points=corners), imageHeight="40", imageWidth=60.0)
    dataset = labelme.read(folder)
    assert dataset.faults == []
    assert dataset.class_names == ("7",)
    assert (dataset.records[0].height, dataset.records[0].width) == (40, 60)


@pytest.mark.parametrize("size", [(0, 0), (None, None), ("", "")])
def test_size_that_nobody_knows_is_read(write, size):
    (record,) = labelme.read(write({}, imageHeight=size[0], imageWidth=size[1])).records
    assert (record.height, record.width) == (40, 60)
