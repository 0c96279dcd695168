"""Keypoints on their way into a batch: read, placed, mirrored, padded."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from maskrcnn_jax.config import get_config
from maskrcnn_jax.data import datasets
from maskrcnn_jax.data.augment.augmentation import turned_by_quarters
from maskrcnn_jax.data.augment.geometry import Geometry
from maskrcnn_jax.data.augment.placement import place_keypoints
from maskrcnn_jax.data.augment.random_streams import Streams
from maskrcnn_jax.data.input import pipeline, sample
from maskrcnn_jax.data.input.tiles import whole_images
from maskrcnn_jax.data.masks.segmentation import Polygons
from maskrcnn_jax.data.records import Dataset, Instance, make_record
from maskrcnn_jax.data.tools.convert import coco_json
from maskrcnn_jax.keypoint_set import KeypointSet

KEYPOINTS = KeypointSet(("nose", "left", "right"), (0, 2, 1), ((1, 2),), (0.05,) * 3)
POINTS = np.float32([[10, 12, 2], [6, 9, 1], [0, 0, 0]])


def record_of(*points, left=4, height=32, width=40):
    box = np.array([left, 8, left + 10, 18])
    corners = box[[[0, 1], [2, 1], [2, 3], [0, 3]]].astype(float)
    instances = [
        Instance(box, 1, False, Polygons([corners]), i, 100.0, known)
        for i, known in enumerate(points, 1)
    ]
    return make_record(7, "x.png", height, width, instances)


def dataset_of(*records):
    def read_image(record):
        return np.full((record.height, record.width, 3), 9, np.uint8)

    return Dataset("test", ("person",), (1,), list(records), read_image, keypoints=KEYPOINTS)


@pytest.fixture
def data():
    data = get_config().data
    data.short_side, data.long_side, data.buckets = 64, 96, ((64, 96), (96, 64))
    data.max_instances, data.mask_size = 3, 8
    return data


def test_they_follow_the_image(data):
    record = record_of(POINTS, None)
    slot, _ = sample.make_example(record, dataset_of(record), data)
    assert slot["gt_keypoints"].tolist() == [
        [[20, 24, 2], [12, 18, 1], [0, 0, 0]],
        [[0, 0, 0]] * 3,
        [[0, 0, 0]] * 3,
    ]
    spec = sample.example_spec((64, 96), 3, 8, keypoints=3)
    assert {k: (v.shape, v.dtype.type) for k, v in slot.items()} == spec


def test_a_batch_without_them_is_as_before(data):
    record = record_of(POINTS)
    plain, _ = sample.make_example(record, replace(dataset_of(record), keypoints=None), data)
    assert "gt_keypoints" not in plain
    slot, _ = sample.make_example(record, dataset_of(record), data)
    slot.pop("gt_keypoints")
    for name, array in plain.items():
        np.testing.assert_array_equal(array, slot[name])


def test_left_and_right_change_places_in_a_mirror(data):
    record = record_of(POINTS)
    data.augment.flip = 1.0
    slot, _ = sample.make_example(record, dataset_of(record), data, Streams(0, 0, 0))
    assert slot["gt_keypoints"][0].tolist() == [[60, 24, 2], [0, 0, 0], [68, 18, 1]]


@pytest.mark.parametrize("flips", [{"flip_x": True}, {"flip_y": True}, {"transpose": True}])
def test_mirrored_twice_they_are_where_they_were(flips):
    geometry = Geometry((0, 0, 40, 40), (40, 40), (40, 40), **flips)
    once = record_of(place_keypoints(record_of(POINTS), np.array([0]), geometry, KEYPOINTS)[0])
    twice = place_keypoints(once, np.array([0]), geometry, KEYPOINTS)
    np.testing.assert_array_equal(twice[0], POINTS)
    assert geometry.is_mirror
    assert not np.array_equal(once.keypoints[0], POINTS)


def test_a_turned_image_keeps_left_and_right():
    geometry = turned_by_quarters(Geometry((0, 0, 40, 32), (40, 32), (40, 32)), 1)
    placed = place_keypoints(record_of(POINTS), np.array([0]), geometry, KEYPOINTS)
    assert placed.tolist() == [[[20, 10, 2], [23, 6, 1], [0, 0, 0]]]  # clockwise: 32 - y, x
    geometry = Geometry((0, 0, 40, 32), (32, 40), (32, 40), angle=180.0)
    placed = place_keypoints(record_of(POINTS), np.array([0]), geometry, KEYPOINTS)
    np.testing.assert_allclose(placed[0, :2], [[30, 20, 2], [34, 23, 1]], atol=1e-4)


def test_what_is_cut_off_is_not_known():
    window = Geometry((8, 0, 40, 32), (32, 32), (32, 32))
    placed = place_keypoints(record_of(POINTS), np.array([0]), window, KEYPOINTS)
    assert placed.tolist() == [[[2, 12, 2], [0, 0, 0], [0, 0, 0]]]
    frame = Geometry((0, 0, 40, 32), (32, 40), (11, 40))
    placed = place_keypoints(record_of(POINTS), np.array([0]), frame, KEYPOINTS)
    assert placed.tolist() == [[[0, 0, 0], [6, 9, 1], [0, 0, 0]]]


def test_positions_may_be_those_of_annotations():
    """As torchvision trains: half a pixel of the image less, whatever its size becomes."""
    geometry = Geometry((0, 0, 40, 32), (64, 80), (64, 80))
    whole = replace(KEYPOINTS, half_pixel=False)
    placed = place_keypoints(record_of(POINTS), np.array([0]), geometry, whole)
    assert placed[0, :2].tolist() == [[19, 23, 2], [11, 17, 1]]


def test_pasted_objects_bring_theirs(data):
    target, source = record_of(POINTS), record_of(POINTS + np.float32([16, 1, 0]), left=20)
    data.augment.flip, data.augment.copy_paste = 0.0, 1.0
    dataset = dataset_of(target, source)
    others = whole_images([source])
    for seed in range(20):
        slot, _ = sample.make_example(target, dataset, data, Streams(seed, 0, 0), others=others)
        known = slot["gt_keypoints"][slot["gt_valid"]]
        if len(known) == 2:
            break
    assert known[:, :, 2].tolist() == [[2, 1, 0]] * 2
    assert known[:, 0, 0].tolist() == [20, 52]


def write_coco(folder, entries):
    Image.new("L", (40, 32)).save(folder / "a.png")
    base = {"image_id": 1, "category_id": 1, "bbox": [4, 8, 10, 10], "iscrowd": 0}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 32, "width": 40}],
        "annotations": [{"id": i, **base, **entry} for i, entry in enumerate(entries, 1)],
        "categories": [{"id": 1, "name": "person", "keypoints": list(KEYPOINTS.names)}],
    }
    (folder / "a.json").write_text(json.dumps(content))


@pytest.fixture
def config(tmp_path):
    """Of a COCO data set of a person with two keypoints and one with none, without masks."""
    write_coco(tmp_path, [{"keypoints": [9, 11, 2, 5, 8, 1, 0, 0, 0]}, {}])
    config = get_config()
    config.data.format = "coco"
    paths = {"root": str(tmp_path), "images": "", "annotations": "a.json"}
    config.data.train = config.data.val = ConfigDict(paths)
    config.data.buckets = ((64, 64),)
    config.data.resize, config.data.max_instances, config.data.mask_size = "square", 3, 8
    config.model.masks = False
    config.model.keypoints.names = KEYPOINTS.names
    config.model.keypoints.flip_pairs = (("left", "right"),)
    config.eval.batch_size = 2
    config.train.best_metric = "keypoints/AP"
    return config


def test_batches_have_them_in_empty_slots_too(config):
    config.validate()
    dataset = datasets.load_for(config, "val")
    ((batch, _),) = pipeline.eval_batches(dataset, config)
    assert batch["gt_keypoints"].shape == (2, 3, 3, 3)
    np.testing.assert_allclose(batch["gt_keypoints"][0, 0, :2, 0], 1.6 * np.array([9.5, 5.5]))
    assert not batch["gt_keypoints"][1].any()


def test_they_are_written_as_they_were_read(config):
    dataset = datasets.load_for(config, "train")
    content = coco_json(dataset, ["a.png"])
    first, second = content["annotations"]
    assert first["keypoints"] == [9, 11, 2, 5, 8, 1, 0, 0, 0]
    assert [entry["num_keypoints"] for entry in (first, second)] == [2, 0]
    assert content["categories"][0]["keypoints"] == list(KEYPOINTS.names)
    plain = coco_json(replace(dataset, keypoints=None), ["a.png"])
    assert "keypoints" not in plain["annotations"][0]
    assert "keypoints" not in plain["categories"][0]


def test_images_with_few_are_left_out_of_training(config):
    config.data.min_keypoints = 2
    assert len(datasets.load_for(config, "train").records) == 1
    config.data.min_keypoints = 3
    with pytest.raises(ValueError, match=r"has 3 known keypoints; lower config\.data\.min_keyp"):
        datasets.load_for(config, "train")
    assert len(datasets.load_for(config, "val").records) == 1


def test_data_without_any_are_refused(config, tmp_path):
    write_coco(tmp_path, [{}])
    with pytest.raises(ValueError, match=r"no object of .*format 'coco', has one of the keypoin"):
        datasets.load_for(config, "train")
    config.data.format = "shapes"
    config.data.train = ConfigDict({"count": 2, "seed": 0})
    with pytest.raises(ValueError, match="formats coco and labelme have keypoints"):
        datasets.load_for(config, "train")


def test_sides_without_pairs_are_refused(config):
    config.model.keypoints.flip_pairs = ()
    with pytest.raises(ValueError, match=r"flip is 0\.5, and in a mirrored image 'left' is anoth"):
        config.validate()
    config.data.augment.flip = 0.0
    config.validate()
    config.model.keypoints.names = ()
    with pytest.raises(ValueError, match=r"best_metric is 'keypoints/AP', but the model has no"):
        config.validate()
