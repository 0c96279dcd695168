"""Arithmetic on boxes `[..., 4]`, as `ops.boxes` and `ops.nms` have it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from maskrcnn_jax.export.onnx.graph import Graph, Input, ints
from maskrcnn_jax.ops.boxes import MAX_LOG_SCALE

# What no candidate has: every score is above it.
NO_SCORE = np.float32(-1)


def corners(graph: Graph, boxes: Input) -> Sequence[str]:
    """Returns x1, y1, x2 and y2, `[..., 1]` each."""
    return graph.several("Split", 4, boxes, ints(1, 1, 1, 1), axis=-1)


def decode(graph: Graph, deltas: str, boxes: Input, weights: Sequence[float]) -> Sequence[str]:
    """Writes `ops.boxes.decode`; returns x1, y1, x2 and y2, `[..., 1]` each.

    Args:
        graph: to write to.
        deltas: `[..., 4]`.
        boxes: `[..., 4]`, broadcast with them.
        weights: factors of dx, dy, dw and dh.
    """
    x1, y1, x2, y2 = corners(graph, boxes)
    dx, dy, dw, dh = corners(graph, graph("Div", deltas, np.asarray(weights, np.float32)))
    half = np.float32(0.5)
    sides = []
    for low, high, shift, growth in ((x1, x2, dx, dw), (y1, y2, dy, dh)):
        side = graph("Sub", high, low)
        centre = graph("Add", low, graph("Mul", side, half))
        centre = graph("Add", graph("Mul", shift, side), centre)
        factor = graph("Exp", graph("Min", growth, np.float32(MAX_LOG_SCALE)))
        reach = graph("Mul", graph("Mul", factor, half), side)
        sides.append((graph("Sub", centre, reach), graph("Add", centre, reach)))
    (left, right), (top, bottom) = sides
    return left, top, right, bottom


def clip(graph: Graph, parts: Sequence[str], limits: tuple[Input, Input]) -> str:
    """Writes `ops.boxes.clip`; returns `[..., 4]`.

    Args:
        graph: to write to.
        parts: x1, y1, x2 and y2, as `decode` returns them.
        limits: the largest y and x.
    """
    height, width = limits
    clipped = [
        graph("Max", graph("Min", part, limit), np.float32(0))
        for part, limit in zip(parts, (width, height, width, height), strict=True)
    ]
    return graph("Concat", *clipped, axis=-1)


def scores_of_at_least(graph: Graph, boxes: str, scores: str, min_size: float) -> str:
    """Returns scores `[...]`, replaced by `NO_SCORE` where the box is smaller than allowed."""
    x1, y1, x2, y2 = corners(graph, boxes)
    size = np.float32(min_size)
    wide = graph("GreaterOrEqual", graph("Sub", x2, x1), size)
    high = graph("GreaterOrEqual", graph("Sub", y2, y1), size)
    large = graph("Squeeze", graph("And", wide, high), ints(-1))
    return graph("Where", large, scores, NO_SCORE)


class Best(NamedTuple):
    """What remains of groups of boxes: n boxes, best first."""

    boxes: str  # [n, 4]
    scores: str  # [n]
    group: str  # [n] int64, of each box


def best_of_groups(
    graph: Graph,
    boxes: str,
    scores: str,
    above: Input,
    threshold: float,
    number: int,
    ties: str = "group",
) -> Best:
    """Suppresses the boxes of each group among themselves; the best of all groups remain.

    A group is a batch of NonMaxSuppression, so that one node serves them all.

    Args:
        graph: to write to.
        boxes: `[groups, slots, 4]`.
        scores: `[groups, slots]`.
        above: `[1]` float32; only boxes with a higher score are candidates.
        threshold: IoU above which the worse box goes.
        number: boxes that remain; fewer where there are not as many.
        ties: which of equal scores comes first, that of the lower `group` or of the lower `slot`.
    """
    chosen = graph(
        "NonMaxSuppression",
        boxes,
        graph("Unsqueeze", scores, ints(1)),
        ints(number),
        np.array([threshold], np.float32),
        above,
    )
    group, _, slot = graph.several("Split", 3, chosen, ints(1, 1, 1), axis=1)
    group, slot = graph("Squeeze", group, ints(1)), graph("Squeeze", slot, ints(1))
    slots_of_group = graph("Gather", graph("Shape", boxes), np.int64(1))
    place = graph("Add", graph("Mul", group, slots_of_group), slot)
    if ties == "slot":
        groups = graph("Gather", graph("Shape", boxes), np.int64(0))
        order = ascending(graph, graph("Add", graph("Mul", slot, groups), group))
        place, group = graph("Gather", place, order), graph("Gather", group, order)
    found = graph("Gather", graph("Reshape", scores, ints(-1)), place)
    top, order = top_k(graph, found, number)
    boxes = graph("Reshape", boxes, ints(-1, 4))
    boxes = graph("Gather", boxes, graph("Gather", place, order))
    return Best(boxes, top, graph("Gather", group, order))


def top_k(graph: Graph, x: str, number: int) -> Sequence[str]:
    """Returns the largest values of a vector and their indices; of equal ones, the first first."""
    count = graph("Min", graph("Shape", x), ints(number))
    return graph.several("TopK", 2, x, count, axis=0)


def ascending(graph: Graph, x: str) -> str:
    """Returns the indices that sort a vector."""
    return graph.several("TopK", 2, x, graph("Shape", x), axis=0, largest=0)[1]
