import numpy as np
import pytest

from maskrcnn_jax.data.input.sample import empty_example
from maskrcnn_jax.visualization.examples import draw_example, draw_objects


@pytest.fixture
def example() -> dict:
    """A canvas of 832 x 832 whose image is 800 x 820, grey, with an object and a crowd region."""
    example = empty_example((832, 832), 4, 14)
    example["image"][:800, :820] = 100
    example["image_size"][:] = 800, 820
    example["gt_valid"][[1, 2]] = True
    example["gt_crowd"][2] = True
    example["gt_classes"][[1, 2]] = 2, 1
    example["gt_boxes"][1] = 100, 200, 380, 480
    example["gt_boxes"][2] = 500, 500, 640, 640
    example["gt_masks"][1, :7] = 255  # the upper half
    example["gt_masks"][2] = 255
    return example


def test_masks_fill_their_part_of_the_box(example):
    picture = draw_example(example, ("cat", "dog"))
    assert picture.shape == (832, 832, 3)
    changed = np.any(picture != example["image"], -1)
    assert changed[215:330, 110:370].all()
    assert not changed[345:470, 110:370].any()
    assert changed[200:480, 100].all()  # the box
    assert changed[800, :820].all()  # where the padding begins
    assert changed[:801, 820].all()
    assert not changed[802:, :].any()


def test_crowd_regions_are_striped_in_white(example):
    picture = draw_example(example, ("cat", "dog"))[510:630, 510:630]
    white, grey = (np.all(picture == value, -1) for value in (255, 100))
    assert (white | grey).all()
    assert white.mean() == pytest.approx(2 / 8, abs=0.01)


def test_empty_slots_do_not_matter(example):
    expected = draw_example(example, ("cat", "dog"))
    example["gt_boxes"][[0, 3]] = np.nan
    example["gt_masks"][[0, 3]] = 200
    example["gt_classes"][[0, 3]] = 77
    np.testing.assert_array_equal(draw_example(example, ("cat", "dog")), expected)


def test_small_images_are_enlarged_with_what_lies_on_them():
    example = empty_example((64, 64), 1, 14)
    example["image"][:] = 100
    example["gt_valid"][0] = True
    example["gt_classes"][0] = 1
    example["gt_boxes"][0] = 10, 20, 30, 40
    example["gt_masks"][0] = 255
    picture = draw_example(example, ("cat",))
    assert picture.shape == (832, 832, 3)  # 13 times
    changed = np.any(picture != 100, -1)
    assert changed[20 * 13 + 20 : 40 * 13, 130 : 30 * 13].all()
    assert not changed[41 * 13 :].any()


def test_an_image_without_objects_stays_as_it_is():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    picture = draw_objects(image, np.zeros((0, 4)), [], [], np.zeros(0, bool))
    np.testing.assert_array_equal(picture, image)
