"""What pasted objects hide, worked by hand."""

import numpy as np

from maskrcnn_jax.data.augment.copy_paste import chosen, paste
from maskrcnn_jax.data.input.example import Example
from maskrcnn_jax.data.masks.segmentation import mask_in_box

HEIGHT, WIDTH, SIDE = 20, 30, 10


def example_of(colour: int, *boxes, crowd=()) -> tuple[Example, list[np.ndarray]]:
    """An image of one colour with rectangles of whole pixels, classes 1, 2, ..., and masks."""
    masks = [np.zeros((HEIGHT, WIDTH), np.uint8) for _ in boxes]
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = 1
    grids = [mask_in_box(mask, box, SIDE) for mask, box in zip(masks, boxes, strict=True)]
    return Example(
        image=np.full((HEIGHT, WIDTH, 3), colour, np.uint8),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        classes=np.arange(1, len(boxes) + 1, dtype=np.int32),
        crowd=np.isin(np.arange(len(boxes)), crowd),
        masks=np.array(grids, np.uint8).reshape(-1, SIDE, SIDE),
    ), masks


def pasted(target, source, min_visible: float = 0.1) -> Example:
    return paste(target[0], target[1].__getitem__, source[0], source[1].__getitem__, min_visible)


def test_pixels_and_objects_of_the_other_image_are_in_front():
    target = example_of(10, (0, 0, 10, 10))
    source = example_of(200, (15, 5, 25, 15), (20, 10, 28, 18))
    found = pasted(target, source)
    expected = np.full((HEIGHT, WIDTH, 3), 10, np.uint8)
    expected[5:15, 15:25] = expected[10:18, 20:28] = 200
    np.testing.assert_array_equal(found.image, expected)
    np.testing.assert_array_equal(found.boxes, [[0, 0, 10, 10], [15, 5, 25, 15], [20, 10, 28, 18]])
    np.testing.assert_array_equal(found.classes, [1, 1, 2])
    assert np.all(found.masks == 255)  # also of pasted ones that overlap each other
    assert not found.crowd.any()
    assert np.all(target[0].image == 10)  # the images given are left as they were


def test_a_covered_side_moves_the_box():
    target = example_of(10, (5, 5, 15, 15))
    found = pasted(target, example_of(200, (11, 0, 30, 20)))
    np.testing.assert_array_equal(found.boxes[0], [5, 5, 11, 15])
    assert np.all(found.masks[0] == 255)


def test_a_covered_corner_is_missing_in_the_mask():
    target = example_of(10, (5, 5, 15, 15))
    found = pasted(target, example_of(200, (10, 10, 30, 20)))
    np.testing.assert_array_equal(found.boxes[0], [5, 5, 15, 15])
    expected = np.full((SIDE, SIDE), 255)
    expected[5:, 5:] = 0
    np.testing.assert_array_equal(found.masks[0], expected)


def test_sides_between_pixels_stay_where_they_were():
    target, masks = example_of(10, (5, 5, 15, 15))
    target.boxes[0] = 5.25, 5.25, 14.75, 14.75
    found = pasted((target, masks), example_of(200, (10, 0, 30, 20)))
    np.testing.assert_array_equal(found.boxes[0], [5.25, 5.25, 10, 14.75])


def test_what_is_hidden_is_dropped_and_what_is_not_stays_as_it_was():
    # Of 100 pixels: all, 95, 90 and none are hidden.
    target = example_of(10, (0, 0, 10, 10), (5, 10, 15, 20), (0, 10, 10, 20), (20, 0, 30, 10))
    source = example_of(200, (0, 0, 10, 10), (0, 11, 15, 20), (5, 10, 10, 11))
    found = pasted(target, source, 0.06)
    np.testing.assert_array_equal(found.classes[:-3], [4])
    np.testing.assert_array_equal(found.masks[0], target[0].masks[3])
    found = pasted(target, source, 0.05)
    np.testing.assert_array_equal(found.classes[:-3], [2, 3, 4])
    np.testing.assert_array_equal(found.boxes[0], [10, 10, 15, 11])
    np.testing.assert_array_equal(found.boxes[1], [0, 10, 5, 11])


def test_crowd_regions_stay_as_long_as_a_pixel_of_them_does():
    target = example_of(10, (0, 0, 10, 10), (0, 10, 10, 20), crowd=(0, 1))
    found = pasted(target, example_of(200, (0, 0, 10, 10), (1, 10, 10, 20), (0, 11, 1, 20)), 0.5)
    np.testing.assert_array_equal(found.crowd, [True, False, False, False])
    np.testing.assert_array_equal(found.boxes[0], [0, 10, 1, 11])


def test_an_overlap_of_boxes_alone_hides_nothing():
    target, masks = example_of(10, (0, 0, 10, 10))
    masks[0][5:, 5:] = 0
    grid = target.masks[0].copy()
    found = pasted((target, masks), example_of(200, (5, 5, 15, 15)))
    np.testing.assert_array_equal(found.boxes[0], [0, 0, 10, 10])
    np.testing.assert_array_equal(found.masks[0], grid)


def test_nothing_to_paste_leaves_the_image():
    target, source = example_of(10, (0, 0, 10, 10)), example_of(200, (5, 5, 6, 6))
    assert pasted(target, example_of(200)) is target[0]
    source[1][0][:] = 0  # so small that it covers no pixel's centre
    assert pasted(target, source) is target[0]
    onto_nothing = pasted(example_of(10), example_of(200, (5, 5, 9, 9)))
    np.testing.assert_array_equal(onto_nothing.boxes, [[5, 5, 9, 9]])


def test_some_objects_are_chosen_by_number_or_mask():
    example, _ = example_of(10, (0, 0, 10, 10), (0, 10, 10, 20), (5, 5, 7, 7))
    for which in (np.array([0, 2]), np.array([True, False, True])):
        found = chosen(example, which)
        np.testing.assert_array_equal(found.classes, [1, 3])
        np.testing.assert_array_equal(found.boxes, example.boxes[[0, 2]])
        assert found.image is example.image
