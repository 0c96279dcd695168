"""What counts as the same detections, by hand."""

import numpy as np
import pytest

from maskrcnn_jax.export.comparison import Found, compare, measure

BOXES = np.array([[0, 0, 4, 4], [2, 2, 8, 8], [1, 1, 3, 3]], np.float32)
SCORES = np.array([0.9, 0.5, 0.5], np.float32)


def _found(**changes) -> Found:
    found = Found(BOXES, SCORES, np.array([1, 2, 2]), np.full((3, 2, 2), 0.25, np.float32))
    return found._replace(**changes)


def test_the_same():
    agreement = compare([_found(), _found()], [_found(), _found()])
    assert agreement == (2, 6, 0.0, 0.0, 0.0, 0)


def test_largest_differences_are_told():
    boxes = BOXES.copy()
    boxes[2, 3] += 0.0005
    scores = SCORES - np.float32([0, 0, 0.00005])
    agreement = compare([_found()], [_found(boxes=boxes, scores=scores)])
    assert agreement.box == pytest.approx(0.0005, rel=1e-3)
    assert agreement.score == pytest.approx(0.00005, rel=1e-3)


def test_equal_scores_may_change_places():
    order = [0, 2, 1]
    other = Found(*(part[order] for part in _found()))
    assert compare([_found()], [other]).swapped == 2


def test_other_scores_may_not():
    order = [1, 0, 2]
    other = Found(*(part[order] for part in _found()))
    with pytest.raises(ValueError, match=r"image 1, detection 1.*class 1.*class 2"):
        compare([_found()], [other])


@pytest.mark.parametrize(
    "changes",
    [
        {"boxes": BOXES + np.float32(0.002)},
        {"scores": SCORES + np.float32(0.0002)},
        {"masks": np.full((3, 2, 2), 0.252, np.float32)},
        {"masks": np.full((3, 2, 2), np.nan, np.float32)},
    ],
)
def test_more_than_allowed(changes):
    with pytest.raises(ValueError, match="largest differences"):
        compare([_found()], [_found(**changes)])


def test_another_number():
    fewer = Found(*(part[:2] for part in _found()))
    with pytest.raises(ValueError, match="finds 3 objects and the exported model 2"):
        compare([_found()], [fewer])


def test_nothing_found_proves_nothing():
    nothing = Found(*(part[:0] for part in _found()))
    with pytest.raises(ValueError, match="--images"):
        compare([nothing], [nothing])


def test_pasted_masks_differ_by_how_far_a_pixel_is_beyond_the_threshold():
    """A grid of ones fills its box; the middle of a pixel at the edge is still inside."""
    ours = Found(
        np.array([[2, 2, 6, 6]], np.float32), SCORES[:1], np.array([1]), np.ones((1, 2, 2))
    )
    pasted = np.zeros((1, 8, 8), np.uint8)
    pasted[0, 2:6, 2:6] = 1
    same = ours._replace(masks=pasted)
    assert compare([ours], [same], paste_rule="exact").mask == 0.0
    wrong = same._replace(masks=pasted.copy())
    wrong.masks[0, 3, 3] = 0  # where the probability is 1
    with pytest.raises(ValueError, match=r"masks 5\.0e-01"):
        compare([ours], [wrong], paste_rule="exact")


def test_time_is_measured_in_turn():
    calls = []
    speed = measure(lambda x: calls.append("a"), lambda x: calls.append("b"), np.zeros(1))
    assert calls == ["a", "b"] * speed.calls
