"""The box head with its detections, and the mask head, for one image."""

from typing import Any

import numpy as np

from maskrcnn_jax.export.onnx.boxes import (
    NO_SCORE,
    Best,
    best_of_groups,
    clip,
    decode,
    scores_of_at_least,
)
from maskrcnn_jax.export.onnx.graph import LAST, FeatureMap, Graph, Input, Part, ints
from maskrcnn_jax.export.onnx.layers import conv_norm, dense, upsample

_COORDINATES = 4


def box_head(graph: Graph, x: FeatureMap, part: Part, config: Any) -> tuple[str, str]:
    """Writes `models.box_head.BoxHead`.

    Args:
        graph: to write to.
        x: pooled features of n RoIs.
        part: its variables.
        config: `config.model.box_head`.

    Returns:
        Class logits `[n, K + 1]` and box deltas `[n, 4 K]`, without the background's, which nobody
        reads; or `[n, 4]` where they are of all classes.
    """
    for i in range(config.convs):
        x = conv_norm(graph, x, part[f"conv_{i}"], config.norm, config.norm_eps, relu=True)
    y = graph("Flatten", x.name, axis=1)
    for i in range(1 if config.convs else 2):
        norm = None if config.dense_norm == "none" else part[f"dense_norm_layer_{i}"]
        window = x.height if i == 0 else 0
        y = dense(graph, y, part[f"dense_{i}"], norm, config.norm_eps, window, relu=True)
    first = 0 if config.class_agnostic else _COORDINATES
    deltas = {name: array[..., first:] for name, array in part["box_deltas"].params.items()}
    return dense(graph, y, part["class_logits"]), dense(graph, y, Part(deltas, {}))


def detect(
    graph: Graph,
    logits: str,
    deltas: str,
    proposals: str,
    num_classes: int,
    config: Any,
    limits: tuple[Input, Input],
) -> Best:
    """Writes `models.detections.detect`; a group of the result is a class less one.

    Args:
        graph: to write to.
        logits: as `box_head` returns them.
        deltas: as `box_head` returns them.
        proposals: `[n, 4]`.
        num_classes: K.
        config: `config.model`.
        limits: the largest y and x of a box.
    """
    settings = config.detections
    if config.box_head.class_loss == "softmax":
        scores = graph("Softmax", logits, axis=1)
    else:
        scores = graph("Sigmoid", logits)
    scores = graph("Slice", scores, ints(1), ints(LAST), ints(1))
    sets = 1 if config.box_head.class_agnostic else num_classes
    deltas = graph("Reshape", deltas, ints(0, sets, _COORDINATES))
    proposals = graph("Unsqueeze", proposals, ints(1))
    boxes = clip(graph, decode(graph, deltas, proposals, config.box_head.coder_weights), limits)
    if config.box_head.class_agnostic:
        boxes = graph("Expand", boxes, ints(1, num_classes, 1))
    scores = scores_of_at_least(graph, boxes, scores, settings.min_size)
    if settings.classes == "best":
        scores = _of_best_class(graph, logits, scores, num_classes)
    return best_of_groups(
        graph,
        graph("Transpose", boxes, perm=[1, 0, 2]),
        graph("Transpose", scores, perm=[1, 0]),
        above=graph.constant(np.array([settings.score_threshold], np.float32), "score_threshold"),
        threshold=settings.nms_threshold,
        number=settings.max_per_image,
        ties="slot",
    )


def _of_best_class(graph: Graph, logits: str, scores: str, number: int) -> str:
    """Leaves each RoI the score of its best class alone, and none where that is the background."""
    best = graph("ArgMax", logits, axis=1, keepdims=1)
    classes = np.arange(1, number + 1)
    return graph("Where", graph("Equal", best, classes), scores, NO_SCORE)


def mask_head(graph: Graph, x: FeatureMap, classes: str, part: Part, config: Any) -> str:
    """Writes `models.mask_head.MaskHead` and the sigmoid; returns `[n, 2S, 2S]`.

    Args:
        graph: to write to.
        x: pooled features of n RoIs.
        classes: `[n]` int64, 1..K; a RoI's mask is computed for its own class alone.
        part: its variables.
        config: `config.model.mask_head`.
    """
    for i in range(config.convs):
        x = conv_norm(graph, x, part[f"conv_{i}"], config.norm, config.norm_eps, relu=True)
    x = upsample(graph, x, part["upsample"])
    name, predictor = graph("Relu", x.name), part["mask_logits"]
    if config.class_agnostic:
        classes = graph("Mul", classes, np.int64(0))
    kernel = graph("Gather", predictor.array("kernel").T, classes)  # [n, C]
    bias = graph("Gather", predictor.array("bias"), classes)  # [n]
    weighted = graph("Mul", name, graph("Unsqueeze", kernel, ints(2, 3)))
    logits = graph("ReduceSum", weighted, ints(1), keepdims=0)
    return graph("Sigmoid", graph("Add", logits, graph("Unsqueeze", bias, ints(1, 2))))
