"""How well anchors fit objects: the best IoU that any anchor has with each box."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from maskrcnn_jax.images.sizes import Size
from maskrcnn_jax.ops.anchors import pyramid_anchors

if TYPE_CHECKING:
    from maskrcnn_jax.models.config import AnchorsConfig


def level_shapes(bucket: Size) -> list[Size]:
    """Returns (height, width) of P2 to P6 for a padded input, cells; as the FPN has them."""
    height, width = bucket
    shapes = [(height // stride, width // stride) for stride in (4, 8, 16, 32)]
    coarsest = shapes[-1]
    return [*shapes, (-(-coarsest[0] // 2), -(-coarsest[1] // 2))]


def best_iou(boxes: np.ndarray, bucket: Size, anchors: "AnchorsConfig") -> np.ndarray:
    """Returns the largest IoU of each box with all anchors of a padded input.

    Anchors of one level and aspect ratio differ in their place alone, and the overlap of two
    intervals of fixed lengths never grows with the distance of their centres. So the nearest row
    and the nearest column have the best anchor, and no other is looked at.

    Args:
        boxes: [n, 4] float32, xyxy, input pixels.
        bucket: height and width of the input, multiples of 32.
        anchors: `config.model.anchors`.

    Returns:
        [n] float32, 0 to 1.
    """
    shapes = level_shapes(bucket)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    best = np.zeros(len(boxes), np.float32)
    for level, (height, width) in zip(
        pyramid_anchors(shapes, bucket, **asdict(anchors)), shapes, strict=True
    ):
        cells = level.reshape(height, width, -1, 4)
        for ratio in range(cells.shape[2]):
            columns, rows = cells[0, :, ratio, [0, 2]], cells[:, 0, ratio, [1, 3]].T
            shared = _overlap(boxes[:, [0, 2]], columns) * _overlap(boxes[:, [1, 3]], rows)
            anchor = np.prod([np.ptp(columns[:, 0]), np.ptp(rows[:, 0])])
            best = np.maximum(best, shared / (area + anchor - shared))
    return best


def _overlap(intervals: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns the overlap of intervals [n, 2] with the nearest of others [2, k] of one length."""
    centres = others.mean(0)
    nearest = np.searchsorted((centres[1:] + centres[:-1]) / 2, intervals.mean(1))
    low = np.maximum(intervals[:, 0], others[0, nearest])
    high = np.minimum(intervals[:, 1], others[1, nearest])
    return np.maximum(high - low, 0)
