"""Region proposals: the RPN's layers and `models.rpn.propose`, for one image."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from maskrcnn_jax.export.onnx.boxes import (
    NO_SCORE,
    best_of_groups,
    clip,
    decode,
    scores_of_at_least,
)
from maskrcnn_jax.export.onnx.graph import FeatureMap, Graph, Input, Part, ints
from maskrcnn_jax.export.onnx.layers import conv
from maskrcnn_jax.ops.anchors import pyramid_anchors


class Level(NamedTuple):
    """What the RPN says of the anchors of one level, or of all of them."""

    logits: str  # [A]
    deltas: str  # [A, 4]
    anchors: np.ndarray  # [A, 4] float32


def rpn(
    graph: Graph,
    pyramid: Sequence[FeatureMap],
    part: Part,
    config: Any,
    limits: tuple[Input, Input],
    corner: np.ndarray,
) -> str:
    """Writes the proposals of an image; returns them, `[n, 4]`, best first.

    Args:
        graph: to write to.
        pyramid: P2 to P6.
        part: the variables of the RPN.
        config: `config.model`.
        limits: the largest y and x of a proposal.
        corner: `[4]`, what the network's own coordinates lack (`MaskRCNN.corner`).
    """
    settings = config.rpn
    levels = _heads(graph, pyramid, part, config, corner)
    if settings.nms == "joint":
        levels = [_joined(graph, levels)]
    number = settings.pre_nms_top_n_eval
    slots = max(min(number, len(level.anchors)) for level in levels)
    boxes, scores = [], []
    for level in levels:
        best, score = _best_of_level(graph, level, min(number, len(level.anchors)), config, limits)
        if missing := slots - min(number, len(level.anchors)):
            best = graph("Pad", best, ints(0, 0, missing, 0))
            score = graph("Pad", score, ints(0, missing), NO_SCORE)
        boxes.append(graph("Unsqueeze", best, ints(0)))
        scores.append(graph("Unsqueeze", score, ints(0)))
    return best_of_groups(
        graph,
        graph("Concat", *boxes, axis=0),
        graph("Concat", *scores, axis=0),
        above=np.array([NO_SCORE / 2]),
        threshold=settings.nms_threshold,
        number=settings.post_nms_top_n_eval,
    ).boxes


def _heads(graph, pyramid, part: Part, config, corner) -> list[Level]:
    """The layers of `models.rpn.RPNHead` on every level, with its anchors."""
    image_shape = 4 * pyramid[0].height, 4 * pyramid[0].width
    settings = config.anchors
    anchors = pyramid_anchors(
        [(level.height, level.width) for level in pyramid],
        image_shape,
        settings.sizes,
        settings.aspect_ratios,
        settings.rounded,
        settings.strides,
    )
    levels = []
    for x, of_level in zip(pyramid, anchors, strict=True):
        for i in range(config.rpn.convs):
            x = conv(graph, x, part[f"conv_{i}"], relu=True)
        logits, deltas = (conv(graph, x, part[name]).name for name in ("logits", "deltas"))
        # To rows, columns, anchors of a cell: the order of the anchors.
        logits, deltas = (graph("Transpose", y, perm=[0, 2, 3, 1]) for y in (logits, deltas))
        logits = graph("Reshape", logits, ints(-1))
        deltas = graph("Reshape", deltas, ints(-1, 4))
        levels.append(Level(logits, deltas, (of_level - corner).astype(np.float32)))
    return levels


def _joined(graph: Graph, levels: Sequence[Level]) -> Level:
    logits, deltas, anchors = zip(*levels, strict=True)
    return Level(
        graph("Concat", *logits, axis=0),
        graph("Concat", *deltas, axis=0),
        np.concatenate(anchors),
    )


def _best_of_level(graph, level: Level, number, config, limits) -> tuple[str, str]:
    """The boxes `[number, 4]` and scores `[number]` of a level's best anchors."""
    logits, index = graph.several("TopK", 2, level.logits, ints(number), axis=0)
    deltas, anchors = (graph("Gather", x, index) for x in (level.deltas, level.anchors))
    boxes = decode(graph, deltas, anchors, config.rpn.coder_weights)
    boxes = clip(graph, boxes, limits)
    scores = graph("Sigmoid", logits)
    return boxes, scores_of_at_least(graph, boxes, scores, config.rpn.min_size)
