"""Instance masks as datasets store them, and their rasters: inside a box, or of a whole image.

Coordinates are continuous: pixel (row i, column j) covers [j, j + 1] x [i, i + 1].
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from maskrcnn_jax.data.masks import rle
from maskrcnn_jax.faults import FaultError, FaultKind
from maskrcnn_jax.images.read_masks import read_mask

# Polygons are sampled on a grid of at least this side, and averaged down. Twice M = 112 halves what
# the mask loses against 112 (IoU 0.996, not 0.990, for 24-gons) for 70 us an instance.
_FINE_SIDE = 224


_MOST_CORNERS = 100_000  # of an instance
_MOST_OUTSIDE = 11  # image sides
_MOST_OUTLINE = 10_000_000  # pixels, of an instance: filling it takes a gigabyte


@dataclass(frozen=True, slots=True)
class Polygons:
    """The union of polygons, each [k, 2] float64 (x, y) in image pixels.

    Each is filled by the even-odd rule. float64, because the last bit decides which pixels
    pycocotools fills, and evaluation has to fill the same ones.
    """

    parts: list[np.ndarray]


@dataclass(frozen=True, slots=True)
class RLE:
    """A run-length encoded mask as COCO compresses it: `size` is (height, width)."""

    size: tuple[int, int]
    counts: bytes


@dataclass(frozen=True, slots=True)
class MaskFile:
    """An image file that shows one instance bright on dark."""

    path: str


Segmentation = Polygons | RLE | MaskFile


def rasterize_in_box(
    segmentation: Segmentation, box: np.ndarray, height: int, width: int, side: int
) -> np.ndarray:
    """Returns the fraction of each cell that the instance covers, on a grid over its own box.

    Args:
        segmentation: the instance's mask.
        box: [4], xyxy, image pixels, of positive width and height; borders lie anywhere in a pixel.
        height: of the image, in pixels.
        width: of the image, in pixels.
        side: M; the box is divided into M x M cells.

    Returns:
        [M, M] uint8, 0 to 255; cell (i, j) is row i, column j.
    """
    x1, y1, x2, y2 = (float(v) for v in box)
    if not (x2 > x1 and y2 > y1):
        raise ValueError(f"box {[x1, y1, x2, y2]} has no area; expected x1 < x2 and y1 < y2")
    if isinstance(segmentation, Polygons):
        return _polygons_in_box(segmentation.parts, (x1, y1, x2, y2), side)
    left, right = max(math.floor(x1), 0), min(math.ceil(x2), width)
    if right <= left:
        return np.zeros((side, side), np.uint8)
    mask = mask_columns(segmentation, height, width, left, right)
    return mask_in_box(mask, (x1 - left, y1, x2 - left, y2), side)


@overload
def box_of(segmentation: Polygons | RLE) -> np.ndarray: ...


@overload
def box_of(segmentation: Segmentation) -> np.ndarray | None: ...


def box_of(segmentation: Segmentation) -> np.ndarray | None:
    """Returns the box tight around a mask, [4] float64 xyxy, wherever it lies.

    Polygons are measured by their corners. None of a mask file, which would have to be read; zeros
    of an empty mask.

    Args:
        segmentation: the instance's mask.
    """
    if isinstance(segmentation, Polygons):
        parts = segmentation.parts
        corners = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return np.concatenate([corners.min(0), corners.max(0)])
    if isinstance(segmentation, RLE):
        encoded = {"size": list(segmentation.size), "counts": segmentation.counts}
        x, y, w, h = coco_mask.toBbox(encoded)
        return np.array([x, y, x + w, y + h])
    return None


def check_outline(parts: Sequence[np.ndarray], height: int, width: int) -> None:
    """Checks that polygons can be filled in bounded time and memory.

    pycocotools walks along the outline, whatever the size of the image, and takes about 100 bytes
    for each pixel of its length; far out its numbers of 32 bits overflow.

    Args:
        parts: polygons, each [k, 2] float64 (x, y) in image pixels.
        height: of the image, in pixels.
        width: of the image, in pixels.

    Raises:
        FaultError: a corner is no number or far out of the image, or the outlines are longer or
            have more corners than any mask of such an image needs.
    """
    corners = sum(map(len, parts))
    if corners > _MOST_CORNERS:
        reason = f"its outline has {corners:,} corners; at most {_MOST_CORNERS:,} are read"
        raise FaultError(
            FaultKind.OUTLINE, f"{reason}: simplify it, or give the mask as run lengths"
        )
    furthest = max(max(part.max(initial=0), -part.min(initial=0)) for part in parts) if parts else 0
    if not furthest <= _MOST_OUTSIDE * max(height, width):  # true of NaN as well
        reason = f"its outline reaches {furthest:g}, far out of its image of {height} x {width}"
        raise FaultError(FaultKind.BOX_OUTSIDE, reason)
    # That of a mask whose every pixel has a border of its own, and some for outlines beyond it.
    most = min(4 * height * width + 100 * (height + width), _MOST_OUTLINE)
    if corners * 2 * furthest <= most:  # of nearly all, which need not be measured
        return
    length = sum(float(np.abs(part - np.roll(part, 1, 0)).max(1).sum()) for part in parts)
    if length > most:
        reason = f"its outline is {length:,.0f} pixels long; at most {most:,} are read"
        raise FaultError(FaultKind.OUTLINE, f"{reason} in an image of {height} x {width}")


def to_rle(segmentation: Segmentation, height: int, width: int) -> dict:
    """Returns the mask of a whole image, run-length encoded as pycocotools does.

    Args:
        segmentation: the instance's mask.
        height: of the image, in pixels.
        width: of the image, in pixels.

    Returns:
        {"size": [height, width], "counts": bytes}.
    """
    if isinstance(segmentation, RLE):
        _check_size(segmentation.size, height, width, "a run-length mask")
        return {"size": [height, width], "counts": segmentation.counts}
    if isinstance(segmentation, Polygons):
        parts = [part.ravel() for part in segmentation.parts]
        return coco_mask.merge(coco_mask.frPyObjects(parts, height, width))
    return coco_mask.encode(np.asfortranarray(to_mask(segmentation, height, width)))


def to_mask(segmentation: Segmentation, height: int, width: int) -> np.ndarray:
    """Returns the mask of a whole image, [height, width] uint8, 0 or 1.

    Args:
        segmentation: the instance's mask.
        height: of the image, in pixels.
        width: of the image, in pixels.
    """
    if isinstance(segmentation, Polygons):
        return coco_mask.decode(to_rle(segmentation, height, width))
    return mask_columns(segmentation, height, width, 0, width)


def mask_columns(
    segmentation: RLE | MaskFile, height: int, width: int, first: int, end: int
) -> np.ndarray:
    """Returns columns [first, end) of the mask of an image, [height, end - first] uint8, 0 or 1.

    Args:
        segmentation: the instance's mask.
        height: of the image, in pixels.
        width: of the image, in pixels.
        first: column.
        end: column after the last.
    """
    if isinstance(segmentation, RLE):
        _check_size(segmentation.size, height, width, "a run-length mask")
        return rle.decode_columns(segmentation.counts, height, first, end)
    mask = read_mask(segmentation.path)
    _check_size(mask.shape, height, width, segmentation.path)
    return mask[:, first:end]


def _check_size(size, height: int, width: int, what: str) -> None:
    if tuple(size) != (height, width):
        raise FaultError(
            FaultKind.MASK_SIZE,
            f"{what} is {size[0]} x {size[1]} (height x width); its image is {height} x {width}",
        )


def _polygons_in_box(parts: list[np.ndarray], box: tuple, side: int) -> np.ndarray:
    """Fills the polygons on a grid stretched over the box, and averages it down to M x M."""
    factor = -(-_FINE_SIDE // side)
    fine = side * factor
    origin = np.array(box[:2])
    scale = fine / (np.array(box[2:]) - origin)
    low, high = (-fine, -fine), (2 * fine, 2 * fine)
    clipped = (clip_polygon((part - origin) * scale, low, high) for part in parts)
    scaled = [part.ravel() for part in clipped if len(part) >= 3]
    if not scaled:
        return np.zeros((side, side), np.uint8)
    filled = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(scaled, fine, fine))) * 255
    if factor == 1:
        return np.ascontiguousarray(filled)
    return cv2.resize(np.ascontiguousarray(filled), (side, side), interpolation=cv2.INTER_AREA)


def clip_polygon(points: np.ndarray, low: Sequence[float], high: Sequence[float]) -> np.ndarray:
    """Cuts a polygon to a rectangle; one half-plane after the other.

    What is left of a polygon that is not convex may hang together by edges along the border. And
    filling takes time and memory by the length of the outline, which has no bound where a box is
    much smaller than its polygon: there the rectangle is larger than what is filled, and those
    edges are never seen.

    Args:
        points: [k, 2] float64, (x, y) of the corners.
        low: (x, y) of the rectangle's first corner.
        high: (x, y) of the opposite one.

    Returns:
        [j, 2] float64; no corners where nothing is left.
    """
    sides = ((0, 1, low[0]), (0, -1, -high[0]), (1, 1, low[1]), (1, -1, -high[1]))
    for axis, sign, limit in sides:
        depth = sign * points[:, axis] - limit  # inside: >= 0
        if len(points) == 0 or depth.min() >= 0:
            continue
        following, depth_following = np.roll(points, -1, 0), np.roll(depth, -1)
        crosses = (depth >= 0) != (depth_following >= 0)
        share = np.where(crosses, depth, 0) / np.where(crosses, depth - depth_following, 1)
        crossings = points + share[:, None] * (following - points)
        both = np.stack([points, crossings], 1).reshape(-1, 2)
        points = both[np.stack([depth >= 0, crosses], 1).ravel()]
    return points


def mask_in_box(mask: np.ndarray, box: tuple, side: int) -> np.ndarray:
    """Averages a mask over each cell of a box, exactly.

    The integral of a mask from the origin to (x, y) is bilinear inside each pixel, so reading the
    summed-area table between its entries gives the covered area of any cell, of any size.

    Args:
        mask: [height, width] uint8, 0 or 1; it may end anywhere beside the box.
        box: xyxy, in pixels of the mask.
        side: M; the box is divided into M x M cells.

    Returns:
        [M, M] uint8, 0 to 255.
    """
    x1, y1, x2, y2 = box
    top, bottom = max(math.floor(y1), 0), min(math.ceil(y2), len(mask))
    if bottom <= top:
        return np.zeros((side, side), np.uint8)
    table = cv2.integral(np.ascontiguousarray(mask[top:bottom])).astype(np.float64)
    table = _read_between(table, np.linspace(y1, y2, side + 1) - top)
    table = _read_between(table.T, np.linspace(x1, x2, side + 1)).T
    covered = np.diff(np.diff(table, axis=0), axis=1)
    cell = (x2 - x1) * (y2 - y1) / side**2
    return np.clip(np.rint(covered * (255 / cell)), 0, 255).astype(np.uint8)


def _read_between(table: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Interpolates linearly between the rows of a table; constant beyond its ends."""
    rows = np.clip(rows, 0, len(table) - 1)
    first = np.minimum(rows.astype(int), len(table) - 2)
    share = (rows - first)[:, None]
    return table[first] * (1 - share) + table[first + 1] * share
