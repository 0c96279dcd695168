"""Losses of box regression that compare whole boxes by their overlap.

All of them are 1 less the intersection over union, and each adds what else is wrong: see GIoU
(Rezatofighi et al. 2019), DIoU and CIoU (Zheng et al. 2020). The arithmetic is that of torchvision
0.28's `generalized_box_iou_loss`, `distance_box_iou_loss` and `complete_box_iou_loss`, in float32.
Boxes are xyxy; padding must hold boxes with an area, whatever they are (`losses.masked` comes after
the loss, and selects the value, but not the gradient of NaN).
"""

import math

import jax
import jax.numpy as jnp
from jax import Array

_EPS = 1e-7  # torchvision's, added to what is divided by


def generalized_iou_loss(pred: Array, target: Array) -> Array:
    """Adds the fraction of the smallest enclosing box that neither of both boxes covers.

    Args:
        pred: `[..., 4]` float32, pixels.
        target: broadcasts with `pred`.

    Returns:
        `[...]` float32 in 0..2.
    """
    iou, union = _overlap(pred, target)
    width, height = _enclosing(pred, target)
    enclosing = width * height
    return 1 - iou + (enclosing - union) / (enclosing + _EPS)


def distance_iou_loss(pred: Array, target: Array) -> Array:
    """Adds the squared distance of the centres, in diagonals of the smallest enclosing box.

    Args and returns as `generalized_iou_loss`.
    """
    iou, _ = _overlap(pred, target)
    width, height = _enclosing(pred, target)
    apart = (pred[..., :2] + pred[..., 2:] - target[..., :2] - target[..., 2:]) / 2
    return 1 - iou + jnp.square(apart).sum(axis=-1) / (width**2 + height**2 + _EPS)


def complete_iou_loss(pred: Array, target: Array) -> Array:
    """Adds to `distance_iou_loss` how much the ratio of the sides differs.

    Args as `generalized_iou_loss`.

    Returns:
        `[...]` float32, at least 0. The factor by which the ratio counts passes no gradient.
    """
    iou, _ = _overlap(pred, target)
    turn = jnp.square(_angle(target) - _angle(pred)) * (4 / math.pi**2)
    factor = jax.lax.stop_gradient(turn / (1 - iou + turn + _EPS))
    return distance_iou_loss(pred, target) + factor * turn


def _overlap(pred: Array, target: Array) -> tuple[Array, Array]:
    """Returns the intersection over union of each pair, and the union's area."""
    low = jnp.maximum(pred[..., :2], target[..., :2])
    high = jnp.minimum(pred[..., 2:], target[..., 2:])
    intersection = jnp.maximum(high - low, 0.0).prod(axis=-1)
    areas = [(box[..., 2:] - box[..., :2]).prod(axis=-1) for box in (pred, target)]
    union = areas[0] + areas[1] - intersection
    return intersection / (union + _EPS), union


def _enclosing(pred: Array, target: Array) -> tuple[Array, Array]:
    """Returns width and height of the smallest box that holds both boxes of a pair."""
    low = jnp.minimum(pred[..., :2], target[..., :2])
    high = jnp.maximum(pred[..., 2:], target[..., 2:])
    return high[..., 0] - low[..., 0], high[..., 1] - low[..., 1]


def _angle(boxes: Array) -> Array:
    """Returns the angle of the diagonal; a side that has vanished gives no NaN in the gradient."""
    width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    return jnp.arctan2(width, jnp.maximum(height, _EPS))
