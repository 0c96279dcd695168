"""From the image to the pyramid: normalisation, ResNet and FPN, as `models` has them."""

from typing import Any

import numpy as np
from onnx import TensorProto

from maskrcnn_jax.export.onnx.graph import LAST, FeatureMap, Graph, Part, ints
from maskrcnn_jax.export.onnx.layers import conv_norm
from maskrcnn_jax.models.backbones.interface import FEATURES
from maskrcnn_jax.models.backbones.resnet import BLOCKS


def normalized(
    graph: Graph, image: str, size: tuple[str, str], shape: tuple[int, int], pixel: Any
) -> FeatureMap:
    """Writes `models.mask_rcnn.normalized`, and the change from NHWC to NCHW.

    Args:
        graph: to write to.
        image: `[1, H, W, C]` uint8 or uint16.
        size: valid height and width, `[1, 1]` float32 each.
        shape: (H, W).
        pixel: `config.model.pixel`.
    """
    height, width = shape
    mean, std = np.asarray(pixel.mean, np.float32), np.asarray(pixel.std, np.float32)
    x = graph("Cast", image, to=TensorProto.FLOAT)
    if pixel.order == "bgr":
        x = graph("Gather", x, ints(2, 1, 0), axis=3)
    rows = np.arange(height, dtype=np.float32)[None, :, None, None]
    columns = np.arange(width, dtype=np.float32)[None, None, :, None]
    inside = graph("And", graph("Less", rows, size[0]), graph("Less", columns, size[1]))
    outside = -mean / std if pixel.padding == "black" else np.zeros(1, np.float32)
    x = graph("Where", inside, graph("Div", graph("Sub", x, mean), std), outside)
    return FeatureMap(graph("Transpose", x, perm=[0, 3, 1, 2]), len(mean), height, width)


def resnet(graph: Graph, x: FeatureMap, part: Part, config: Any) -> list[FeatureMap]:
    """Writes `models.backbones.resnet.ResNet`; returns C2 to C5."""
    kind = config.norm, config.norm_eps
    x = conv_norm(graph, x, part["stem"], *kind, stride=2, relu=True)
    # The sides are even, so TensorFlow's padding is a row at the bottom and a column at the right.
    pads = [0, 0, 1, 1] if config.pool_padding == "same" else [1, 1, 1, 1]
    pooled = graph("MaxPool", x.name, kernel_shape=[3, 3], strides=[2, 2], pads=pads)
    x = FeatureMap(pooled, x.channels, x.height // 2, x.width // 2)
    features = []
    for i, (stage, number) in enumerate(zip(FEATURES, BLOCKS[config.depth], strict=True)):
        for j in range(number):
            stride = 2 if i > 0 and j == 0 else 1
            x = _block(graph, x, part[f"stage_{stage}_{j}"], config, stride)
        features.append(x)
    return features


def _block(graph: Graph, x: FeatureMap, part: Part, config: Any, stride: int) -> FeatureMap:
    """Writes a `Bottleneck` or a `BasicBlock`."""
    if "conv3" in part:
        first, second = (stride, 1) if config.stride_in_1x1 else (1, stride)
        steps = [("conv1", first, True), ("conv2", second, True), ("conv3", 1, False)]
    else:
        steps = [("conv1", stride, True), ("conv2", 1, False)]
    kind = config.norm, config.norm_eps
    y = x
    for name, step, relu in steps:
        y = conv_norm(graph, y, part[name], *kind, stride=step, relu=relu)
    if "shortcut" in part:
        x = conv_norm(graph, x, part["shortcut"], *kind, stride=stride)
    return y._replace(name=graph("Relu", graph("Add", x.name, y.name)))


def fpn(graph: Graph, features: list[FeatureMap], part: Part, config: Any) -> list[FeatureMap]:
    """Writes `models.fpn.FPN`; returns P2 to P6."""
    kind = config.norm, config.norm_eps
    merged: FeatureMap | None = None
    pyramid: list[FeatureMap] = []
    for level, feature in zip((5, 4, 3, 2), reversed(features), strict=True):
        lateral = conv_norm(graph, feature, part[f"lateral_c{level}"], *kind)
        if merged is not None:
            doubled = _doubled(graph, merged)
            lateral = lateral._replace(name=graph("Add", lateral.name, doubled))
        merged = lateral
        pyramid.insert(0, conv_norm(graph, merged, part[f"output_p{level}"], *kind))
    last = pyramid[-1]
    halved = graph("Slice", last.name, ints(0, 0), ints(LAST, LAST), ints(2, 3), ints(2, 2))
    p6 = FeatureMap(halved, last.channels, -(-last.height // 2), -(-last.width // 2))
    return [*pyramid, p6]


def _doubled(graph: Graph, x: FeatureMap) -> str:
    return graph(
        "Resize",
        x.name,
        None,
        np.array([1, 1, 2, 2], np.float32),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
