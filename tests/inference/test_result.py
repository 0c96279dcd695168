"""From a batch of detections in network pixels to an image's result."""

import numpy as np

from maskrcnn_jax.inference.result import to_result
from maskrcnn_jax.models.detections import Detections


def _detections() -> Detections:
    boxes = np.zeros((2, 3, 4), np.float32)
    boxes[1] = [[10, 20, 30, 60], [0, 0, 101, 51], [1e30, np.nan, 0, 0]]
    masks = np.zeros((2, 3, 28, 28), np.float32)
    masks[1, :2] = 1
    return Detections(
        boxes=boxes,
        scores=np.array([[0, 0, 0], [0.9, 0.4, np.nan]], np.float32),
        classes=np.array([[0, 0, 0], [2, 1, 0]], np.int32),
        masks=masks,
        valid=np.array([[False] * 3, [True, True, False]]),
    )


def test_boxes_go_back_by_the_true_ratio_and_are_clipped():
    result = to_result(_detections(), 1, np.array([50, 100]), np.array([100, 300]), ("a", "b"))
    # x by 300 / 100, y by 100 / 50; the second box is cut off at the image's right and bottom.
    np.testing.assert_allclose(result.boxes, [[30, 40, 90, 100], [0, 0, 300, 100]])
    assert result.class_names == ("b", "a")
    assert result.classes.tolist() == [2, 1]
    assert result.masks.shape == (2, 100, 300)
    assert result.masks.dtype == bool
    assert result.masks[0, 45:95, 35:85].all()
    assert not result.masks[0, :38].any()
    assert result.masks[1].mean() > 0.95


def test_invalid_slots_and_low_scores_are_left_out():
    sizes = np.array([50, 100]), np.array([100, 300])
    assert len(to_result(_detections(), 0, *sizes, ("a", "b"))) == 0
    assert len(to_result(_detections(), 1, *sizes, ("a", "b"))) == 2
    best = to_result(_detections(), 1, *sizes, ("a", "b"), min_score=0.5)
    assert best.class_names == ("b",)
    nothing = to_result(_detections(), 1, *sizes, ("a", "b"), min_score=0.95)
    assert nothing.masks.shape == (0, 100, 300)
    assert nothing.boxes.shape == (0, 4)
