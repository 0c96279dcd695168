"""Tables of small pictures."""

from collections.abc import Sequence

import cv2
import numpy as np

from maskrcnn_jax.visualization.drawing import side_by_side

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GREY = (200, 200, 200)
_LINE = 20  # pixels of the line of text below each row


def table(
    rows: Sequence[Sequence[np.ndarray]],
    titles: Sequence[str],
    words: Sequence[str],
    side: int = 160,
) -> np.ndarray:
    """Joins rows of pictures, each row with a line of text below.

    Args:
        rows: n rows of pictures `[h, w, 3]` uint8 RGB or grey `[h, w]`, of any sizes; each is
            fitted into a square, its shape kept.
        titles: of the columns.
        words: of the rows.
        side: of the squares, pixels.

    Returns:
        `[H, W, 3]` uint8, RGB; without rows the titles alone.
    """
    columns = []
    for column in range(len(titles)):
        cells = [np.zeros((0, side, 3), np.uint8)]
        for row in rows:
            cells += [_fitted(row[column], side), np.full((_LINE, side, 3), 255, np.uint8)]
        columns.append(np.concatenate(cells))
    picture = side_by_side(columns, titles)
    for i, text in enumerate(words):
        y = 28 + (i + 1) * (side + _LINE) - 6
        cv2.putText(picture, text, (4, y), _FONT, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return picture


def crop(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Returns the pixels of an image under a box, at least one; a view.

    Args:
        image: `[h, w, ...]`.
        box: `[4]`, xyxy, pixels; may reach beyond the image.
    """
    height, width = image.shape[:2]
    size = np.array([width, height])
    x1, y1 = np.clip(np.floor(box[:2]), 0, size - 1).astype(int)
    x2, y2 = np.clip(np.ceil(box[2:]), 1, size).astype(int)
    return image[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)]


def heat(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Returns `[h, w]` numbers as colours, black for `low` to white-yellow for `high`."""
    share = np.clip((values.astype(np.float64) - low) / max(high - low, 1e-9), 0, 1)
    return cv2.applyColorMap((255 * share).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]


def _fitted(picture: np.ndarray, side: int) -> np.ndarray:
    """Returns a picture enlarged or reduced into a square, on grey."""
    picture = np.asarray(picture, np.uint8)
    picture = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)
    scale = side / max(picture.shape[:2])
    height, width = (max(1, min(side, round(scale * n))) for n in picture.shape[:2])
    how = cv2.INTER_NEAREST if scale > 1 else cv2.INTER_AREA
    cell = np.full((side, side, 3), _GREY, np.uint8)
    cell[:height, :width] = cv2.resize(picture, (width, height), interpolation=how)
    return cell
