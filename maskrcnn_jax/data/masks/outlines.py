"""Outlines as annotation tools draw them, as polygons: [k, 2] float64 (x, y) in image pixels."""

import math
from typing import Any

import numpy as np

from maskrcnn_jax.data.files.json_values import number
from maskrcnn_jax.faults import FaultError, FaultKind

_MAX_SAGITTA = 0.05  # pixels between an arc and its chord
_MIN_CORNERS, _MAX_CORNERS = 16, 720  # of a circle


def points(given: Any, count: int = 0) -> np.ndarray:
    """Returns points out of a file, [k, 2] float64.

    Args:
        given: a list of [x, y].
        count: how many are expected; 0: any number.

    Raises:
        ValueError: it is something else.
    """
    wanted = f"{count} points [x, y]" if count else "points [x, y]"
    pairs = [_pair(point) for point in given] if isinstance(given, list) else [None]
    if None in pairs:
        raise FaultError(
            FaultKind.OUTLINE, f"its points are {given!r:.80}; expected {wanted} of finite numbers"
        )
    if count and len(given) != count:
        raise FaultError(FaultKind.OUTLINE, f"it has {len(given)} points; expected {wanted}")
    return np.array(pairs, np.float64).reshape(-1, 2)


def _pair(given: Any) -> tuple[float, float] | None:
    if not isinstance(given, list | tuple) or len(given) != 2:
        return None
    x, y = number(given[0]), number(given[1])
    return None if x is None or y is None else (x, y)


def polygon(corners: np.ndarray) -> np.ndarray:
    """Returns a polygon's corners [k, 2]; ValueError if they are fewer than three."""
    if len(corners) < 3:
        raise FaultError(
            FaultKind.OUTLINE, f"its polygon has {len(corners)} corners; expected three or more"
        )
    return corners


def rectangle(x1: float, y1: float, x2: float, y2: float) -> np.ndarray:
    """Returns the rectangle between two opposite corners; ValueError if it has no area."""
    if x1 == x2 or y1 == y2:
        raise FaultError(
            FaultKind.OUTLINE, f"its rectangle from ({x1}, {y1}) to ({x2}, {y2}) has no area"
        )
    return np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], np.float64)


def ellipse(cx: float, cy: float, rx: float, ry: float, turn: float = 0.0) -> np.ndarray:
    """Returns an ellipse as a polygon that is nowhere further from it than 0.05 pixels.

    Args:
        cx: x of its centre.
        cy: y of its centre.
        rx: its first half axis.
        ry: its second half axis; equal ones make a circle.
        turn: from the x axis to the first half axis, in radians, clockwise as y points down.

    Raises:
        ValueError: a half axis is not above 0.
    """
    if not (rx > 0 and ry > 0):
        raise FaultError(
            FaultKind.OUTLINE, f"it has radius {rx:g} and {ry:g}; expected numbers above 0"
        )
    step = 2 * math.acos(max(1 - _MAX_SAGITTA / max(rx, ry), 0))
    count = int(np.clip(math.ceil(2 * math.pi / step), _MIN_CORNERS, _MAX_CORNERS))
    angles = np.arange(count) * (2 * np.pi / count)
    x, y = rx * np.cos(angles), ry * np.sin(angles)
    cos, sin = math.cos(turn), math.sin(turn)
    return np.stack([cx + x * cos - y * sin, cy + x * sin + y * cos], 1)
