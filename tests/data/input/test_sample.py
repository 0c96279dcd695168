"""One slot of a batch, from a record to its padded arrays."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from maskrcnn_jax.config import get_config
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.data.augment.random_streams import Streams
from maskrcnn_jax.data.input import sample
from maskrcnn_jax.data.input.tiles import whole_images
from maskrcnn_jax.data.masks.segmentation import Polygons
from maskrcnn_jax.data.records import Dataset, Instance, Record, make_record


@pytest.fixture
def data():
    data = get_config().data
    data.short_side, data.long_side, data.buckets = 64, 96, ((64, 96), (96, 64))
    data.max_instances, data.mask_size = 5, 16
    return data


def square(x: float, y: float, side: float, number: int = 1, crowd: bool = False) -> Instance:
    """An instance that fills its box."""
    box = np.array([x, y, x + side, y + side])
    corners = box[[[0, 1], [2, 1], [2, 3], [0, 3]]].astype(float)
    return Instance(box, number, crowd, Polygons([corners]), number, side**2)


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
    slot, num_cut = sample.make_example(record, dataset_of(record), data, None)
    assert num_cut == 0
    spec = sample.example_spec((64, 96), 5, 16)
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
    instance = Instance(np.array([4, 8, 14, 18]), 1, False, Polygons([triangle]), 1, 50)
    record = make_record(7, "x.png", 32, 40, [instance])
    data.augment.flip = 1.0
    slot, _ = sample.make_example(record, dataset_of(record), data, Streams(0, 0, 0))
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
            sample.make_example(record, dataset, data, Streams(seed, 0, 0))[0] for _ in range(2)
        )
        for name in one:
            np.testing.assert_array_equal(one[name], two[name])
        boxes.append(tuple(one["gt_boxes"][0]))
    assert len(set(boxes)) == 2  # flipped and not


def switch_all_on(data) -> None:
    set_values(
        data.augment,
        dict(
            dict(
                vertical_flip=0.5,
                quarter_turns=0.5,
                rotate=30.0,
                crop=0.7,
                scale_range=(0.4, 2.0),
                copy_paste=1.0,
            )
        ),
    )


@pytest.mark.parametrize("seed", range(30))
def test_objects_lie_on_their_pixels_whatever_happens(data, seed):
    """Each pixel's colour says where in its image it was: inside the square of its object."""
    switch_all_on(data)
    squares = [[(4, 8, 10), (20, 2, 12)], [(2, 17, 13), (18, 14, 16)]]
    records = [
        make_record(i, "x.png", 40, 50, [square(*s, 1 + 2 * i + j) for j, s in enumerate(some)])
        for i, some in enumerate(squares)
    ]
    others = whole_images(records[1:])
    slot, _ = sample.make_example(
        records[0], dataset_of(*records), data, Streams(seed, 0, 0), others=others
    )
    count = int(slot["gt_valid"].sum())
    assert slot["image_valid"]
    for box, mask, number in zip(
        slot["gt_boxes"][:count], slot["gt_masks"][:count], slot["gt_classes"], strict=False
    ):
        assert np.all(box[2:] > box[:2])
        assert np.all((box >= 0) & (box <= np.tile(slot["image_size"][::-1], 2)))
        centres = (np.arange(16) + 0.5) / 16
        x, y = np.meshgrid(*(box[i] + centres * (box[i + 2] - box[i]) for i in (0, 1)))
        inside = cv2.erode(mask, np.ones((5, 5)), borderValue=0) == 255  # away from the border
        column, row = x[inside].astype(int), y[inside].astype(int)
        x1, y1, side = squares[(number - 1) // 2][(number - 1) % 2]
        near = 16 / min(box[2:] - box[:2])  # a pixel is larger than a cell where boxes are small
        if near < 2:
            red, green, _ = slot["image"][row, column].T
            assert np.all((red >= x1 - 1) & (red <= x1 + side))
            assert np.all((green >= y1 - 1) & (green <= y1 + side))


def test_pasted_objects_are_there_and_nothing_else_is_changed(data):
    """The other image is a function of the seed; half of its objects come."""
    data.augment.flip = 0.0
    data.augment.copy_paste = 1.0
    record = make_record(7, "x.png", 32, 40, [])
    other = make_record(8, "y.png", 32, 40, [square(4, 8, 10, 1), square(20, 2, 12, 2)])
    dataset, numbers = dataset_of(record, other), []
    plain, _ = sample.make_example(record, dataset, data, None)
    for seed in range(40):
        slot, num_cut = sample.make_example(
            record, dataset, data, Streams(seed, 0, 0), others=whole_images([other])
        )
        assert num_cut == 0
        numbers.append(tuple(slot["gt_classes"][slot["gt_valid"]].tolist()))
        covered = np.zeros((64, 96), bool)
        for x1, y1, x2, y2 in np.rint(slot["gt_boxes"][slot["gt_valid"]]).astype(int):
            covered[y1:y2, x1:x2] = True
        # The other image has the same ramps of colour in the same places.
        np.testing.assert_array_equal(slot["image"], plain["image"])
        assert covered.any() == bool(numbers[-1])
    assert {n: 4 <= numbers.count(n) <= 17 for n in ((), (1,), (2,), (1, 2))} == {
        (): True,
        (1,): True,
        (2,): True,
        (1, 2): True,
    }


def test_both_images_of_a_paste_are_mirrored_each_for_itself(data):
    data.augment.copy_paste = 1.0
    record = make_record(7, "x.png", 32, 40, [])
    others = whole_images([make_record(8, "y.png", 32, 40, [square(2, 8, 10)])])
    seen = set()
    for seed in range(60):
        slot, _ = sample.make_example(
            record, dataset_of(record), data, Streams(seed, 0, 0), others=others
        )
        if slot["gt_valid"].any():
            left = slot["image"][0, 0, 0] < slot["image"][0, 79, 0]  # where the ramp begins
            seen.add((bool(left), bool(slot["gt_boxes"][0, 0] < 40)))
    assert len(seen) == 4


def test_pasted_objects_count_among_the_slots(data):
    data.augment.copy_paste, data.max_instances = 1.0, 3
    record = make_record(7, "x.png", 32, 40, [square(0, 0, side) for side in (3, 9, 5)])
    others = whole_images([make_record(8, "y.png", 32, 40, [square(20, 8, 11, 2)] * 3)])
    cut = []
    for seed in range(12):
        slot, num_cut = sample.make_example(
            record, dataset_of(record), data, Streams(seed, 0, 0), others=others
        )
        assert slot["gt_valid"].sum() == 3
        assert num_cut == (slot["gt_classes"] == 2).sum()  # pasted ones are larger
        cut.append(num_cut)
    assert set(cut) >= {1, 2}


def test_an_image_that_cannot_be_pasted_from_is_named(data):
    data.augment.copy_paste = 1.0
    record, other = (make_record(i, f"{i}.png", 32, 40, [square(4, 8, 10)]) for i in (7, 8))
    dataset = dataset_of(record)
    read = dataset.read_image

    def read_one(wanted):
        if wanted.image_id == 8:
            raise OSError("8.png is truncated")
        return read(wanted)

    dataset.read_image = read_one
    with pytest.raises(ValueError, match=r"image 8 \(8\.png\) cannot be pasted: 8\.png is trunc"):
        sample.make_example(record, dataset, data, Streams(0, 0, 0), others=whole_images([other]))


def test_colours_change_nothing_but_colours(data):
    record = make_record(7, "x.png", 32, 40, [square(4, 8, 10, 2), square(20, 0, 12)])
    dataset = dataset_of(record)
    plain, _ = sample.make_example(record, dataset, data, Streams(0, 0, 0))
    set_values(
        data.augment,
        dict(
            dict(
                brightness=0.5,
                contrast=0.5,
                saturation=0.5,
                hue=0.1,
                grey=0.5,
                blur=1.0,
                noise=20.0,
            )
        ),
    )
    changed, _ = sample.make_example(record, dataset, data, Streams(0, 0, 0))
    image, plain_image = changed.pop("image"), plain.pop("image")
    assert not np.array_equal(image, plain_image)
    assert not image[:, 80:].any()  # padding stays black
    for name, values in plain.items():
        np.testing.assert_array_equal(changed[name], values)


def test_a_tile_is_what_its_window_shows(data):
    data.short_side, data.long_side, data.buckets = 64, 64, ((64, 64),)
    record = make_record(7, "x.png", 80, 100, [square(10, 10, 20, 2), square(60, 60, 10)])
    slot, _ = sample.make_example(record, dataset_of(record), data, None, window=(20, 4, 52, 36))
    np.testing.assert_array_equal(slot["image_size"], [64, 64])
    np.testing.assert_allclose(slot["gt_boxes"][0], [0, 12, 20, 52])  # [20, 10, 30, 30], doubled
    np.testing.assert_array_equal(slot["gt_classes"], [2, 0, 0, 0, 0])
    assert slot["image"][0, 0].tolist() == [20, 4, 0]
    assert slot["image"][63, 63].tolist() == [51, 35, 0]


def test_nothing_visible_leaves_an_image_without_objects(data):
    record = make_record(7, "x.png", 80, 100, [square(60, 60, 10)])
    switch_all_on(data)
    for seed in range(10):
        slot, _ = sample.make_example(
            record, dataset_of(record), data, Streams(seed, 0, 0), window=(0, 0, 50, 50)
        )
        assert slot["image_valid"]
        assert not slot["gt_valid"].any()
        assert not slot["gt_boxes"].any()


def test_the_largest_objects_are_kept_and_the_others_counted(data):
    sides = [3, 9, 5, 7, 1, 8, 6]
    record = make_record(7, "x.png", 32, 40, [square(0, 0, s, i) for i, s in enumerate(sides, 1)])
    slot, num_cut = sample.make_example(record, dataset_of(record), data, None)
    assert num_cut == 2
    np.testing.assert_array_equal(slot["gt_classes"], [2, 3, 4, 6, 7])  # in their own order
    assert slot["gt_valid"].all()


def test_an_image_without_objects_is_ordinary(data):
    record = make_record(7, "x.png", 40, 32, [])
    for streams in (None, Streams(0, 0, 0)):
        slot, num_cut = sample.make_example(record, dataset_of(record), data, streams)
        assert num_cut == 0
        assert slot["image"].shape == (96, 64, 3)
        assert slot["image_valid"]
        assert not slot["gt_valid"].any()


def test_an_empty_slot_has_no_image_but_a_size():
    slot = sample.empty_example((64, 96), 5, 16)
    assert {k: (v.shape, v.dtype.type) for k, v in slot.items()} == sample.example_spec(
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
        sample.make_example(turned, dataset, data, None)
