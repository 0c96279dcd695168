import math

import numpy as np
import pytest

from maskrcnn_jax.data.masks.outlines import ellipse, points, polygon, rectangle
from maskrcnn_jax.data.masks.segmentation import Polygons, to_mask


def area(corners: np.ndarray) -> float:
    """Area of a polygon, by the shoelace formula."""
    x, y = corners.T
    return abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def test_points():
    np.testing.assert_array_equal(points([[1, 2.5], [3, 4]], 2), [[1, 2.5], [3, 4]])
    np.testing.assert_array_equal(points([["1", 2.5], (3, "4e0")]), [[1, 2.5], [3, 4]])
    assert points([]).shape == (0, 2)
    with pytest.raises(ValueError, match="it has 1 points; expected 2 points"):
        points([[1, 2]], 2)
    for given in (None, 3, "ab", {"x": 1}, [1, 2], [[1, 2], [3]], [[1, math.nan]], [[1, "2x"]]):
        with pytest.raises(ValueError, match="its points are"):
            points(given)


def test_rectangle_may_be_given_by_any_two_corners():
    for corners in ((1, 2, 4, 8), (4, 8, 1, 2), (1, 8, 4, 2)):
        outline = rectangle(*corners)
        assert area(outline) == 18
        assert [*outline.min(0), *outline.max(0)] == [1, 2, 4, 8]
    with pytest.raises(ValueError, match="has no area"):
        rectangle(1, 2, 1, 8)


def test_polygon_needs_three_corners():
    assert len(polygon(np.zeros((3, 2)))) == 3
    with pytest.raises(ValueError, match="has 2 corners"):
        polygon(np.zeros((2, 2)))


@pytest.mark.parametrize("radius", [0.3, 3.0, 25.0, 400.0])
def test_circle_is_close_to_the_true_one(radius):
    outline = ellipse(10, 20, radius, radius)
    assert np.allclose(np.hypot(*(outline - [10, 20]).T), radius)
    middles = (outline + np.roll(outline, -1, 0)) / 2  # where chords are furthest from their arcs
    assert np.hypot(*(middles - [10, 20]).T).min() > radius - 0.06
    assert area(outline) == pytest.approx(math.pi * radius**2, rel=0.03)


def test_filled_circle_has_the_pixels_whose_centres_it_contains():
    y, x = np.mgrid[:64, :64] + 0.5
    expected = np.hypot(x - 30, y - 33) <= 20
    mask = to_mask(Polygons([ellipse(30, 33, 20, 20)]), 64, 64).astype(bool)
    assert (mask & expected).sum() / (mask | expected).sum() > 0.98


def test_turned_ellipse_lies_along_its_first_half_axis():
    along, across = (
        np.array([math.cos(0.5), math.sin(0.5)]),
        np.array([-math.sin(0.5), math.cos(0.5)]),
    )
    offset = ellipse(5, 6, 8, 2, 0.5) - [5, 6]
    assert np.allclose((offset @ along / 8) ** 2 + (offset @ across / 2) ** 2, 1)
    assert (offset @ along).max() == pytest.approx(8)


@pytest.mark.parametrize("radii", [(0, 0), (-1, -1), (2, 0)])
def test_circle_without_a_radius_is_refused(radii):
    with pytest.raises(ValueError, match="expected numbers above 0"):
        ellipse(5, 5, *radii)
