"""Boxes measured on masks, by hand."""

import numpy as np

from maskrcnn_jax.data.masks.instances import encode
from maskrcnn_jax.data.masks.mask_boxes import with_boxes_of_masks
from maskrcnn_jax.data.masks.segmentation import MaskFile, Polygons
from maskrcnn_jax.data.records import Instance, make_record

ANNOTATED = (0, 0, 30, 20)


def boxes_with(*segmentations) -> list:
    """Boxes measured on masks of an image of 20 x 30 pixels (height x width)."""
    instances = [Instance(ANNOTATED, 1, False, mask, 0, 7) for mask in segmentations]
    record = make_record("a", "a.png", 20, 30, instances)
    measured = with_boxes_of_masks(record)
    assert measured.boxes.dtype == np.float32
    assert record.boxes.tolist() == [list(ANNOTATED)] * len(segmentations)
    np.testing.assert_array_equal(measured.areas, record.areas)
    return measured.boxes.tolist()


def polygon(*corners) -> np.ndarray:
    return np.array(corners, float)


def test_polygons_are_measured_by_their_corners():
    triangle = polygon((3.5, 4), (9, 4.25), (6, 11.5))
    other = polygon((20, 1), (22, 1), (22, 3))
    assert boxes_with(Polygons([triangle]), Polygons([triangle, other])) == [
        [3.5, 4, 9, 11.5],
        [3.5, 1, 22, 11.5],
    ]


def test_boxes_end_with_the_image():
    beyond = polygon((-4, 5), (50, 5), (50, 44), (-4, 44))
    assert boxes_with(Polygons([beyond])) == [[0, 5, 30, 20]]


def test_run_lengths_are_measured_by_their_pixels():
    mask = np.zeros((20, 30), np.uint8)
    mask[4, 7] = mask[9, 12] = 1
    assert boxes_with(encode(mask)) == [[7, 4, 13, 10]]


def test_a_box_stays_where_the_mask_tells_nothing():
    outside = Polygons([polygon((40, 5), (50, 5), (50, 9))])
    empty = encode(np.zeros((20, 30), np.uint8))
    assert boxes_with(outside, empty, MaskFile("missing.png")) == [list(ANNOTATED)] * 3


def test_an_image_without_objects_stays_as_it_is():
    assert boxes_with() == []
