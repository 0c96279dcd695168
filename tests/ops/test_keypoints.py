"""Keypoints to cells and heatmaps to keypoints, by hand and beside a reference in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.models.keypoints.heatmaps import heatmap_targets, heatmaps_to_keypoints

SIDE = 8


def test_cells_by_hand():
    """A box of 16 x 32 pixels has cells of 2 x 4."""
    box = np.float32([[10, 20, 26, 52], [0, 0, 0, 0]])
    points = np.float32([[10, 20, 2], [13.9, 27.9, 1], [26, 52, 2], [26.1, 30, 2], [20, 30, 0]])
    cells, inside = heatmap_targets(*map(jnp.asarray, (points[None], box, [0, 0])), SIDE)
    assert inside.tolist() == [[True, True, True, False, False], [False] * 5]
    assert cells.tolist() == [[0, SIDE + 1, 7 * SIDE + 7, 0, 0], [0] * 5]


def test_unknown_numbers_give_no_cell():
    box = np.float32([[10, 20, 26, 52], [np.nan] * 4])
    points = np.float32([[[np.nan, 30, 2], [np.inf, 30, 2], [12, 30, np.nan]]])
    cells, inside = heatmap_targets(*map(jnp.asarray, (points, box, [0, 0])), SIDE)
    assert not inside.any()
    assert not cells.any()


def cubic(distance, a=-0.75):
    d = np.abs(distance)
    near = (a + 2) * d**3 - (a + 3) * d**2 + 1
    far = a * (d**3 - 5 * d**2 + 8 * d - 4)
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def stretched(values, length):
    """`values` [n] at the `length` pixels that they are stretched over, values at the border
    continued."""
    place = (np.arange(length) + 0.5) * len(values) / length - 0.5
    around = np.arange(-4, len(values) + 4)
    padded = values[around.clip(0, len(values) - 1)]
    return (cubic(place[:, None] - around) * padded).sum(1)


def reference(heatmap, box):
    width, height = np.maximum(box[2:] - box[:2], 1)
    rows = np.apply_along_axis(stretched, 0, heatmap, int(np.ceil(height)))
    whole = np.apply_along_axis(stretched, 1, rows, int(np.ceil(width)))
    y, x = np.unravel_index(whole.argmax(), whole.shape)
    x = (x + 0.5) * width / np.ceil(width) + box[0]
    y = (y + 0.5) * height / np.ceil(height) + box[1]
    return x, y, 1 / np.exp(heatmap - whole.max()).sum()


def test_keypoints_are_those_of_the_stretched_heatmaps():
    """Boxes smaller and larger than the heatmap, of one block and of several, and of no area."""
    sides = [(5.5, 3.1), (8, 8), (40.3, 33.7), (130, 7.5), (64, 32), (63.9, 70), (0.3, 0), (1, 99)]
    boxes = np.float32([[3, 4.5, 3 + width, 4.5 + height] for width, height in sides])
    heatmaps = np.random.default_rng(0).normal(size=(len(boxes), 3, SIDE, SIDE)).astype(np.float32)
    found = jax.jit(heatmaps_to_keypoints)(heatmaps, boxes)
    expected = [
        [reference(heatmap.astype(float), box.astype(float)) for heatmap in maps]
        for maps, box in zip(heatmaps, boxes, strict=True)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_equal_values_give_the_first_place():
    found = heatmaps_to_keypoints(jnp.zeros((1, 2, SIDE, SIDE)), np.float32([[2, 3, 130, 90]]))
    np.testing.assert_allclose(found[0], [[2.5, 3.5, 1 / SIDE**2]] * 2, atol=1e-5)


@pytest.mark.parametrize("poison", [np.nan, np.inf, 1e30])
def test_a_poisoned_heatmap_leaves_the_others(poison):
    heatmaps = np.random.default_rng(1).normal(size=(2, 1, SIDE, SIDE)).astype(np.float32)
    boxes = np.float32([[0, 0, 20, 30], [5, 5, 25, 9]])
    expected = heatmaps_to_keypoints(heatmaps, boxes)[1]
    heatmaps[0] = poison
    np.testing.assert_array_equal(heatmaps_to_keypoints(heatmaps, boxes)[1], expected)
