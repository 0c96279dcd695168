"""From a mask on the head's small grid to pixels of the image.

The rule is that of torchvision 0.28 (`paste_masks_in_image`), whole pixels and all: the grid gets a
border of one zero cell, the box grows by that border and its corners are truncated to integers, and
the grid is resized bilinearly (half-pixel centres) to the pixels from the first corner to the
second, both included. Only the part inside the image is ever stored.
"""

from typing import NamedTuple

import cv2
import numpy as np

_BORDER = 1  # cells of zeros around the grid, so that a mask can fade out inside its box


class MaskCrop(NamedTuple):
    """The part of an image's mask that can be other than zero, and where it lies.

    Attributes:
        mask: `[h, w]` bool.
        y: row of the image in which the first row of `mask` lies.
        x: column of the image in which the first column of `mask` lies.
    """

    mask: np.ndarray
    y: int
    x: int


def paste_crop(
    mask: np.ndarray, box: np.ndarray, height: int, width: int, threshold: float = 0.5
) -> MaskCrop:
    """Pastes one mask and keeps only the rectangle that its box covers in the image.

    Args:
        mask: `[m, m]` float32, probabilities.
        box: `[4]`, xyxy, pixels of the image.
        height: of the image, pixels.
        width: of the image, pixels.
        threshold: a pixel belongs to the object if its probability is greater.

    Returns:
        The crop; its sides are zero for a box wholly outside the image.
    """
    values, y, x = _paste_visible(mask, box, height, width)
    return MaskCrop(values > threshold, y, x)


def paste_mask(mask: np.ndarray, box: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pastes one mask into an image, without a threshold.

    Args:
        mask: `[m, m]` float32, probabilities.
        box: `[4]`, xyxy, pixels of the image.
        height: of the image, pixels.
        width: of the image, pixels.

    Returns:
        `[height, width]` float32, probabilities; zero outside the box.
    """
    values, y, x = _paste_visible(mask, box, height, width)
    image = np.zeros((height, width), np.float32)
    image[y : y + values.shape[0], x : x + values.shape[1]] = values
    return image


def full_mask(crop: MaskCrop, height: int, width: int) -> np.ndarray:
    """Returns a crop as a mask of the whole image, `[height, width]` bool."""
    image = np.zeros((height, width), bool)
    image[crop.y : crop.y + crop.mask.shape[0], crop.x : crop.x + crop.mask.shape[1]] = crop.mask
    return image


def _paste_visible(mask, box, height, width):
    """Returns the resized grid's part inside the image, and that part's first row and column."""
    side = mask.shape[-1]
    x1, y1, x2, y2 = _grown_box(box, (side + 2 * _BORDER) / side)
    grid = np.pad(np.asarray(mask, np.float32), _BORDER)
    rows, columns = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
    top, bottom = max(y1, 0), min(y2 + 1, height)
    left, right = max(x1, 0), min(x2 + 1, width)
    if bottom <= top or right <= left:
        return np.zeros((0, 0), np.float32), 0, 0
    values = cv2.resize(grid, (columns, rows), interpolation=cv2.INTER_LINEAR)
    return values[top - y1 : bottom - y1, left - x1 : right - x1], top, left


def _grown_box(box: np.ndarray, factor: float) -> tuple[int, int, int, int]:
    """Enlarges a box about its centre; the corners are truncated towards zero, in float32."""
    x1, y1, x2, y2 = np.asarray(box, np.float32)
    half, factor = np.float32(0.5), np.float32(factor)
    half_width, half_height = (x2 - x1) * half * factor, (y2 - y1) * half * factor
    x, y = (x2 + x1) * half, (y2 + y1) * half
    return int(x - half_width), int(y - half_height), int(x + half_width), int(y + half_height)
