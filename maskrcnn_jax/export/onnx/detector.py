"""The whole detector as an ONNX model, written from its variables and not traced.

    image [1, H, W, C] uint8 (or uint16), image_size [1, 2]
        -> boxes [n, 4], scores [n], classes [n], masks [n, 2S, 2S] (not of boxes alone)

Every stage is written by the module of its name; what each computes is documented in `models`.
"""

import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import onnx
from onnx import TensorProto, helper

from maskrcnn_jax.export.onnx import features, heads
from maskrcnn_jax.export.onnx.graph import IR_VERSION, LAST, OPSET, Graph, Part, ints
from maskrcnn_jax.export.onnx.paste import paste
from maskrcnn_jax.export.onnx.pooling import pool
from maskrcnn_jax.export.onnx.rpn import rpn
from maskrcnn_jax.models.mask_rcnn import MaskRCNN

_TYPES = {8: TensorProto.UINT8, 16: TensorProto.UINT16}


def to_onnx(
    model: MaskRCNN,
    variables: Mapping[str, Any],
    shape: tuple[int, int],
    *,
    depth: int = 8,
    pasted: bool = False,
    metadata: Mapping[str, Any] = {},
) -> onnx.ModelProto:
    """Returns a detector as an ONNX model of opset 17 that takes one image.

    Args:
        model: the detector.
        variables: `{"params", "batch_stats"}`.
        shape: H and W of the input, multiples of 32.
        depth: bits of a value of the images, 8 or 16.
        pasted: masks as `[n, H, W]` uint8 of the whole input instead of grids inside the boxes.
        metadata: to keep with the model; values that are no strings are written as JSON.

    Raises:
        ValueError: the detector has a setting that cannot be written.
    """
    check_writable(model.config)
    graph, outputs = Graph(), {}
    variables = jax.device_get(variables)
    part = Part(variables["params"], variables.get("batch_stats", {}))
    boxes, scores, classes, masks = _detector(graph, model, part, shape)
    side = 2 * model.config.mask_head.pool_size
    if masks and pasted:
        masks = paste(graph, masks, boxes, side, shape, model.config.detections.mask_paste)
    outputs = {
        "boxes": (boxes, TensorProto.FLOAT, ["n", 4]),
        "scores": (scores, TensorProto.FLOAT, ["n"]),
        "classes": (classes, TensorProto.INT64, ["n"]),
    }
    if masks:
        outputs["masks"] = (
            (masks, TensorProto.UINT8, ["n", *shape])
            if pasted
            else (masks, TensorProto.FLOAT, ["n", side, side])
        )
    for name, (value, _, _) in outputs.items():
        graph.name(value, name)
    image = [1, *shape, len(model.config.pixel.mean)]
    proto = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "mask_rcnn",
            [
                helper.make_tensor_value_info("image", _TYPES[depth], image),
                helper.make_tensor_value_info("image_size", TensorProto.FLOAT, [1, 2]),
            ],
            [helper.make_tensor_value_info(name, *kind[1:]) for name, kind in outputs.items()],
            list(graph.constants.values()),
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="maskrcnn_jax",
    )
    helper.set_model_props(proto, {name: _text(value) for name, value in metadata.items()})
    onnx.checker.check_model(proto)
    return proto


def check_writable(config: Any) -> None:
    """Checks that ONNX can say what a configuration asks.

    Args:
        config: `config.model`.

    Raises:
        ValueError: naming the key that it cannot.
    """
    if config.dtype != "float32":
        raise ValueError(
            f"config.model.dtype is {config.dtype!r}, in which ONNX's convolutions do not compute; "
            "write the model in float32"
        )
    if config.backbone.kind != "resnet":
        raise ValueError(
            f"config.model.backbone.kind is {config.backbone.kind!r}, which is not written as "
            "ONNX; take --format=stablehlo"
        )
    for name in ("fpn", "box_head", "mask_head"):
        if getattr(config, name).norm == "ln":
            raise ValueError(
                f"config.model.{name}.norm is 'ln', which is not written as ONNX; take "
                "--format=stablehlo"
            )
    if config.keypoints.names:
        raise ValueError(
            "config.model.keypoints has a keypoint head, which is not written as ONNX; take "
            "--format=stablehlo"
        )
    if config.cascade.ious:
        raise ValueError(
            "config.model.cascade has further box heads, which are not written as ONNX; take "
            "--format=stablehlo"
        )
    if config.mask_scoring.enabled:
        raise ValueError(
            "config.model.mask_scoring has a head that scores masks, which is not written as ONNX; "
            "take --format=stablehlo"
        )
    if config.point_rend.enabled:
        raise ValueError(
            "config.model.point_rend is enabled, whose masks are not written as ONNX; take "
            "--format=stablehlo"
        )


def _detector(graph: Graph, model: MaskRCNN, part: Part, shape) -> tuple[str, str, str, str]:
    """Writes `MaskRCNN.predict` for one image; returns boxes, scores, classes and masks, or ""."""
    config = model.config
    corner = np.array([0, 0, 1, 1], np.float32) * (config.corners == "inclusive")
    size = (
        graph("Slice", "image_size", ints(0), ints(1), ints(1)),
        graph("Slice", "image_size", ints(1), ints(LAST), ints(1)),
    )
    image = features.normalized(graph, "image", size, shape, config.pixel)
    pyramid = features.fpn(
        graph,
        features.resnet(graph, image, part["backbone"], config.backbone),
        part["fpn"],
        config.fpn,
    )
    limits = graph("Sub", size[0], corner[2:3]), graph("Sub", size[1], corner[2:3])
    whole = np.float32(shape[0]) - corner[2], np.float32(shape[1]) - corner[2]
    rpn_limits = limits if config.rpn.clip == "image" else whole
    proposals = rpn(graph, pyramid, part["rpn"], config, rpn_limits, corner)

    pooled = pool(graph, pyramid[:4], proposals, config.box_head.pool_size, config.roi)
    logits, deltas = heads.box_head(graph, pooled, part["box_head"], config.box_head)
    found = heads.detect(graph, logits, deltas, proposals, model.num_classes, config, limits)

    classes = graph("Add", found.group, np.int64(1))
    masks = ""
    if config.masks:
        pooled = pool(graph, pyramid[:4], found.boxes, config.mask_head.pool_size, config.roi)
        masks = heads.mask_head(graph, pooled, classes, part["mask_head"], config.mask_head)
    return graph("Add", found.boxes, corner), found.scores, classes, masks


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
