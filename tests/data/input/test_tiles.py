"""Tiles: they cover their image, hold small objects whole, and keep their order."""

import itertools

import numpy as np
import pytest

from maskrcnn_jax.config import get_config
from maskrcnn_jax.data.input.tiles import training_samples, whole_images
from maskrcnn_jax.data.masks.segmentation import Polygons
from maskrcnn_jax.data.records import Instance, make_record
from maskrcnn_jax.images.tiles import tile_windows


@pytest.fixture
def augment():
    return get_config().data.augment


def record_of(height: int, width: int, *boxes, crowd: bool = False, name: str = "a"):
    instances = [
        Instance(box, 1, crowd, Polygons([np.array(box, float)[[[0, 1], [2, 1], [2, 3]]]]), i, 1)
        for i, box in enumerate(boxes)
    ]
    return make_record(name, f"{name}.png", height, width, instances)


def test_tiles_worked_by_hand():
    assert tile_windows(10, 10, 10, 0) == [(0, 0, 10, 10)]
    assert tile_windows(7, 9, 10, 3) == [(0, 0, 9, 7)]  # an image that is smaller
    assert tile_windows(10, 20, 10, 0) == [(0, 0, 10, 10), (10, 0, 20, 10)]
    # Rows from 0 and, ending with the image, 2; columns from 0, 6 and, ending with it, 7.
    assert tile_windows(12, 17, 10, 4) == [
        (0, 0, 10, 10),
        (6, 0, 16, 10),
        (7, 0, 17, 10),
        (0, 2, 10, 12),
        (6, 2, 16, 12),
        (7, 2, 17, 12),
    ]


@pytest.mark.parametrize(("side", "overlap"), [(16, 0), (16, 5), (16, 15), (40, 13)])
@pytest.mark.parametrize(("height", "width"), [(50, 41), (16, 100), (33, 16), (9, 30)])
def test_tiles_cover_the_image_and_hold_small_objects_whole(height, width, side, overlap):
    windows = tile_windows(height, width, side, overlap)
    assert len(set(windows)) == len(windows)
    covered = np.zeros((height, width), bool)
    for x1, y1, x2, y2 in windows:
        assert (y2 - y1, x2 - x1) == (min(side, height), min(side, width))
        covered[y1:y2, x1:x2] = True
    assert covered.all()
    size = max(overlap, 1)
    for x, y in itertools.product(range(width - size + 1), range(height - size + 1)):
        assert any(
            x1 <= x and x + size <= x2 and y1 <= y and y + size <= y2 for x1, y1, x2, y2 in windows
        )


def test_without_tiles_each_image_is_a_sample(augment):
    records = [record_of(20, 30), record_of(5, 8)]
    samples = training_samples(records, augment)
    assert samples == whole_images(records)
    assert [sample.window for sample in samples] == [(0, 0, 30, 20), (0, 0, 8, 5)]
    assert [sample.size for sample in samples] == [(20, 30), (5, 8)]


def test_tiles_come_image_after_image_row_after_row(augment):
    augment.tile, augment.tile_overlap = 16, 4
    records = [record_of(20, 30, name="a"), record_of(10, 20, name="b")]
    samples = training_samples(records, augment)
    assert [(sample.record.image_id, sample.window) for sample in samples] == [
        ("a", (0, 0, 16, 16)),
        ("a", (12, 0, 28, 16)),
        ("a", (14, 0, 30, 16)),
        ("a", (0, 4, 16, 20)),
        ("a", (12, 4, 28, 20)),
        ("a", (14, 4, 30, 20)),
        ("b", (0, 0, 16, 10)),
        ("b", (4, 0, 20, 10)),
    ]


def test_tiles_without_objects_may_be_dropped(augment):
    augment.tile, augment.empty_tiles = 10, False
    record = record_of(10, 40, (2, 2, 8, 8), (19.5, 0, 25, 5))
    # The second object lies by 9 percent in the second tile, 91 in the third.
    windows = [sample.window for sample in training_samples([record], augment)]
    assert windows == [(0, 0, 10, 10), (20, 0, 30, 10)]
    augment.min_visible = 0.05
    assert len(training_samples([record], augment)) == 3
    augment.min_visible = 0.0
    assert len(training_samples([record], augment)) == 3  # the last one shows nothing at all
    crowd = record_of(10, 10, (0, 0, 10, 10), crowd=True)
    assert training_samples([record, crowd], augment)[-1].record is record


def test_no_object_in_any_tile_is_an_error_that_says_so(augment):
    augment.tile, augment.empty_tiles = 10, False
    with pytest.raises(ValueError, match=r"none of the tiles of 1 images .*empty_tiles"):
        training_samples([record_of(20, 20)], augment)
    assert training_samples([], augment) == []
