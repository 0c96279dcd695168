"""Labels: inside the picture, and beside each other."""

import numpy as np

from maskrcnn_jax.visualization.labels import draw_labels

_PAINTS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255), (255, 0, 255)]


def _areas(boxes, texts) -> list[int]:
    """Returns how many pixels of each label's background are seen."""
    picture = np.full((300, 300, 3), 128, np.uint8)
    draw_labels(picture, texts, np.array(boxes, np.float32), _PAINTS[: len(boxes)])
    return [int((picture == paint).all(-1).sum()) for paint in _PAINTS[: len(boxes)]]


def test_labels_of_one_box_do_not_hide_each_other():
    (alone,) = _areas([[100, 100, 200, 200]], ["a label"])
    together = _areas([[100, 100, 200, 200]] * 6, ["a label"] * 6)
    assert min(together) > 0.8 * alone  # ink differs in brightness, the background does not


def test_labels_of_the_corners_are_whole():
    (alone,) = _areas([[100, 100, 200, 200]], ["label"])
    corners = [[0, 0, 9, 9], [290, 0, 300, 9], [0, 290, 9, 300], [290, 290, 300, 300]]
    assert min(_areas(corners, ["label"] * 4)) > 0.8 * alone


def test_the_first_of_many_is_on_top_where_no_place_is_free():
    (alone,) = _areas([[120, 120, 130, 130]], ["a long label"])
    picture = np.full((60, 120, 3), 128, np.uint8)
    paints = [_PAINTS[0], *[_PAINTS[2]] * 40]
    boxes = np.array([[20, 20, 40, 40]] * 41, np.float32)
    draw_labels(picture, ["a long label"] * 41, boxes, paints)
    assert int((picture == _PAINTS[0]).all(-1).sum()) == alone


def test_an_empty_text_is_not_written():
    assert _areas([[100, 100, 200, 200]] * 2, ["", "label"])[0] == 0


def test_a_label_wider_than_the_picture_begins_at_its_left():
    picture = np.full((40, 60, 3), 128, np.uint8)
    draw_labels(picture, ["a very long name indeed"], np.array([[30, 20, 50, 40]]), [(255, 0, 0)])
    assert (picture != 128).any(-1)[:, 0].any()
