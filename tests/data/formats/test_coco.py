import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from maskrcnn_jax.data.formats import coco
from maskrcnn_jax.data.masks.segmentation import RLE, Polygons, to_mask
from maskrcnn_jax.data.read_options import ReadOptions

SQUARE = [[10, 5, 30, 5, 30, 25, 10, 25]]
BLOCK = np.zeros((40, 60), np.uint8)
BLOCK[5:25, 10:30] = 1
TEXT = coco_mask.encode(np.asfortranarray(BLOCK))["counts"].decode()
RUNS = [405, *([20, 20] * 19), 20, 1215]  # 10 columns of 40 and 5 pixels, then 20 by 20


def test_one_instance_of_each_form(write_coco):
    dataset = coco.read(
        **write_coco(
            [
                dict(area=123.5),
                dict(category_id=90, segmentation=dict(size=[40, 60], counts=TEXT)),
                dict(iscrowd=1, segmentation=dict(size=[40, 60], counts=RUNS)),
            ]
        )
    )
    assert (dataset.category_ids, dataset.class_names) == ((3, 90), ("cat", "dog"))
    assert dataset.name == "instances"
    assert dataset.faults == []
    (record,) = dataset.records
    assert (record.image_id, record.height, record.width) == (7, 40, 60)
    np.testing.assert_array_equal(record.boxes, [[10, 5, 30, 25]] * 3)
    assert record.boxes.dtype == np.float32
    assert record.classes.tolist() == [1, 2, 1]
    assert record.crowd.tolist() == [False, False, True]
    assert record.annotation_ids.tolist() == [100, 101, 102]
    assert record.areas.tolist() == [123.5, 400, 400]
    assert [type(s) for s in record.segmentations] == [Polygons, RLE, RLE]
    for segmentation in record.segmentations:
        np.testing.assert_array_equal(to_mask(segmentation, 40, 60), BLOCK)
    np.testing.assert_array_equal(dataset.read_image(record), np.full((40, 60, 3), 128))


def test_boxes_are_clipped_and_far_ones_reported(write_coco):
    dataset = coco.read(
        **write_coco([dict(bbox=[-0.5, 5, 20, 20]), dict(bbox=[50, -3.25, 20, 100])])
    )
    np.testing.assert_array_equal(dataset.records[0].boxes, [[0, 5, 19.5, 25], [50, 0, 60, 40]])
    (fault,) = dataset.faults
    assert fault.severity == "warning"
    assert "annotation 101" in fault.where
    assert "is clipped" in fault.reason


FAULTY = [
    (dict(bbox=[10, 5, 0, 20]), "has no area"),
    (dict(bbox=[10, 5, 20, -1]), "has no area"),
    (dict(bbox=[60, 5, 5, 5]), "lies outside its image of 40 x 60"),
    (dict(bbox=[10, 5, 1e-9, 20]), "lies outside"),
    (dict(bbox=[10, 5, 20]), "four finite numbers"),
    (dict(bbox=[10, 5, float("nan"), 20]), "four finite numbers"),
    (dict(bbox=[10, 5, float("inf"), 20]), "four finite numbers"),
    (dict(bbox=None), "four finite numbers"),
    (dict(category_id=4), "category_id 4 is not in the list"),
    (dict(category_id="cat"), "category_id 'cat' is not in the list"),
    (dict(image_id=8), "image_id 8 is not that of a usable image"),
    (dict(image_id=[7]), r"image_id \[7\] is not"),
    (dict(iscrowd=2), "iscrowd is 2"),
    (dict(id=100), "that of an earlier one"),
    (dict(id=10**30), "not a whole number"),
    (dict(segmentation=[]), "expected polygons or run lengths"),
    (dict(segmentation=None), "expected polygons or run lengths"),
    (dict(segmentation=[[10, 5, 30, 25]]), "a polygon has 4 numbers"),
    (dict(segmentation=[[10, 5, 30, 25, 3, 4, 5]]), "a polygon has 7 numbers"),
    (dict(segmentation=SQUARE[0]), "a polygon has 10; expected"),
    (dict(segmentation=[[10, 5, 30, 5, 30, float("nan")]]), "list of finite numbers"),
    (dict(segmentation=[[10, 5, 30, 5, 30, "x"]]), "list of finite numbers"),
    (dict(segmentation=[[10, 5, 30, 5, 30, 10**400]]), "list of finite numbers"),
    (dict(segmentation=[[10, 5, 30, 5, 1e8, 25]]), "reaches 1e.08, far out of its image"),
    (dict(bbox=[10, 5, 10**400, 20]), "four finite numbers"),
    (dict(segmentation=dict(size=[60, 40], counts=TEXT)), r"of size \[60, 40\]; .*\[40, 60\]"),
    (dict(segmentation=dict(size=[40, 60], counts=[5, 5])), "add up to 10 pixels"),
    (dict(segmentation=dict(size=[40, 60], counts=TEXT[:-2])), "run"),
    (dict(segmentation=dict(size=[40, 60], counts=[2400])), "mask is empty"),
]


@pytest.mark.parametrize(("changes", "reason"), FAULTY)
def test_faulty_annotation_is_left_out_and_named(write_coco, changes, reason):
    paths = write_coco([dict(id=100), dict(id=101) | changes, dict(id=102)])
    dataset = coco.read(**paths)
    assert dataset.records[0].annotation_ids.tolist() == [100, 102]
    (fault,) = dataset.faults
    assert fault.severity == "error"
    assert fault.where == f"{paths['annotations']}: annotation {changes.get('id', 101)}"
    with pytest.raises(ValueError, match=rf"(?s)1 faults .*annotation 10.*{reason}"):
        coco.read(**paths, options=ReadOptions(on_error="raise"))


def test_good_polygons_of_a_faulty_instance_are_kept(write_coco):
    dataset = coco.read(**write_coco([dict(segmentation=[[1, 2, 3, 4], SQUARE[0]])]))
    np.testing.assert_array_equal(to_mask(dataset.records[0].segmentations[0], 40, 60), BLOCK)
    (fault,) = dataset.faults
    assert fault.severity == "warning"
    assert "other polygons are kept" in fault.reason


def test_area_that_is_none_is_measured(write_coco):
    dataset = coco.read(**write_coco([dict(area=0), dict(area="big")]))
    assert dataset.records[0].areas.tolist() == [400, 400]
    assert [fault.severity for fault in dataset.faults] == ["warning", "warning"]


def test_image_without_objects_and_image_with_400(write_coco):
    images = [dict(id=i, file_name=f"{i}.png", height=40, width=60) for i in (7, 8)]
    paths = write_coco([{}] * 400, images)
    dataset = coco.read(**paths)
    assert [len(record.classes) for record in dataset.records] == [400, 0]
    empty = dataset.records[1]
    assert empty.boxes.shape == (0, 4)
    assert (empty.boxes.dtype, empty.classes.dtype, empty.crowd.dtype) == (
        np.float32,
        np.int32,
        bool,
    )
    assert [r.image_id for r in coco.read(**paths, max_images=1).records] == [7]


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (dict(id=8, file_name="../b.png", height=4, width=6), "leads out of"),
        (dict(id=8, file_name="/etc/passwd", height=4, width=6), "leads out of"),
        (dict(id=8, height=4, width=6), "no 'file_name'"),
        (dict(file_name="b.png", height=4, width=6), "no 'id'"),
        (dict(id=7, file_name="b.png", height=4, width=6), "an earlier image"),
        (dict(id=8, file_name="b.png", height=0, width=6), r"are \(0, 6\)"),
        (dict(id=8, file_name="b.png", height=4.5, width=6), r"are \(4.5, 6\)"),
        (dict(id=8, file_name="b.png", height=2**63, width=6), "more than the 100000000 of data"),
        (dict(id=8, file_name="missing.png"), "No such file"),
        ("b.png", "no 'id'"),
    ],
)
def test_faulty_image_is_left_out_and_named(write_coco, image, reason):
    good = dict(id=7, file_name="a.png", height=40, width=60)
    paths = write_coco([{}], [good, image])
    dataset = coco.read(**paths)
    assert [record.image_id for record in dataset.records] == [7]
    (fault,) = dataset.faults
    assert "image" in fault.where
    with pytest.raises(ValueError, match=reason):
        coco.read(**paths, options=ReadOptions(on_error="raise"))


def test_images_of_lvis_are_named_by_their_address(write_coco, tmp_path):
    address = "http://images.cocodataset.org/{}/000000000007.jpg"
    folders = ("val2017", "train2017")
    for folder in folders:
        (tmp_path / "images" / folder).mkdir(parents=True)
    images = [
        dict(id=number, coco_url=address.format(folder), height=40, width=60)
        for number, folder in enumerate((*folders, "..", "test2017"), 7)
    ]
    categories = [dict(id=i, name=n, frequency="r") for i, n in ((2, "dog"), (1, "cat"))]
    paths = write_coco([dict(category_id=1)], images, categories)
    dataset = coco.read(**paths)
    assert dataset.class_names == ("cat", "dog")
    found = [record.path.removeprefix(f"{paths['images']}/") for record in dataset.records]
    assert found == [
        "val2017/000000000007.jpg",
        "train2017/000000000007.jpg",
        "000000000007.jpg",  # images/test2017 does not exist
    ]
    (fault,) = dataset.faults
    assert "leads out of" in fault.reason
    dataset = coco.read(**paths | dict(images=tmp_path / "images" / "val2017"))
    assert dataset.records[0].path.endswith("val2017/000000000007.jpg")


def test_size_that_is_not_given_is_read(write_coco):
    paths = write_coco([{}], [dict(id=7, file_name="a.png")])
    Image.new("RGB", (60, 40)).save(paths["images"] / "a.png")
    (record,) = coco.read(**paths).records
    assert (record.height, record.width) == (40, 60)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "is not a JSON file"),
        ("{", "is not a JSON file"),
        ("[]", "holds a list; .*results of a detector"),
        ('{"images": []}', r"holds \['images'\]; expected"),
        ('{"images": [], "annotations": [], "categories": []}', "list of images is empty"),
        ('{"images": [{}], "annotations": [], "categories": []}', "list of categories is empty"),
        ('{"images": [{}], "annotations": [], "categories": [{"id": 1}]}', "category {'id': 1}"),
        (
            '{"images": [{}], "annotations": [], '
            '"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
            "two categories have the id 1",
        ),
        (
            '{"images": [{}], "annotations": [], '
            '"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}',
            "two categories have the name 'a'",
        ),
    ],
)
def test_file_that_is_not_in_the_format(tmp_path, content, reason):
    path = tmp_path / "instances.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=rf"instances\.json.*{reason}"):
        coco.read(tmp_path, path)


def test_no_annotation_at_all_is_reported(write_coco):
    dataset = coco.read(**write_coco())
    assert len(dataset.records) == 1
    assert "no annotation at all" in dataset.faults[0].reason


def test_paths_may_be_relative_to_a_root(write_coco, tmp_path):
    write_coco([{}])
    dataset = coco.read("images", "instances.json", root=tmp_path)
    assert len(dataset.records[0].classes) == 1
    with pytest.raises(ValueError, match=r"annotations is .*instance\.json.*instances\.json"):
        coco.read("images", "instance.json", root=tmp_path)


@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_every_mask_of_coco_is_that_of_pycocotools(datasets_dir, split):
    root = datasets_dir / "coco_mini"
    source = root / "annotations" / f"instances_{split}.json"
    dataset = coco.read(root / split, source)
    truth = COCO(source)
    assert dataset.faults == []
    assert [r.image_id for r in dataset.records] == list(truth.imgs)
    assert list(dataset.category_ids) == sorted(truth.cats)
    annotations = json.loads(source.read_text())["annotations"]
    assert sum(len(r.classes) for r in dataset.records) == len(annotations)
    for record in dataset.records:
        for index, annotation_id in enumerate(record.annotation_ids):
            entry = truth.anns[int(annotation_id)]
            mask = to_mask(record.segmentations[index], record.height, record.width)
            assert np.array_equal(mask, truth.annToMask(entry)), annotation_id
            assert dataset.category_ids[record.classes[index] - 1] == entry["category_id"]
            assert record.crowd[index] == entry["iscrowd"]
            x, y, w, h = entry["bbox"]
            assert np.abs(record.boxes[index] - [x, y, x + w, y + h]).max() < 0.1
