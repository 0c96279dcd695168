"""Files of one object, and files of several that are taken for such."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn_jax.data.masks.label_map import LabelMap, check_one_object

WHERE = (slice(5, 15), slice(5, 15)), (slice(20, 35), slice(30, 50))


def drawn(*values, dtype=np.uint8) -> np.ndarray:
    """Returns two squares of given values or colours on black."""
    shape = (40, 60, *np.shape(values[0]))
    picture = np.zeros(shape, dtype)
    for where, value in zip(WHERE, values, strict=False):
        picture[where] = value
    return picture


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30))
def test_two_numbers_are_two_objects(first, second):
    if first == second:
        check_one_object(drawn(first, second))
    else:
        with pytest.raises(LabelMap, match=r"several objects .*config\.data\.format=label_images"):
            check_one_object(drawn(first, second))


@pytest.mark.parametrize(
    "picture",
    [
        drawn(100, 200),
        drawn(1, 300, dtype=np.uint16),
        drawn(20_000, 60_000, dtype=np.uint16),
        drawn((128, 0, 0), (0, 128, 0)),
        drawn((255, 0, 0), (0, 0, 255)),
    ],
)
def test_label_maps_of_other_kinds(picture):
    if picture.max() != 300:  # of 1 and 300 one is as good as black
        with pytest.raises(LabelMap):
            check_one_object(picture)


@pytest.mark.parametrize(
    "picture",
    [
        drawn(255, 255),
        drawn(1, 1),
        drawn(65535, 65535, dtype=np.uint16),
        drawn((255, 255, 255), (255, 255, 255)),
        drawn((200, 30, 60), (200, 30, 60)),
        np.zeros((40, 60), np.uint8),
        np.full((40, 60), 255, np.uint8),
        np.zeros((2, 60), np.uint8),
        cv2.GaussianBlur(drawn(255, 255), (7, 7), 0),  # a soft edge
        np.maximum(drawn(255, 250), 4),  # as compression leaves it
        cv2.resize(drawn(255, 255), (97, 71), interpolation=cv2.INTER_AREA),
    ],
)
def test_masks_of_one_object(picture):
    check_one_object(picture)
