"""Anchors of an image matched with its objects: hundreds of thousands with a few.

The same in two forms. `_one_by_one` goes through the objects that there are, with vectors of all
anchors: nothing is as large as all pairs, and what is not there costs nothing. On a CPU that takes
a third of the time of all pairs where all 100 slots are objects, and less where they are few. A GPU
would have to start several kernels for each object: it has `_all_pairs`.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from maskrcnn_jax.ops import boxes as box_ops
from maskrcnn_jax.ops.matching import (
    IGNORED,
    LANES,
    NEGATIVE,
    POSITIVE,
    TILE,
    ignore_crowd,
    match,
)


class Rules(NamedTuple):
    """When an anchor is an object and when background.

    Attributes:
        high: overlap from which on an anchor is positive.
        low: best overlap below which it is negative.
        max_share: see `ops.matching.ignore_crowd`.
    """

    high: float
    low: float
    max_share: float


def match_anchors(
    anchors: Array, boxes: Array, is_object: Array, is_crowd: Array, rules: Rules
) -> tuple[Array, Array]:
    """Matches every anchor with the object that it overlaps most, low overlaps among them.

    As `ops.matching.match` with `allow_low_quality`, and `ignore_crowd` after it.

    Args:
        anchors: `[A, 4]` float32, xyxy, pixels.
        boxes: `[G, 4]` float32, likewise, of the truth.
        is_object: `[G]` bool, the slots that hold single objects.
        is_crowd: `[G]` bool, the slots that hold crowd regions.
        rules: when an anchor is what.

    Returns:
        label: `[A]` int32: 1 positive, 0 negative, -1 ignored.
        matched: `[A, 4]` float32, the box of a positive anchor's object; zeros for the others.
    """
    arguments = jax.tree.map(jnp.asarray, (anchors, boxes, is_object, is_crowd))
    one_by_one = partial(_one_by_one, rules=rules)
    return jax.lax.platform_dependent(
        *arguments, cpu=one_by_one, tpu=one_by_one, default=partial(_all_pairs, rules=rules)
    )


def _all_pairs(anchors, boxes, is_object, is_crowd, rules):
    iou = box_ops.iou(boxes, anchors)
    matched, label = match(iou, is_object, rules.high, rules.low, allow_low_quality=True)
    label = ignore_crowd(label, anchors, boxes, is_crowd, rules.max_share)
    return label, jnp.where((label == POSITIVE)[:, None], boxes[matched], 0.0)


class _Found(NamedTuple):
    """Of every anchor, after some of the objects: `[A / 128, 128]` each."""

    overlap: Array  # with the object that it overlaps most; -1: none yet
    sides: tuple[Array, ...]  # of that object: x1, y1, x2, y2
    is_best: Array  # whether it overlaps an object most of all anchors
    in_crowd: Array


def _one_by_one(anchors, boxes, is_object, is_crowd, rules):
    number = anchors.shape[0]
    padded = jnp.pad(anchors, ((0, -number % TILE), (0, 0)))
    columns = tuple(padded.T.reshape(4, -1, LANES))

    def add(slot, found):
        box = tuple(boxes[slot])
        iou = box_ops.iou_of_sides(box, columns)
        share = box_ops.overlap_share_of_sides(columns, box)
        # Equality with the maximum is meant to the bit: the compiler shall not compute the overlap
        # a second time, rounded otherwise.
        iou = jax.lax.optimization_barrier(jnp.where(is_object[slot] & ~jnp.isnan(iou), iou, -1.0))
        highest = iou.max()
        is_more = iou > found.overlap
        sides = zip(box, found.sides, strict=True)
        return _Found(
            jnp.where(is_more, iou, found.overlap),
            tuple(jnp.where(is_more, new, old) for new, old in sides),
            # An object that no anchor touches is matched by none, see `match`.
            found.is_best | ((iou == highest) & (highest > 0)),
            found.in_crowd | ((share >= rules.max_share) & is_crowd[slot]),
        )

    zero = jnp.zeros_like(columns[0])
    nothing = _Found(zero - 1, (zero,) * 4, zero > 0, zero > 0)
    slots = jnp.arange(boxes.shape[0])
    used = jnp.where(is_object | is_crowd, slots + 1, 0).max(initial=0)
    found = jax.lax.fori_loop(0, used, add, nothing)
    found = jax.tree.map(lambda array: array.reshape(-1)[:number], found)
    label = jnp.where(found.overlap < rules.low, NEGATIVE, IGNORED)
    label = jnp.where(found.in_crowd, IGNORED, label)
    is_positive = (found.overlap >= rules.high) | found.is_best
    label = jnp.where(is_positive, POSITIVE, label).astype(jnp.int32)
    return label, jnp.where(is_positive[:, None], jnp.stack(found.sides, axis=-1), 0.0)
