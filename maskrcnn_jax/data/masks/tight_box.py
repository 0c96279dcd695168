"""The box tight around the part of a mask that a convex region shows, to the last bit.

What is visible of a mask is bounded by pieces of the mask's outline and of the region's. So its
box follows from two kinds of points: the ends of the outline's edges after each is cut to the
region, and the corners of the region that lie in the mask. No raster is needed, and holes, parts
that the cut separates, and parts on top of each other need no care.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_NUDGE = 1e-9  # fraction of the way to the region's middle: a corner on an outline is just inside


@dataclass(frozen=True, slots=True)
class Outline:
    """The border of a mask, in image pixels.

    Attributes:
        starts: [k, 2] float64, (x, y) where each edge begins.
        ends: [k, 2] float64, where it ends.
        contains: whether points [m, 2] lie in the mask, [m] bool.
    """

    starts: np.ndarray
    ends: np.ndarray
    contains: Callable[[np.ndarray], np.ndarray]


def outline_of_polygons(parts: list[np.ndarray]) -> Outline:
    """Returns the outline of the union of polygons [k, 2], each filled by the even-odd rule."""

    def contains(points: np.ndarray) -> np.ndarray:
        return np.any([_inside(points, part) for part in parts], 0)

    return Outline(
        np.concatenate(parts), np.concatenate([np.roll(part, -1, 0) for part in parts]), contains
    )


def outline_of_pixels(mask: np.ndarray, x: int = 0, y: int = 0) -> Outline:
    """Returns the outline of a mask of pixels: the sides where one inside meets one outside.

    Args:
        mask: [h, w] uint8, 0 or 1.
        x: of the mask's first column in the image.
        y: of the mask's first row in the image.
    """
    height, width = mask.shape
    padded = np.pad(mask, 1)
    rows, columns = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])  # on the left of a pixel
    upright = np.stack([columns, rows], 1), np.stack([columns, rows + 1], 1)
    rows, columns = np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])  # above it
    level = np.stack([columns, rows], 1), np.stack([columns + 1, rows], 1)

    def contains(points: np.ndarray) -> np.ndarray:
        column, row = np.floor(points - (x, y)).astype(int).T
        there = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        return there & (mask[row.clip(0, height - 1), column.clip(0, width - 1)] > 0)

    starts, ends = (np.concatenate(pair) + (x, y) for pair in zip(upright, level, strict=True))
    return Outline(starts.astype(np.float64), ends.astype(np.float64), contains)


def extreme_points(outline: Outline, region: np.ndarray) -> np.ndarray:
    """Returns points whose extent, in any direction, is that of the visible part of a mask.

    Args:
        outline: of the mask.
        region: [m, 2], corners of a convex polygon, one after the other; none: nothing is visible.

    Returns:
        [p, 2] float64, (x, y) in image pixels; none where nothing is visible.
    """
    if len(region) < 3:
        return np.zeros((0, 2))
    middle = region.mean(0)
    corners = region[outline.contains(region + _NUDGE * (middle - region))]
    return np.concatenate([_cut_edges(outline, region), corners])


def _cut_edges(outline: Outline, region: np.ndarray) -> np.ndarray:
    """Returns the ends of those pieces of an outline's edges that lie inside a convex region.

    An edge that only touches the region from outside, or runs along its border, bounds nothing
    visible; where it bounds something, its neighbours or the region's corners show it.
    """
    first, last = np.zeros(len(outline.starts)), np.ones(len(outline.starts))
    corner, following = region, np.roll(region, -1, 0)
    side = np.sign(_cross(corner, following).sum()) or 1.0  # clockwise or not
    for a, b in zip(corner, following, strict=True):
        before = side * _cross(b - a, outline.starts - a)  # inside: > 0
        after = side * _cross(b - a, outline.ends - a)
        crosses = (before > 0) != (after > 0)
        at = np.where(crosses, before, 0) / np.where(crosses, before - after, 1)
        first = np.where(crosses & (after > 0), np.maximum(first, at), first)
        last = np.where(crosses & (before > 0), np.minimum(last, at), last)
        last = np.where((before <= 0) & (after <= 0), -1, last)
    kept = first < last
    starts, along = outline.starts[kept], (outline.ends - outline.starts)[kept]
    return np.concatenate([starts + share[kept, None] * along for share in (first, last)])


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _inside(points: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """Returns whether points [m, 2] lie in a polygon [k, 2]: an odd number of edges to the left."""
    x, y = points[:, None, 0], points[:, None, 1]
    (x1, y1), (x2, y2) = polygon.T, np.roll(polygon, -1, 0).T
    spans = (y1 > y) != (y2 > y)
    at = x1 + (y - y1) * (x2 - x1) / np.where(y1 == y2, 1, y2 - y1)
    return np.count_nonzero(spans & (at < x), axis=1) % 2 == 1
