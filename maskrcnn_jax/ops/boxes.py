"""Arithmetic on boxes: area, overlap, clipping, and the coding of one box relative to another.

A box is `x1, y1, x2, y2` in continuous pixel coordinates; its width is `x2 - x1`, without the `+ 1`
of older code. Slots of padding may hold anything, NaN and infinities included: overlaps and deltas
of such boxes come out as finite numbers, so that masking them afterwards is enough.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

# A decoded box is at most this many times as wide or high as its reference: exp() of what an
# untrained or exploding head predicts stays finite (as torchvision 0.28; Detectron, 1000 / 16).
MAX_LOG_SCALE = math.log(1000.0 / 16.0)

Sides = tuple[Array, ...]  # x1, y1, x2, y2


def area(boxes: Array) -> Array:
    """Area of each box.

    Args:
        boxes: `[..., 4]` float32, xyxy, pixels.

    Returns:
        `[...]` float32, square pixels.
    """
    return _area(_sides(boxes))


def _sides(boxes: Array) -> Sides:
    # The sides apart: a TPU pads a last axis of four to a whole tile.
    return tuple(boxes[..., side] for side in range(4))


def _intersection(a: Sides, b: Sides) -> Array:
    width, height = (
        jnp.maximum(jnp.minimum(a[axis + 2], b[axis + 2]) - jnp.maximum(a[axis], b[axis]), 0.0)
        for axis in (0, 1)
    )
    return width * height


def _area(sides: Sides) -> Array:
    x1, y1, x2, y2 = sides
    return (x2 - x1) * (y2 - y1)


def iou(a: Array, b: Array) -> Array:
    """Intersection over union of every pair of boxes, as torchvision 0.28's `box_iou`.

    Args:
        a: `[N, 4]` float32, xyxy, pixels.
        b: `[M, 4]` float32, xyxy, pixels.

    Returns:
        `[N, M]` float32 in 0..1; 0 where the union has no area (torchvision: NaN) or a box is not
        finite.
    """
    return iou_of_sides(_sides(a[:, None]), _sides(b[None, :]))


def iou_of_sides(a: Sides, b: Sides) -> Array:
    """`iou` of boxes whose x1, y1, x2 and y2 are arrays of their own, of shapes that broadcast."""
    intersection = _intersection(a, b)
    union = _area(a) + _area(b) - intersection
    usable = union > 0  # False for NaN
    return jnp.where(usable, intersection / jnp.where(usable, union, 1.0), 0.0)


def overlap_share(a: Array, b: Array) -> Array:
    """Fraction of each box of `a` that lies inside each box of `b`, as COCO compares with crowds.

    Args:
        a: `[N, 4]` float32, xyxy, pixels.
        b: `[M, 4]` float32, xyxy, pixels.

    Returns:
        `[N, M]` float32 in 0..1: intersection / area of `a`; 0 where `a` has no area or a box is
        not finite.
    """
    return overlap_share_of_sides(_sides(a[:, None]), _sides(b[None, :]))


def overlap_share_of_sides(a: Sides, b: Sides) -> Array:
    """`overlap_share` of boxes given as to `iou_of_sides`."""
    area_a = _area(a)
    share = _intersection(a, b) / jnp.where(area_a > 0, area_a, 1.0)
    return jnp.where((area_a > 0) & jnp.isfinite(share), share, 0.0)


def clip(boxes: Array, height: float | Array, width: float | Array) -> Array:
    """Moves every corner into the image.

    Args:
        boxes: `[..., 4]` float32, xyxy, pixels.
        height: scalar, or any shape that broadcasts with `boxes[..., 0]`.
        width: likewise.

    Returns:
        `[..., 4]` float32 with x in 0..width and y in 0..height.
    """
    x1, y1, x2, y2 = jnp.moveaxis(boxes, -1, 0)
    return jnp.stack(
        [
            jnp.clip(x1, 0, width),
            jnp.clip(y1, 0, height),
            jnp.clip(x2, 0, width),
            jnp.clip(y2, 0, height),
        ],
        axis=-1,
    )


def _to_cxcywh(boxes: Array) -> tuple[Array, Array, Array, Array]:
    width = boxes[..., 2] - boxes[..., 0]
    height = boxes[..., 3] - boxes[..., 1]
    return boxes[..., 0] + 0.5 * width, boxes[..., 1] + 0.5 * height, width, height


def encode(reference: Array, boxes: Array, weights: Sequence[float]) -> Array:
    """Deltas that lead from `boxes` to `reference`: the targets of box regression.

    Args:
        reference: `[..., 4]` float32, xyxy, pixels: the boxes aimed at (ground truth).
        boxes: `[..., 4]` float32, xyxy, pixels: where one starts from (anchors, proposals).
        weights: factors of dx, dy, dw and dh.

    Returns:
        `[..., 4]` float32: dx, dy in sides of the box, dw, dh logarithms, each times its weight.
        0 where a box has no area or is not finite. Source: R-CNN (Girshick et al. 2014, appendix
        C), as torchvision 0.28's `BoxCoder`.
    """
    reference_x, reference_y, reference_width, reference_height = _to_cxcywh(reference)
    x, y, width, height = _to_cxcywh(boxes)
    wx, wy, ww, wh = weights
    deltas = jnp.stack(
        [
            wx * (reference_x - x) / width,
            wy * (reference_y - y) / height,
            ww * jnp.log(reference_width / width),
            wh * jnp.log(reference_height / height),
        ],
        axis=-1,
    )
    return jnp.where(jnp.isfinite(deltas).all(axis=-1, keepdims=True), deltas, 0.0)


def decode(deltas: Array, boxes: Array, weights: Sequence[float]) -> Array:
    """Boxes that predicted deltas lead to; the inverse of `encode`.

    Args:
        deltas: `[..., 4]`, any float type: dx, dy, dw, dh times `weights`.
        boxes: `[..., 4]` float32, xyxy, pixels, broadcast with `deltas` (give `boxes[:, None]` for
            deltas of several classes).
        weights: factors of dx, dy, dw and dh.

    Returns:
        `[..., 4]` float32, xyxy, pixels, not clipped. dw and dh count at most `MAX_LOG_SCALE`. As
        torchvision 0.28's `BoxCoder`.
    """
    x, y, width, height = _to_cxcywh(boxes)
    deltas = deltas.astype(jnp.float32) / jnp.asarray(weights, jnp.float32)
    new_x = deltas[..., 0] * width + x
    new_y = deltas[..., 1] * height + y
    half_width = 0.5 * jnp.exp(jnp.minimum(deltas[..., 2], MAX_LOG_SCALE)) * width
    half_height = 0.5 * jnp.exp(jnp.minimum(deltas[..., 3], MAX_LOG_SCALE)) * height
    return jnp.stack(
        [new_x - half_width, new_y - half_height, new_x + half_width, new_y + half_height], axis=-1
    )


def is_at_least(boxes: Array, min_size: float) -> Array:
    """Tells which boxes are at least so wide and so high.

    Args:
        boxes: `[..., 4]` float32, xyxy, pixels.
        min_size: pixels.

    Returns:
        `[...]` bool; False for boxes with NaN.
    """
    return (boxes[..., 2] - boxes[..., 0] >= min_size) & (boxes[..., 3] - boxes[..., 1] >= min_size)
