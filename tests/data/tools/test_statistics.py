import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from maskrcnn_jax.cli.data import main
from maskrcnn_jax.config import Config, get_config
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.data.formats import coco, shapes
from maskrcnn_jax.data.input.tiles import training_samples, whole_images
from maskrcnn_jax.data.tools import bucket_choice
from maskrcnn_jax.data.tools.anchor_recall import best_iou, level_shapes
from maskrcnn_jax.data.tools.statistics import levels, pixel_statistics, shown_objects, statistics
from maskrcnn_jax.data.tools.statistics_report import as_picture, as_text
from maskrcnn_jax.models.config import AnchorsConfig
from maskrcnn_jax.ops import roi_align
from maskrcnn_jax.ops.anchors import pyramid_anchors
from maskrcnn_jax.ops.boxes import iou

ROOT = Path(__file__).resolve().parents[3]


def random_boxes(count: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 1, (count, 2, 2)) ** 2 * (width, height)
    return np.concatenate([corners.min(1), corners.max(1) + 1], 1).astype(np.float32)


@pytest.mark.parametrize("strides", ["quotient", "nominal"])
@pytest.mark.parametrize("rounded", [True, False])
@pytest.mark.parametrize("bucket", [(96, 160), (416, 64)])
def test_best_anchor_is_that_of_a_search_through_all(bucket, rounded, strides):
    boxes = random_boxes(300, *bucket)
    anchors = AnchorsConfig(
        sizes=(8.0, 16.0, 32.0, 64.0, 128.0),
        aspect_ratios=(0.5, 1.0, 2.0),
        rounded=rounded,
        strides=strides,
    )
    everywhere = np.concatenate(pyramid_anchors(level_shapes(bucket), bucket, **asdict(anchors)))
    expected = np.asarray(iou(boxes, everywhere)).max(1)
    np.testing.assert_allclose(best_iou(boxes, bucket, anchors), expected, rtol=1e-5)
    assert 0.5 < expected.max() < 1


def test_anchors_lie_on_the_levels_of_the_fpn():
    assert level_shapes((800, 1344)) == [(200, 336), (100, 168), (50, 84), (25, 42), (13, 21)]


def test_levels_are_those_of_roi_align():
    boxes = random_boxes(500, 800, 1300)
    for canonical in (4.0, 4.5):
        expected = roi_align.assign_levels(boxes, 4, canonical, 224.0)
        np.testing.assert_array_equal(levels(boxes, canonical, 224.0), expected)
        assert set(np.asarray(expected).tolist()) == {0, 1, 2, 3}


def test_padding_of_the_configured_buckets():
    data = get_config().data
    found = bucket_choice.padding({(480, 640): 3, (640, 480): 1, (100, 1000): 1}, data)
    assert found["images"] == [3, 1, 1, 0]
    # 480 x 640 becomes 800 x 1066, 100 x 1000 becomes 133 x 1333.
    shown, padded = 4 * 800 * 1066 + 133 * 1333, 4 * 800 * 1088 + 800 * 1344
    assert found["padding"] == pytest.approx(1 - shown / padded)
    assert found["shrunk"] == 0
    data.buckets = ((800, 1088),)
    assert bucket_choice.padding({(480, 640): 3, (640, 480): 1}, data)["shrunk"] == 1


def test_choices_of_buckets():
    data = get_config().data
    sizes = {(480, 640): 60, (640, 480): 20, (427, 640): 40, (640, 427): 15, (500, 500): 1}
    found = bucket_choice.choices(sizes, data)
    assert found[0]["buckets"] == [[1216, 1216]]
    assert found[1]["buckets"] == [[800, 1216], [1216, 800]]
    assert found[3]["buckets"] == [[800, 1088], [800, 1216], [1088, 800], [1216, 800]]
    paddings = [choice["padding"] for choice in found]
    assert paddings == sorted(paddings, reverse=True)
    assert all(sum(choice["images"]) == 136 for choice in found)
    # The fourth would save 1.6 % of the pixels, the third saves more than 2 %.
    assert paddings[2] - paddings[3] == pytest.approx(0.016, abs=1e-3)
    assert bucket_choice.suggested(found) == found[2]
    # One odd image would cost all others padding.
    first, second = bucket_choice.choices({(480, 640): 1000, (450, 640): 1}, data)
    assert second["images"] == [1000, 1]
    assert bucket_choice.suggested([first, second]) == second
    # Ten images of four sizes are sooner padded than compiled for four times.
    sizes = {(480, 640): 4, (640, 480): 2, (427, 640): 3, (640, 427): 1}
    few = bucket_choice.suggested(bucket_choice.choices(sizes, data))
    assert len(few["buckets"]) == 2


def test_a_choice_shows_what_configuring_it_gives():
    data = get_config().data
    rng = np.random.default_rng(0)
    sizes = Counter((int(h), int(w)) for h, w in rng.integers(200, 900, (100, 2)))
    for choice in bucket_choice.choices(sizes, data):
        data.buckets = tuple(tuple(bucket) for bucket in choice["buckets"])
        configured = bucket_choice.padding(sizes, data)
        assert configured.pop("shrunk") == 0
        assert configured == choice


def test_square_images_keep_their_long_side():
    data = get_config().data
    set_values(data, dict(resize="square", buckets=((256, 256),)))
    found = bucket_choice.choices({(100, 200): 3, (200, 100): 1}, data)
    assert [choice["buckets"] for choice in found] == [[[256, 256]], [[128, 256], [256, 128]]]
    assert [choice["padding"] for choice in found] == [0.5, 0.0]


@pytest.fixture
def config() -> Config:
    config = get_config()
    set_values(config.data, dict(resize="square", buckets=((64, 96), (96, 64)), max_instances=2))
    config.model.anchors.sizes = (8.0, 16.0, 32.0, 64.0, 128.0)
    config.model.roi.canonical_size = 32.0
    return config


@pytest.fixture
def dataset(write_coco):
    """Image 7, 40 x 60, has two cats, a dog and a crowd region; image 8, 60 x 40, nothing."""
    images = [
        dict(id=7, file_name="7.png", height=40, width=60),
        dict(id=8, file_name="8.png", height=60, width=40),
    ]
    annotations = [
        dict(area=400),
        dict(bbox=[0, 0, 40, 10], area=1500),
        dict(category_id=90, bbox=[50, 30, 5, 10], area=9216),
        dict(iscrowd=1),
    ]
    paths = write_coco(annotations, images)
    Image.new("RGB", (60, 40), (10, 20, 30)).save(paths["images"] / "7.png")
    Image.new("RGB", (40, 60), (40, 20, 255)).save(paths["images"] / "8.png")
    return coco.read(**paths)


def test_counts_and_sizes_worked_by_hand(dataset, config):
    stats = statistics(dataset, config)
    assert stats["classes"] == [
        {"name": "cat", "objects": 2, "images": 1},
        {"name": "dog", "objects": 1, "images": 1},
    ]
    objects = stats["objects"]
    assert (objects["all"], objects["crowd"], objects["images_without"]) == (3, 1, 1)
    assert (objects["per_image"]["mean"], objects["per_image"]["max"]) == (1.5, 3)
    assert objects["cut_by_max_instances"] == {"images": 1, "objects": 2}
    # 1.6 times as large at the input: 32 x 32, 64 x 16 and 8 x 16; the canonical side is 32.
    sides = {
        name: level["side"] and level["side"]["p50"] for name, level in stats["levels"].items()
    }
    assert sides["p4"] == 32
    assert sides["p5"] is None
    assert {name: level["objects"] for name, level in stats["levels"].items()} == dict(
        p2=1, p3=0, p4=2, p5=0
    )
    assert stats["levels"]["p2"]["aspect_ratio"]["p50"] == pytest.approx(2)
    recall = stats["anchor_recall"]
    assert {name: recall[name]["objects"] for name in ("small", "medium", "large")} == dict(
        small=1, medium=1, large=1
    )
    assert recall["all"]["mean_iou"] == pytest.approx(
        np.mean([recall[n]["mean_iou"] for n in ("small", "medium", "large")])
    )
    assert stats["histograms"]["objects per image"]["counts"] == [1, 0, 0, 1, 0, 0, 0, 0, 0]
    assert sum(stats["histograms"]["best IoU with an anchor"]["counts"]) == 3
    assert stats["buckets"]["configured"]["images"] == [1, 1]


def test_pixels_over_all_channels(dataset, tmp_path):
    found = pixel_statistics(dataset, 0)
    assert found == {"images": 2, "mean": [25, 20, 142.5], "std": [15, 0, 112.5], "bits": 8}
    assert pixel_statistics(dataset, 1)["mean"] == [10, 20, 30]
    Path(dataset.records[0].path).unlink()
    left = {"images": 1, "mean": [40, 20, 255], "std": [0, 0, 0], "bits": 8}
    assert pixel_statistics(dataset, 0) == left
    Path(dataset.records[1].path).unlink()
    assert pixel_statistics(dataset, 0) == {"images": 0}


def test_tiles_show_their_part_of_boxes(dataset, config):
    set_values(config.data, dict(resize="square", buckets=((32, 32),)))
    set_values(config.data.augment, dict(tile=32, min_visible=0.3))
    samples = training_samples(dataset.records[:1], config.data.augment)
    found = shown_objects(samples, config.data)
    # Counts of the tiles from (0, 0), (28, 0), (0, 8) and (28, 8).
    expected = [
        [10, 5, 30, 25],
        [0, 0, 32, 10],
        [0, 0, 12, 10],
        [10, 0, 30, 17],
        [22, 22, 27, 32],
    ]
    np.testing.assert_array_equal(found.boxes, expected)
    assert found.areas.tolist() == [400, 1500, 1500, 400, 9216]
    whole = shown_objects(whole_images(dataset.records), config.data)
    assert len(whole.boxes) == 3


def test_text_and_picture_show_the_numbers(dataset, config):
    stats = json.loads(json.dumps(statistics(dataset, config)))
    text = as_text(stats)
    assert "2 images, 3 objects and 1 crowd regions of 2 classes" in text
    assert "config.data.max_instances cuts 2 objects of 1 images" in text
    assert "mean (25.00, 20.00, 142.50)" in text
    assert "suggested: config.data.buckets = ((96, 96),)" in text  # two images
    picture = as_picture(stats)
    assert picture.shape[1:] == (1280, 3)
    assert (picture < 255).any()


def test_images_without_objects_have_statistics(write_coco, config):
    stats = statistics(coco.read(**write_coco()), config)
    assert stats["anchor_recall"]["all"] == {"objects": 0}
    assert "0 objects" in as_text(stats)
    assert as_picture(stats).shape[1] == 1280


def test_validation_has_no_tiles(config):
    config.data.augment.tile = 32
    dataset = shapes.read(count=2, seed=0, size=64)
    assert statistics(dataset, config)["samples"] == 8
    assert statistics(dataset, config, is_training=False)["samples"] == 2


def test_the_command(tmp_path, capsys):
    few = ("--config.data.train.count=20", "--config.data.val.count=10")
    command = ["stats", f"--config={ROOT}/configs/shapes.py", *few, "--max=3"]
    assert main([*command, f"--out={tmp_path}"]) == 0
    text = capsys.readouterr().out
    assert "shapes-0: 20 images" in text
    assert "shapes-1: 10 images" in text
    assert "pixels of 3 images" in text
    assert json.loads((tmp_path / "stats_val.json").read_text())["images"] == 10
    assert cv2.imread(str(tmp_path / "stats_train.png")).shape[1] == 1280
    assert main([*command, "--max=-1"]) == 2
    assert main([*command, "--config.data.buckets=((60, 60),)"]) == 2
    assert "data.buckets has (60, 60)" in capsys.readouterr().err
