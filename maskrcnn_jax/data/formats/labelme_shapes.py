"""The shapes of labelme's JSON files as parts of a mask."""

import base64
import binascii
from typing import Any

import numpy as np

from maskrcnn_jax.data.masks.instances import encode
from maskrcnn_jax.data.masks.outlines import ellipse, points, polygon, rectangle
from maskrcnn_jax.data.masks.segmentation import RLE
from maskrcnn_jax.faults import FaultError, FaultKind
from maskrcnn_jax.images.read_masks import read_mask

_WITH_INSIDE = "polygon, rectangle, oriented_rectangle, circle, mask"


def has_area(shape: dict) -> bool:
    """Returns whether a shape is of a kind that can be an object, unlike a point or a line."""
    kind = shape.get("shape_type") or "polygon"
    return isinstance(kind, str) and kind in _WITH_INSIDE.split(", ")


def part(shape: dict, height: int, width: int) -> np.ndarray | RLE:
    """Returns what a shape covers: a polygon [k, 2] float64 (x, y), or run lengths of the image.

    Args:
        shape: an entry of `shapes`. A circle has its centre and a point of its edge, a rectangle
            two opposite corners, a mask the box of its bitmap.
        height: of the image, in pixels.
        width: of the image, in pixels.

    Raises:
        ValueError: the shape has no area, or is not as labelme writes it.
    """
    kind = shape.get("shape_type") or "polygon"  # not named in labelme's first versions
    given = shape.get("points")
    if kind == "circle":
        centre, edge = points(given, 2)
        radius = float(np.hypot(*(edge - centre)))
        x, y = centre.tolist()
        return ellipse(x, y, radius, radius)
    if kind == "rectangle" and isinstance(given, list) and len(given) == 2:
        return rectangle(*points(given, 2).ravel().tolist())
    if kind == "mask":
        return _bitmap(shape.get("mask"), points(given, 2), height, width)
    if kind in ("polygon", "rectangle", "oriented_rectangle"):
        return polygon(points(given))
    raise FaultError(
        FaultKind.OUTLINE, f"its {kind!r:.40} has no area; expected {_WITH_INSIDE} as shape_type"
    )


def _bitmap(text: Any, corners: np.ndarray, height: int, width: int) -> RLE:
    """Returns a bitmap, a PNG file in base64, in its place in the image."""
    try:
        content = base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise FaultError(
            FaultKind.MASK, f"its mask is not a PNG file in base64: {error}"
        ) from error
    patch = read_mask("its mask", content=content)
    left, top = np.rint(corners.min(0)).astype(int)
    # The bitmap may reach over the image's border, by a pixel's rounding at least.
    skip_x, skip_y = max(-left, 0), max(-top, 0)
    patch = patch[skip_y : max(height - top, 0), skip_x : max(width - left, 0)]
    mask = np.zeros((height, width), np.uint8)
    left, top = left + skip_x, top + skip_y
    mask[top : top + patch.shape[0], left : left + patch.shape[1]] = patch
    return encode(mask)
