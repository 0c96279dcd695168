"""Examples and folders of prepared datasets that were changed by hand: one clear fault each."""

import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from tensorflow_datasets.proto import tf_example_pb2

from maskrcnn_jax.data.check import check
from maskrcnn_jax.data.masks.segmentation import RLE, Polygons, check_outline, to_mask, to_rle
from maskrcnn_jax.data.prepared.examples import record_of
from maskrcnn_jax.data.prepared.folder import check_folder, check_metadata
from maskrcnn_jax.data.records import Dataset

SETTINGS = settings(max_examples=400, derandomize=True, deadline=None, database=None)
SQUARE = coco_mask.encode(np.asfortranarray(np.pad(np.ones((4, 4), np.uint8), 3)))["counts"]
KINDS = {int: "int64_list", float: "float_list", bytes: "bytes_list"}
SOUND = {
    "height": [10],
    "width": [10],
    "image_id": [b"7"],
    "objects/box": [3.0, 3.0, 7.0, 7.0],
    "objects/class": [1],
    "objects/crowd": [0],
    "objects/area": [16.0],
    "objects/annotation_id": [5],
    "objects/mask": [SQUARE],
    "objects/polygons": [b""],
}


def example(**changes):
    """Returns a message of one square object, with other features; "_" stands for "objects/"."""
    message = tf_example_pb2.Example()
    features = SOUND | {key.replace("_", "objects/", 1) if key[0] == "_" else key: value
                        for key, value in changes.items()}  # fmt: skip
    for name, values in features.items():
        kind = KINDS[type(values[0])] if values else "int64_list"
        getattr(message.features.feature[name], kind).value.extend(values)
    return message


def polygons(*parts) -> list[bytes]:
    return [json.dumps(parts).encode()]


def test_a_sound_example():
    record, odd = record_of(example(), 1, 100)
    assert (record.image_id, record.height, record.width, odd) == (7, 10, 10, [])
    assert record.segmentations == [RLE((10, 10), SQUARE)]
    record, odd = record_of(example(_polygons=polygons([3, 3, 7, 3, 7, 7, 3, 7])), 1, 100)
    assert isinstance(record.segmentations[0], Polygons)
    assert odd == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (dict(_polygons=polygons([0, 0, 2e9, 0, 2e9, 2e9])), "reaches 2e\\+09, far out"),
        (dict(_polygons=polygons([0, 0, float("nan"), 0, 2, 2])), "reaches nan"),
        (dict(_polygons=polygons([0, 0, 5, 5])), "at least three corners"),
        (dict(_polygons=polygons([0, 0, 5, "5", 3, 4])), "not a list of numbers"),
        (dict(_polygons=polygons([0, 0, 9, 9] * 20_000)), "pixels long; at most"),
        (dict(_polygons=polygons([0.1, 0.2] * 100_001)), "100,001 corners; at most 100,000"),
        (dict(_polygons=[b"[]"]), r"polygons are \[\]; expected a list"),
        (dict(_polygons=[b"7"]), "polygons are 7; expected a list"),
        (dict(_polygons=[b"[[[[["]), "Expecting value"),
        (dict(_mask=[b"0"]), "add up to 0 pixels; expected 10 x 10"),
        (dict(_mask=[coco_mask.encode(np.ones((9, 9), np.uint8, "F"))["counts"]]), "81 pixels"),
        (dict(_mask=[b"\xff"]), "not in COCO's code"),
        (dict(_mask=[b""]), "not in COCO's code"),
    ],
)
def test_an_object_without_a_usable_mask_becomes_a_crowd_region(changes, reason):
    record, [(annotation_id, fault)] = record_of(example(**changes), 1, 100)
    assert annotation_id == 5
    assert np.array_equal(to_mask(record.segmentations[0], 10, 10).nonzero()[0], [3, 3, 3, 3] + [
        row for row in (4, 5, 6) for _ in range(4)])  # fmt: skip
    assert record.crowd.tolist() == [True]
    with pytest.raises(type(fault), match=f"{reason}.*crowd region"):
        raise fault


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (dict(height=[0]), "height and width are"),
        (dict(height=[2**40]), r"more than the 100 of config\.data\.max_pixels"),
        (dict(height=[]), "0 values height"),
        (dict(height=[10, 10]), "2 values height"),
        (dict(width=[10.0]), "width is a float_list; expected int64_list"),
        (dict(image_id=[b"[1]"]), "image_id is"),
        (dict(image_id=[b"true"]), "image_id is"),
        (dict(image_id=[b"{"]), "Expecting"),
        (dict(_class=[2]), "class 2; expected 1 to 1"),
        (dict(_class=[2**40]), "class 1099511627776"),
        (dict(_class=[]), "1 masks, but .*class: 0"),
        (dict(_box=[3.0, 3.0, 7.0]), "box: 3"),
        (dict(_box=[3.0, 3.0, float("inf"), 7.0]), "not a finite number"),
        (dict(_box=[3.0, 3.0, 1e30, 7.0]), "leaves the image"),
        (dict(_box=[7.0, 3.0, 3.0, 7.0]), "no area"),
        (dict(_mask=[3]), "objects/mask is a int64_list"),
    ],
)
def test_an_example_that_cannot_be_used_is_explained(changes, reason):
    with pytest.raises(ValueError, match=reason):
        record_of(example(**changes), 1, 100)


NUMBERS = st.one_of(
    st.floats(width=32), st.integers(-(2**63), 2**63 - 1), st.text(max_size=3), st.none()
)
FEATURES = st.sampled_from(sorted(SOUND))
VALUES = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5),
    st.lists(st.floats(width=32), max_size=5),
    st.lists(st.binary(max_size=12), max_size=5),
    st.lists(st.lists(NUMBERS, max_size=9), max_size=3).map(lambda p: [json.dumps(p).encode()]),
    st.lists(st.integers(48, 111), max_size=9).map(lambda digits: [bytes(digits)]),
)


@SETTINGS
@given(st.dictionaries(FEATURES, VALUES, max_size=3))
def test_whatever_an_example_holds_it_is_a_record_or_a_fault(changes):
    try:
        record, _ = record_of(example(**changes), 3, 1000)
    except (ValueError, RecursionError):
        return
    dataset = Dataset("x", ("a", "b", "c"), (1, 2, 3), [record], lambda record: None)
    check(dataset)
    for segmentation in record.segmentations:
        to_rle(segmentation, record.height, record.width)


@SETTINGS
@given(st.lists(st.tuples(st.floats(), st.floats()), min_size=3, max_size=6))
def test_what_passes_as_an_outline_can_be_filled(corners):
    part = np.array(corners)
    try:
        check_outline([part], 30, 20)
    except ValueError:
        return
    assert to_mask(Polygons([part]), 30, 20).shape == (30, 20)


def info(**changes) -> dict:
    return {"splits": [{"name": "train", "shardLengths": ["4"]} | changes]}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([], "no list of splits"),
        ({"splits": {}}, "no list of splits"),
        ({"splits": [7]}, "has the split 7"),
        (info(name="../x"), "has the split"),
        (info(filepathTemplate="/elsewhere/{SPLIT}"), "nothing outside the dataset's folder"),
        (info(filepathTemplate="../{SPLIT}.{FILEFORMAT}"), "nothing outside the dataset's folder"),
        (info(filepathTemplate=7), "nothing outside the dataset's folder"),
        (info(shardLengths=["1"] * 20_000), "20000 shards; the folder has 1 files"),
        (info(shardLengths="4"), "'4' shards"),
        (info(shardLengths=["-4"]), "expected whole numbers"),
        (info(shardLengths=[None]), "expected whole numbers"),
    ],
)
def test_splits_that_cannot_be_are_refused(tmp_path, content, reason):
    (tmp_path / "dataset_info.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=reason):
        check_folder(tmp_path)


def test_a_shard_that_is_no_regular_file_is_refused(tmp_path):
    (tmp_path / "dataset_info.json").write_text(json.dumps(info()))
    check_folder(tmp_path)
    os.mkfifo(tmp_path / "instances-train.array_record-00000-of-00001")
    with pytest.raises(ValueError, match="00001 is neither a regular file"):
        check_folder(tmp_path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (dict(class_names="cat"), "class_names"),
        (dict(class_names=["cat", 7]), "class_names"),
        (dict(class_names=["cat", "cat"]), "class_names"),
        (dict(class_names=[]), "class_names"),
        (dict(category_ids=[1, "2"]), "category_ids"),
        (dict(category_ids=[1, True]), "category_ids"),
        (dict(category_ids=[1]), "category_ids"),
        (dict(names=["train"]), "names"),
        (dict(names={"train": 7}), "names"),
    ],
)
def test_metadata_of_other_types_are_refused(changes, reason):
    sound = dict(class_names=["cat", "dog"], category_ids=[1, 2], names={"train": "pets"})
    check_metadata(sound, "x")
    with pytest.raises(ValueError, match=f"x has the {reason}"):
        check_metadata(sound | changes, "x")
