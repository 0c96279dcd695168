"""From a mask on the head's small grid to pixels of the image.

The grid gets a border of one zero cell, so that a mask can fade out, and is interpolated bilinearly
at the centres of the pixels under the box that has grown by that border. The rules differ in where
those centres lie:

- "exact": where they are, the corners left as real numbers.
- "torchvision": as `paste_masks_in_image` of torchvision 0.28, which truncates the corners of the
  grown box to integers and stretches the grid over the pixels from the first corner to the second,
  both included: up to a pixel off, which small objects feel.

Only the part inside the image is ever stored.
"""

from typing import NamedTuple

import cv2
import numpy as np

from maskrcnn_jax.images.config import PASTE_RULES

_BORDER = 1  # cells of zeros around the grid


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
    mask: np.ndarray,
    box: np.ndarray,
    height: int,
    width: int,
    threshold: float = 0.5,
    rule: str = "exact",
) -> MaskCrop:
    """Pastes one mask and keeps only the rectangle that its box covers in the image.

    Args:
        mask: `[m, m]` float32, probabilities.
        box: `[4]`, xyxy, pixels of the image.
        height: of the image, pixels.
        width: of the image, pixels.
        threshold: a pixel belongs to the object if its probability is greater.
        rule: "exact" or "torchvision", see above.

    Returns:
        The crop; its sides are zero for a box wholly outside the image.

    Raises:
        ValueError: the rule is unknown.
    """
    values, y, x = _paste_visible(mask, box, height, width, rule)
    return MaskCrop(values > threshold, y, x)


def paste_mask(
    mask: np.ndarray, box: np.ndarray, height: int, width: int, rule: str = "exact"
) -> np.ndarray:
    """Pastes one mask into an image, without a threshold.

    Args:
        mask: `[m, m]` float32, probabilities.
        box: `[4]`, xyxy, pixels of the image.
        height: of the image, pixels.
        width: of the image, pixels.
        rule: as for `paste_crop`.

    Returns:
        `[height, width]` float32, probabilities; zero outside the grown box.
    """
    values, y, x = _paste_visible(mask, box, height, width, rule)
    image = np.zeros((height, width), np.float32)
    image[y : y + values.shape[0], x : x + values.shape[1]] = values
    return image


def box_crop(box: np.ndarray) -> MaskCrop:
    """Returns a box `[4]`, xyxy, pixels of the image and inside it, as a mask."""
    x1, y1, x2, y2 = np.rint(box).astype(int).tolist()
    return MaskCrop(np.ones((y2 - y1, x2 - x1), bool), y1, x1)


def full_mask(crop: MaskCrop, height: int, width: int) -> np.ndarray:
    """Returns a crop as a mask of the whole image, `[height, width]` bool."""
    image = np.zeros((height, width), bool)
    image[crop.y : crop.y + crop.mask.shape[0], crop.x : crop.x + crop.mask.shape[1]] = crop.mask
    return image


def _paste_visible(mask, box, height, width, rule):
    """Returns the interpolated grid inside the image, and that part's first row and column."""
    if rule not in PASTE_RULES:
        raise ValueError(f"the rule for pasting masks is {rule!r}; expected one of {PASTE_RULES}")
    grid = np.pad(np.asarray(mask, np.float32), _BORDER)
    paste = _paste_exactly if rule == "exact" else _paste_on_whole_pixels
    return paste(grid, np.asarray(box, np.float32), height, width)


def _paste_exactly(grid, box, height, width):
    side = len(grid) - 2 * _BORDER
    x1, y1, x2, y2 = (float(corner) for corner in box)
    top, rows = _tents(y1, y2, side, height)
    left, columns = _tents(x1, x2, side, width)
    return rows @ grid @ columns.T, top, left


def _tents(low: float, high: float, side: int, length: int) -> tuple[int, np.ndarray]:
    """Interpolates along one axis: the first pixel, and each pixel's weights `[n, side + 2]`."""
    cell = max(high - low, 1e-6) / side
    first = max(int(np.floor(low - _BORDER * cell)), 0)
    end = max(min(int(np.ceil(high + _BORDER * cell)), length), first)
    centres = (np.arange(first, end) + 0.5 - low) / cell + _BORDER - 0.5  # in cells of the grid
    distance = np.abs(centres[:, None] - np.arange(side + 2 * _BORDER))
    return first, np.maximum(1 - distance, 0).astype(np.float32)


def _paste_on_whole_pixels(grid, box, height, width):
    side = len(grid) - 2 * _BORDER
    x1, y1, x2, y2 = _grown_box(box, len(grid) / side)
    rows, columns = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
    top, bottom = max(y1, 0), min(y2 + 1, height)
    left, right = max(x1, 0), min(x2 + 1, width)
    if bottom <= top or right <= left:
        return np.zeros((0, 0), np.float32), 0, 0
    values = cv2.resize(grid, (columns, rows), interpolation=cv2.INTER_LINEAR)
    return values[top - y1 : bottom - y1, left - x1 : right - x1], top, left


def _grown_box(box: np.ndarray, factor: float) -> tuple[int, int, int, int]:
    """Enlarges a box about its centre; the corners are truncated towards zero, in float32."""
    x1, y1, x2, y2 = box
    half, scale = np.float32(0.5), np.float32(factor)
    half_width, half_height = (x2 - x1) * half * scale, (y2 - y1) * half * scale
    x, y = (x2 + x1) * half, (y2 + y1) * half
    return int(x - half_width), int(y - half_height), int(x + half_width), int(y + half_height)
