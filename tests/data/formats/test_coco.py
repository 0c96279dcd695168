import json
import re

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


RUN_SIZE = dict(size=[60, 40], counts=TEXT)

# Nothing of the annotation can be used.
LEFT_OUT = [
    (dict(image_id=8), "image_id 8 is not that of a usable image"),
    (dict(image_id=[7]), r"image_id \[7\] is not"),
    (dict(bbox=None, segmentation=[]), "expected polygons or run lengths"),
    (dict(bbox=[10, 5, 20], segmentation=[]), "four finite numbers"),
    (dict(bbox=None, segmentation=[[70, 5, 90, 5, 90, 25]]), "lies outside its image"),
]
# Its mask is sound, and gives the box.
BOX_OF_MASK = [
    (dict(bbox=[10, 5, 0, 20]), "has no area"),
    (dict(bbox=[10, 5, 20, -1]), "has no area"),
    (dict(bbox=[60, 5, 5, 5]), "lies outside its image of 40 x 60"),
    (dict(bbox=[10, 5, 1e-9, 20]), "lies outside"),
    (dict(bbox=[10, 5, 20]), "four finite numbers"),
    (dict(bbox=[10, 5, float("nan"), 20]), "four finite numbers"),
    (dict(bbox=[10, 5, float("inf"), 20]), "four finite numbers"),
    (dict(bbox=[10, 5, 10**400, 20]), "four finite numbers"),
    (dict(bbox=[10, 5, True, 20]), "four finite numbers"),
]
# Its box is sound, and becomes a crowd region.
IGNORED = [
    (dict(category_id=4), "category_id 4 is not in the list"),
    (dict(category_id="cat"), "category_id 'cat' is not in the list"),
    (dict(iscrowd=2), "iscrowd is 2"),
    (dict(segmentation=[]), "expected polygons or run lengths"),
    (dict(segmentation=None), "expected polygons or run lengths"),
    (dict(segmentation=[[10, 5, 30, 25]]), "a polygon has 4 numbers"),
    (dict(segmentation=[[10, 5, 30, 25, 3, 4, 5]]), "a polygon has 7 numbers"),
    (dict(segmentation=[[10, 5, 30, 5, 30, float("nan")]]), "list of finite numbers"),
    (dict(segmentation=[[10, 5, 30, 5, 30, "x"]]), "list of finite numbers"),
    (dict(segmentation=[[10, 5, 30, 5, 30, 10**400]]), "list of finite numbers"),
    (dict(segmentation=[[10, 5, 30, 5, 1e8, 25]]), "reaches 1e.08, far out of its image"),
    (dict(segmentation=RUN_SIZE), r"of size \[60, 40\]; .*\[40, 60\]"),
    (dict(segmentation=dict(size=[40, 60], counts=[5, 5])), "add up to 10 pixels"),
    (dict(segmentation=dict(size=[40, 60], counts=TEXT[:-2])), "run"),
    (dict(segmentation=dict(size=[40, 60], counts=[2400])), "mask is empty"),
]


def read_three(write_coco, changes):
    """The record and the only fault of three squares of which the second one is faulty."""
    paths = write_coco([dict(id=100), dict(id=101) | changes, dict(id=102)])
    dataset = coco.read(**paths)
    (fault,) = dataset.faults
    assert fault.where == f"{paths['annotations']}: annotation 101"
    return dataset.records[0], fault, paths


@pytest.mark.parametrize(("changes", "reason"), LEFT_OUT)
def test_annotation_without_box_and_mask_is_left_out_and_named(write_coco, changes, reason):
    record, fault, paths = read_three(write_coco, changes)
    assert record.annotation_ids.tolist() == [100, 102]
    assert (fault.severity, fault.objects) == ("error", 1)
    with pytest.raises(ValueError, match=rf"(?s)1 faults .*annotation 10.*{reason}"):
        coco.read(**paths, options=ReadOptions(on_error="raise"))


@pytest.mark.parametrize(("changes", "reason"), BOX_OF_MASK)
def test_mask_gives_the_box_that_cannot_be_used(write_coco, changes, reason):
    record, fault, _ = read_three(write_coco, changes)
    np.testing.assert_array_equal(record.boxes, [[10, 5, 30, 25]] * 3)
    assert not record.crowd.any()
    assert (fault.severity, fault.objects) == ("warning", 0)
    assert re.search(reason + ".*; the box of its mask is taken", fault.reason)


@pytest.mark.parametrize(("changes", "reason"), IGNORED)
def test_object_without_mask_or_class_is_ignored_not_background(write_coco, changes, reason):
    record, fault, _ = read_three(write_coco, changes)
    np.testing.assert_array_equal(record.boxes, [[10, 5, 30, 25]] * 3)
    assert record.crowd.tolist() == [False, True, False]
    np.testing.assert_array_equal(to_mask(record.segmentations[1], 40, 60), BLOCK)
    assert (fault.severity, fault.objects) == ("warning", 1)
    assert re.search(reason + ".*; it is ignored as a crowd region", fault.reason)


def test_boxes_may_be_taken_as_masks(write_coco):
    paths = write_coco([dict(segmentation=[]), dict(bbox=[0, 0, 6, 4], segmentation=None)])
    dataset = coco.read(**paths)
    assert dataset.records[0].crowd.all()
    assert sum(fault.objects for fault in dataset.faults) == 2
    whole = dataset.faults[-1]
    assert (whole.severity, whole.kind) == ("error", "mask")
    assert "none of its 2 annotations has a mask" in whole.reason
    assert "boxes_as_masks=True" in whole.reason
    dataset = coco.read(**paths, options=ReadOptions(boxes_as_masks=True))
    assert dataset.faults == []
    assert dataset.records[0].areas.tolist() == [400, 24]
    assert not dataset.records[0].crowd.any()


def test_crowd_alone_names_the_habit_and_the_argument(write_coco):
    paths = write_coco([dict(iscrowd=1), dict(iscrowd=True)])
    (fault,) = coco.read(**paths).faults
    assert (fault.severity, fault.kind) == ("error", "crowd region")
    assert re.search("all 2 .*iscrowd=1.*CVAT.*crowd_as_objects=True", fault.reason)
    dataset = coco.read(**paths, crowd_as_objects=True)
    assert dataset.faults == []
    assert not dataset.records[0].crowd.any()


def test_many_crowd_regions_among_objects_name_the_habit(write_coco):
    paths = write_coco([{}] * 5 + [dict(iscrowd=1)] * 5)
    (fault,) = coco.read(**paths).faults
    assert (fault.severity, fault.kind) == ("warning", "crowd region")
    assert re.search("5 of its 10 .*CVAT.*crowd_as_objects=True", fault.reason)
    assert coco.read(**paths, crowd_as_objects=True).faults == []
    for few in ([{}] * 5 + [dict(iscrowd=1)] * 4, [{}] * 50 + [dict(iscrowd=1)] * 5):
        assert coco.read(**write_coco(few)).faults == []


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([1, 1, 2], [1, 3, 2]),
        ([None, None, None], [1, 2, 3]),
        (["a", 5.0, "7"], [8, 5, 7]),
        ([2.5, 10**30, 4], [5, 6, 4]),
    ],
)
def test_annotation_ids_serve_messages_alone(write_coco, ids, expected):
    dataset = coco.read(**write_coco([dict(id=given) for given in ids]))
    assert dataset.records[0].annotation_ids.tolist() == expected
    (fault,) = dataset.faults
    assert (fault.severity, fault.kind, fault.objects) == ("warning", "id used twice", 0)


def test_ids_that_start_again_in_each_image_keep_all_objects(write_coco):
    images = [dict(id=i, file_name=f"{i}.png", height=40, width=60) for i in (1, 2, 3)]
    annotations = [dict(image_id=i, id=j) for i in (1, 2, 3) for j in (1, 2)]
    dataset = coco.read(**write_coco(annotations, images))
    assert [len(record.classes) for record in dataset.records] == [2, 2, 2]
    assert len(np.unique(np.concatenate([r.annotation_ids for r in dataset.records]))) == 6
    (fault,) = dataset.faults
    assert fault.count == 4


def test_two_images_of_one_id_are_both_left_out(write_coco):
    images = [
        dict(id=i, file_name=f"{f}/x.png", height=40, width=60)
        for i, f in ((1, "a"), (2, "b"), (1, "c"))
    ]
    dataset = coco.read(**write_coco([dict(image_id=i) for i in (1, 1, 2)], images))
    assert [record.image_id for record in dataset.records] == [2]
    (fault,) = dataset.faults
    assert (fault.severity, fault.objects) == ("error", 2)
    assert re.search(r"2 images \(a/x.png, c/x.png\) have the same id", fault.reason)


@pytest.mark.parametrize(
    ("image", "annotation"),
    [
        (dict(id=7.0, height=40.0, width="60"), dict(image_id=7, category_id=3.0)),
        (dict(id="7"), dict(image_id=7, category_id="3", iscrowd="0", area="400")),
        (dict(id=7), dict(image_id="7", category_id="3.0", iscrowd=False)),
        (dict(id="x"), dict(image_id="x", bbox=["10", "5", 20.0, "20.0"])),
        (dict(id=7, height=0, width=0), dict(bbox=None)),
        (dict(id=7), dict(segmentation=SQUARE[0])),
        (dict(id=7), dict(segmentation=np.reshape(SQUARE[0], (-1, 2)).tolist())),
        (dict(id=7), dict(segmentation=[list(map(str, SQUARE[0]))])),
        (dict(id=7), dict(segmentation=dict(size=["40", 60.0], counts=[float(n) for n in RUNS]))),
    ],
)
def test_numbers_are_read_however_they_are_written(write_coco, image, annotation):
    write_coco([])  # the image file
    images = [dict(file_name="a.png", height=40, width=60) | image]
    dataset = coco.read(**write_coco([annotation], images))
    assert dataset.faults == []
    (record,) = dataset.records
    assert (record.height, record.width) == (40, 60)
    assert record.boxes.tolist() == [[10, 5, 30, 25]]
    assert record.classes.tolist() == [1]
    assert not record.crowd.any()
    np.testing.assert_array_equal(to_mask(record.segmentations[0], 40, 60), BLOCK)


def test_text_and_number_that_are_both_ids_are_kept_apart(write_coco):
    images = [dict(id=i, file_name=f"{n}.png", height=40, width=60) for n, i in enumerate((1, "1"))]
    dataset = coco.read(**write_coco([dict(image_id="1"), dict(image_id=1.0)], images))
    assert [(r.image_id, r.annotation_ids.tolist()) for r in dataset.records] == [
        (1, [101]),
        ("1", [100]),
    ]


def test_root_category_of_roboflow_is_left_out(write_coco):
    names = (0, "fish", "none"), (1, "fish", "fish"), (2, "trap", "fish")
    categories = [dict(id=i, name=name, supercategory=above) for i, name, above in names]
    annotations = [dict(category_id=1), dict(category_id=2)]
    dataset = coco.read(**write_coco(annotations, categories=categories))
    assert (dataset.category_ids, dataset.class_names) == ((1, 2), ("fish", "trap"))
    (fault,) = dataset.faults
    assert fault.severity == "warning"
    with pytest.raises(ValueError, match="two categories have the name 'fish'"):
        coco.read(**write_coco([*annotations, dict(category_id=0)], categories=categories))


def test_one_cause_gives_one_line(write_coco):
    annotations = [dict(category_id=55)] * 300 + [{}]
    dataset = coco.read(**write_coco(annotations))
    (fault,) = dataset.faults
    assert (fault.count, fault.objects) == (300, 300)
    assert fault.reason.endswith(
        "(and 299 more: annotation 101, annotation 102, annotation 103, "
        "annotation 104, annotation 105, ...)"
    )


def test_one_file_is_divided_by_the_names_of_images(write_coco):
    images = [dict(id=i, file_name=f"{i}.png", height=40, width=60) for i in range(20)]
    paths = write_coco(
        [dict(image_id=i) for i in range(20)] + [dict(image_id=0, category_id=9)], images
    )
    parts = [coco.read(**paths, options=ReadOptions(split=split)) for split in ("train", "val")]
    ids = [{record.image_id for record in part.records} for part in parts]
    assert ids[0] | ids[1] == set(range(20))
    assert not ids[0] & ids[1]
    assert sum(len(part.faults) for part in parts) == 1  # each is reported once


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
        (dict(id=8, file_name="b.png", height=0, width=6), r"are \(0, 6\)"),
        (dict(id=8, file_name="b.png", height=4.5, width=6), r"are \(4.5, 6\)"),
        (
            dict(id=8, file_name="b.png", height=2**63, width=6),
            "more than the 100000000 of config.data",
        ),
        (dict(id=8, file_name="missing.png"), "No such file"),
        ("b.png", "no 'id'"),
        (dict(id=True, file_name="b.png", height=4, width=6), "no 'id'"),
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
def test_every_mask_of_coco_is_that_of_pycocotools(coco_dir, split):
    source = coco_dir / "annotations" / f"instances_{split}.json"
    dataset = coco.read(coco_dir / split, source)
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
