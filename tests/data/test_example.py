"""One slot of a batch, from a record to its padded arrays."""

from dataclasses import replace

import numpy as np
import pytest

from maskrcnn_jax.config import get_config
from maskrcnn_jax.data import example as example_lib
from maskrcnn_jax.data.records import Dataset, Record, make_record
from maskrcnn_jax.data.segmentation import Polygons
from maskrcnn_jax.data.streams import Streams


@pytest.fixture
def data():
    data = get_config().data
    data.short_side, data.long_side, data.buckets = 64, 96, ((64, 96), (96, 64))
    data.max_instances, data.mask_size = 5, 16
    return data


def square(x: float, y: float, side: float, number: int = 1, crowd: bool = False) -> tuple:
    """An instance that fills its box, as `make_record` takes it."""
    box = np.array([x, y, x + side, y + side])
    corners = box[[[0, 1], [2, 1], [2, 3], [0, 3]]].astype(float)
    return box, number, crowd, Polygons([corners]), number, side**2


def dataset_of(*records: Record) -> Dataset:
    """A dataset whose images have their column number as red and their row number as green."""

    def read_image(record: Record) -> np.ndarray:
        image = np.zeros((record.height, record.width, 3), np.uint8)
        image[..., 0] = np.arange(record.width)
        image[..., 1] = np.arange(record.height)[:, None]
        return image

    return Dataset("test", ("a", "b"), (1, 2), list(records), read_image)


def test_a_slot_holds_the_resized_image_and_its_objects(data):
    record = make_record(7, "x.png", 32, 40, [square(4, 8, 10, 2), square(20, 0, 12, 1, True)])
    slot, num_cut = example_lib.make_example(record, dataset_of(record), data, None)
    assert num_cut == 0
    spec = example_lib.example_spec((64, 96), 5, 16)
    assert {k: (v.shape, v.dtype.type) for k, v in slot.items()} == spec
    np.testing.assert_array_equal(slot["image_size"], [64, 80])  # twice the size
    np.testing.assert_allclose(slot["gt_boxes"][:2], [[8, 16, 28, 36], [40, 0, 64, 24]])
    np.testing.assert_array_equal(slot["gt_classes"], [2, 1, 0, 0, 0])
    np.testing.assert_array_equal(slot["gt_crowd"], [False, True, False, False, False])
    np.testing.assert_array_equal(slot["gt_valid"], [True, True, False, False, False])
    assert slot["image_valid"]
    assert np.all(slot["gt_masks"][:2] == 255)  # each fills its box
    for name in ("gt_boxes", "gt_masks"):
        assert not slot[name][2:].any()
    assert not slot["image"][:, 80:].any()
    # Column c of the input lies between columns (c - 1) / 2 and c / 2 of the image.
    np.testing.assert_allclose(slot["image"][30, 10:70, 0], np.arange(10, 70) / 2, atol=0.75)


def test_a_flip_moves_objects_with_the_pixels_beneath_them(data):
    triangle = np.array([[4, 8], [14, 8], [4, 18]], float)  # its right angle at the top left
    instance = (np.array([4, 8, 14, 18]), 1, False, Polygons([triangle]), 1, 50)
    record = make_record(7, "x.png", 32, 40, [instance])
    data.augment.flip = 1.0
    slot, _ = example_lib.make_example(record, dataset_of(record), data, Streams(0, 0, 0))
    np.testing.assert_allclose(slot["gt_boxes"][0], [52, 16, 72, 36])  # 80 - 28, 80 - 8
    mask = slot["gt_masks"][0]
    assert mask[1, -2] == 255  # the right angle is at the top right now
    assert mask[-2, 1] == 0
    assert slot["image"][0, 0, 0] > slot["image"][0, 79, 0]


def test_augmentation_is_a_function_of_its_random_numbers_alone(data):
    record = make_record(7, "x.png", 32, 40, [square(4, 8, 10)])
    dataset = dataset_of(record)
    boxes = []
    for seed in range(12):
        one, two = (
            example_lib.make_example(record, dataset, data, Streams(seed, 0, 0))[0]
            for _ in range(2)
        )
        for name in one:
            np.testing.assert_array_equal(one[name], two[name])
        boxes.append(tuple(one["gt_boxes"][0]))
    assert len(set(boxes)) == 2  # flipped and not


def test_the_largest_objects_are_kept_and_the_others_counted(data):
    sides = [3, 9, 5, 7, 1, 8, 6]
    record = make_record(7, "x.png", 32, 40, [square(0, 0, s, i) for i, s in enumerate(sides, 1)])
    slot, num_cut = example_lib.make_example(record, dataset_of(record), data, None)
    assert num_cut == 2
    np.testing.assert_array_equal(slot["gt_classes"], [2, 3, 4, 6, 7])  # in their own order
    assert slot["gt_valid"].all()


def test_an_image_without_objects_is_ordinary(data):
    record = make_record(7, "x.png", 40, 32, [])
    for streams in (None, Streams(0, 0, 0)):
        slot, num_cut = example_lib.make_example(record, dataset_of(record), data, streams)
        assert num_cut == 0
        assert slot["image"].shape == (96, 64, 3)
        assert slot["image_valid"]
        assert not slot["gt_valid"].any()


def test_an_empty_slot_has_no_image_but_a_size():
    slot = example_lib.empty_example((64, 96), 5, 16)
    assert {k: (v.shape, v.dtype.type) for k, v in slot.items()} == example_lib.example_spec(
        (64, 96), 5, 16
    )
    np.testing.assert_array_equal(slot.pop("image_size"), [64, 96])
    assert not any(array.any() for array in slot.values())


def test_an_image_of_another_size_than_its_record_is_refused(data):
    record = make_record(7, "x.png", 32, 40, [])
    dataset = dataset_of(record)
    turned = replace(record, height=40, width=32)
    read = dataset.read_image
    dataset.read_image = lambda _: read(record)
    with pytest.raises(ValueError, match=r"x\.png has 32 x 40 .* says 40 x 32"):
        example_lib.make_example(turned, dataset, data, None)
