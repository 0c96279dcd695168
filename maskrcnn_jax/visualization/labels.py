"""Names written beside boxes, where they do not hide each other."""

from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from maskrcnn_jax.visualization.style import RGB

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
_STEPS = 4  # heights of a label by which it is moved up and down from a corner


def draw_labels(
    picture: np.ndarray, texts: Sequence[str], boxes: np.ndarray, paints: Sequence[RGB]
) -> None:
    """Writes a label at each box, the first ones at their preferred places.

    Preferred is above the upper left corner, then other corners, then places near them. Where none
    is free, the one that covers least of the earlier labels is taken, below them.

    Args:
        picture: `[h, w, 3]` uint8, RGB; changed in place.
        texts: n texts; an empty one is not written.
        boxes: `[n, 4]`, xyxy, pixels of the picture.
        paints: n colours of the background.
    """
    height, width = picture.shape[:2]
    taken = np.zeros((0, 4), np.int64)
    placed = []
    for text, box, paint in zip(texts, boxes, paints, strict=True):
        if text:
            place = _best_place(_candidates(box, _extent(picture, text), height, width), taken)
            taken = np.concatenate([taken, [place]])
            placed.append((text, place, paint))
    for text, place, paint in reversed(placed):
        _write(picture, text, place, paint)


def _best_place(candidates: Iterable[tuple], taken: np.ndarray) -> tuple:
    """Returns the first xyxy that covers no taken one, else the one that covers least."""
    least, best = np.inf, (0, 0, 0, 0)
    for place in candidates:
        sides = np.minimum(taken[:, 2:], place[2:]) - np.maximum(taken[:, :2], place[:2])
        covered = np.prod(np.maximum(sides, 0), axis=1).sum()
        if covered < least:
            least, best = covered, place
        if not covered:
            break
    return best


def _candidates(box, extent: tuple[int, int], height: int, width: int) -> Iterable[tuple]:
    """Yields xyxy inside the picture for a label of an extent (width, height), best first."""
    across, down = extent
    x1, y1, x2, y2 = (round(float(v)) for v in box)
    left, right = x1, x2 - across
    above, below, middle = y1 - down, y2, (y1 + y2 - down) // 2
    corners = [(left, above), (left, y1), (right, above), (left, below), (right, y1)]
    corners += [(right, below), (left, y2 - down), (right, y2 - down)]
    corners += [(x2, middle), (x1 - across, middle), (left, middle)]
    moved = [
        (x, y + side * step * down)
        for step in range(1, _STEPS + 1)
        for x, y in corners[:4]
        for side in (-1, 1)
    ]
    for i, (x, y) in enumerate(corners + moved):
        if i < len(corners) and not 0 <= y <= height - down:
            continue  # no room there; moved into the picture it would be another corner
        x, y = max(0, min(x, width - across)), max(0, min(y, height - down))
        yield x, y, x + across, y + down


def _font(picture: np.ndarray) -> tuple[float, int]:
    """Returns the scale and thickness of letters in a picture."""
    size = min(max(max(picture.shape[:2]) / 1800, 0.42), 2.0)
    return size, max(1, round(size * 1.4))


def _extent(picture: np.ndarray, text: str) -> tuple[int, int]:
    """Returns the width and height of a label with its background, pixels."""
    (width, height), below = cv2.getTextSize(text, _FONT, *_font(picture))
    return width + 4, height + below + 1


def _write(picture: np.ndarray, text: str, place: tuple, paint: RGB) -> None:
    x1, y1, x2, y2 = (int(v) for v in place)
    size, thickness = _font(picture)
    below = cv2.getTextSize(text, _FONT, size, thickness)[1]
    cv2.rectangle(picture, (x1, y1), (x2 - 1, y2 - 1), paint, cv2.FILLED)
    ink = _BLACK if np.dot(paint, (0.299, 0.587, 0.114)) > 120 else _WHITE
    origin = (x1 + 2, y2 - 1 - below + below // 2)
    cv2.putText(picture, text, origin, _FONT, size, ink, thickness, cv2.LINE_AA)
