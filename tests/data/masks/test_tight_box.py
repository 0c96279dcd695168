"""Boxes around what a region shows of a mask, by hand and against sampling."""

import numpy as np
import pytest

from maskrcnn_jax.data.masks.tight_box import extreme_points, outline_of_pixels, outline_of_polygons

SQUARE = np.array([(0, 0), (10, 0), (10, 10), (0, 10)], float)


def extent(outline, region) -> list[float]:
    points = extreme_points(outline, np.array(region, float))
    return np.round([*points.min(0), *points.max(0)], 6).tolist() if len(points) else []


def polygons(*parts):
    return outline_of_polygons([np.array(part, float) for part in parts])


def test_inside_outside_and_across():
    square = polygons([(2, 2), (5, 2), (5, 6), (2, 6)])
    assert extent(square, SQUARE) == [2, 2, 5, 6]
    assert extent(square, SQUARE + 3) == [3, 3, 5, 6]
    assert extent(square, SQUARE + 7) == []
    assert extent(square, SQUARE[::-1] + 3) == [3, 3, 5, 6]  # corners the other way round
    assert extent(square, np.zeros((0, 2))) == []


def test_a_region_inside_a_mask_is_seen_whole():
    assert extent(polygons(SQUARE * 3 - 10), SQUARE) == [0, 0, 10, 10]
    assert extent(polygons(SQUARE), SQUARE) == [0, 0, 10, 10]  # border upon border


def test_what_only_touches_the_border_is_not_seen():
    beside = [(-5, 2), (0, 2), (0, 6), (-5, 6)]
    assert extent(polygons(beside), SQUARE) == []
    # Nor does it add to what is seen elsewhere.
    assert extent(polygons(beside, [(7, 7), (9, 7), (9, 8)]), SQUARE) == [7, 7, 9, 8]


def test_a_shape_that_leaves_and_comes_back():
    # Round the corner at the top left, outside; only its foot at the left is inside.
    hook = [(-4, 8), (2, 8), (2, 9), (-4, 9), (-6, -6), (9, -6), (9, -3), (-4, -3)]
    assert extent(polygons(hook), SQUARE) == [0, 8, 2, 9]


def test_parts_that_overlap_and_holes():
    ring = [(1, 1), (9, 1), (9, 9), (1, 9), (1, 1), (3, 3), (7, 3), (7, 7), (3, 7), (3, 3)]
    # Inside the hole there is nothing of the mask.
    assert extent(polygons(ring), [(4, 4), (6, 4), (6, 6), (4, 6)]) == []
    assert extent(polygons(ring), [(4, 4), (8, 4), (8, 6), (4, 6)]) == [7, 4, 8, 6]
    assert extent(polygons(SQUARE, SQUARE + 5), SQUARE + 2) == [2, 2, 12, 12]


def test_pixels_worked_by_hand():
    mask = np.zeros((5, 6), np.uint8)
    mask[1:3, 2] = mask[2, 3] = 1
    outline = outline_of_pixels(mask, 10, 20)
    assert extent(outline, SQUARE + (8, 18)) == [12, 21, 14, 23]
    assert extent(outline, [(13.5, 18), (20, 18), (20, 30), (13.5, 30)]) == [13.5, 22, 14, 23]
    assert extent(outline, [(12.2, 21.2), (12.8, 21.2), (12.8, 21.7)]) == [12.2, 21.2, 12.8, 21.7]
    assert extent(outline_of_pixels(mask * 0), SQUARE) == []


@pytest.mark.parametrize("seed", range(12))
def test_against_sampling(seed):
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 5))
    region = 20 + 12 * np.stack([np.cos(angles), np.sin(angles)], 1)  # convex
    mask = (rng.random((8, 8)) < 0.4).repeat(5, 0).repeat(5, 1).astype(np.uint8)
    fine = 0.02
    x, y = np.meshgrid(np.arange(fine / 2, 40, fine), np.arange(fine / 2, 40, fine))
    inside = np.ones(x.shape, bool)
    for (x1, y1), (x2, y2) in zip(region, np.roll(region, -1, 0), strict=True):
        inside &= (x2 - x1) * (y - y1) - (y2 - y1) * (x - x1) > 0
    seen = inside & (mask[y.astype(int), x.astype(int)] > 0)
    expected = [x[seen].min(), y[seen].min(), x[seen].max(), y[seen].max()]
    quads = [
        [(column, row), (column + 1, row), (column + 1, row + 1), (column, row + 1)]
        for row, column in zip(*np.nonzero(mask), strict=True)
    ]
    for outline in (outline_of_pixels(mask), polygons(*quads)):
        # A corner sharper than a right angle may end between two samples.
        np.testing.assert_allclose(extent(outline, region), expected, atol=10 * fine)
