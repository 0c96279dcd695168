"""Keypoints of COCO's and labelme's files."""

import json

import numpy as np
import pytest
from PIL import Image

from maskrcnn_jax.data.formats import coco, labelme
from maskrcnn_jax.data.read_options import ReadOptions

NAMES = ("nose", "left", "right")
OPTIONS = ReadOptions(keypoints=NAMES)


def annotation(number, keypoints, **more):
    entry = {"id": number, "image_id": 1, "category_id": 1, "bbox": [2, 3, 10, 12], "iscrowd": 0}
    entry |= {"segmentation": [[2, 3, 12, 3, 12, 15]], "keypoints": keypoints}
    return entry | more


def read_coco(folder, annotations, categories=None, options=OPTIONS):
    Image.new("L", (30, 20)).save(folder / "a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 20, "width": 30}],
        "annotations": annotations,
        "categories": categories or [{"id": 1, "name": "person"}],
    }
    (folder / "a.json").write_text(json.dumps(content))
    return coco.read(folder, folder / "a.json", options=options)


def test_positions_name_pixels(tmp_path):
    given = [4, 5, 2, 0, 0, 0, 11, 9, 1]
    (record,) = read_coco(tmp_path, [annotation(1, given)]).records
    assert record.keypoints.dtype == np.float32
    assert record.keypoints.tolist() == [[[4.5, 5.5, 2], [0, 0, 0], [11.5, 9.5, 1]]]


def test_they_are_found_by_the_names_of_their_category(tmp_path):
    categories = [
        {"id": 1, "name": "person", "keypoints": ["right", "tail", "nose", "left"]},
        {"id": 2, "name": "stone"},
    ]
    entries = [
        annotation(1, [1, 1, 2, 2, 2, 2, 3, 3, 2, 4, 4, 2]),
        annotation(2, None, category_id=2),
    ]
    (record,) = read_coco(tmp_path, entries, categories).records
    assert record.keypoints[0, :, 0].tolist() == [3.5, 4.5, 1.5]
    assert not record.keypoints[1].any()
    assert record.take([1]).keypoints.shape == (1, 3, 3)


def test_a_category_without_one_that_is_wanted_is_refused(tmp_path):
    categories = [{"id": 1, "name": "person", "keypoints": ["nose", "left"]}]
    with pytest.raises(ValueError, match=r"'person' has the keypoints nose, left; .* 'right'"):
        read_coco(tmp_path, [], categories)


@pytest.mark.parametrize(
    "given", [[1, 2, 2], "x", [1, 2, 2] * 2 + [1, 2], [1, 2, None] * 3, [float("inf")] * 9, {}]
)
def test_what_are_no_keypoints_is_told_and_taken_as_unknown(tmp_path, given):
    dataset = read_coco(tmp_path, [annotation(1, given), annotation(2, [4, 5, 2] * 3)])
    (fault,) = dataset.faults
    assert fault.severity == "warning"
    assert "expected x, y and visibility of 3 points" in fault.reason
    assert not dataset.records[0].keypoints[0].any()
    assert not dataset.records[0].crowd.any()


def test_crowd_regions_and_unwanted_ones_have_none(tmp_path):
    (record,) = read_coco(tmp_path, [annotation(1, [4, 5, 2] * 3, iscrowd=1)]).records
    assert record.keypoints is None
    (record,) = read_coco(tmp_path, [annotation(1, "x")], options=ReadOptions()).records
    assert record.keypoints is None


def shape(label, points, kind="polygon", group=None, **flags):
    entry = {"label": label, "points": points, "shape_type": kind, "group_id": group}
    return {**entry, "flags": flags}


def read_labelme(folder, shapes, options=OPTIONS):
    Image.new("L", (40, 40)).save(folder / "a.png")
    content = {"shapes": shapes, "imagePath": "a.png", "imageHeight": 40, "imageWidth": 40}
    (folder / "a.json").write_text(json.dumps(content))
    return labelme.read(folder, options=options)


LARGE = [[0, 0], [30, 0], [30, 30], [0, 30]]
SMALL = [[5, 5], [15, 5], [15, 15], [5, 15]]


def test_points_belong_to_the_object_of_their_group_or_around_them(tmp_path):
    dataset = read_labelme(
        tmp_path,
        [
            shape("nose", [[10, 11]], "point"),  # in both: the smaller one's
            shape("person", LARGE, group=7),
            shape("person", SMALL),
            shape("left", [[35, 2]], "point", group=7, hidden=True),
            shape("right", [[20, 20]], "point"),
        ],
    )
    assert dataset.class_names == ("person",)
    assert not dataset.faults
    keypoints = dataset.records[0].keypoints
    assert keypoints.tolist() == [
        [[0, 0, 0], [35, 2, 1], [20, 20, 2]],
        [[10, 11, 2], [0, 0, 0], [0, 0, 0]],
    ]


def test_points_of_no_object_and_repeated_ones_are_told(tmp_path):
    dataset = read_labelme(
        tmp_path,
        [
            shape("person", SMALL),
            shape("nose", [[6, 6]], "point"),
            shape("nose", [[7, 7]], "point"),
            shape("left", [[35, 35]], "point"),
            shape("right", [[8, 8]], "point", group=3),
            shape("right", [["x", 8]], "point"),
        ],
    )
    counts = {fault.reason: fault.count for fault in dataset.faults}
    for part, count in (
        ("belongs to no object: give both one group_id", 2),
        ("has a point 'nose' already", 1),
        ("expected one, [[x, y]]", 1),
    ):
        assert [counts[reason] for reason in counts if part in reason] == [count]
    assert dataset.records[0].keypoints[0].tolist() == [[6, 6, 2], [0, 0, 0], [0, 0, 0]]


def test_points_are_faults_where_none_are_wanted(tmp_path):
    shapes = [shape("person", SMALL), shape("nose", [[6, 6]], "point")]
    dataset = read_labelme(tmp_path, shapes, ReadOptions())
    assert "its 'point' has no area" in dataset.faults[0].reason
    assert dataset.records[0].keypoints is None
