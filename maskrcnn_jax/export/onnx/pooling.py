"""Features of boxes, each from the level of its size: `ops.roi_align` by the operator RoiAlign.

Each level pools its own boxes by one node; the results are then put back in the boxes' order.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from maskrcnn_jax.export.onnx.boxes import ascending, corners
from maskrcnn_jax.export.onnx.graph import FeatureMap, Graph, ints

# Fraction of a feature map's side by which a sample of `crop_and_resize` may miss the map, as in
# `ops.roi_align`.
_ROUNDING = 1e-6


def pool(
    graph: Graph, pyramid: Sequence[FeatureMap], boxes: str, size: int, config: Any
) -> FeatureMap:
    """Writes `MaskRCNN.pool` for one image; returns `[n, C, size, size]`.

    Args:
        graph: to write to.
        pyramid: P2 to P5.
        boxes: `[n, 4]`.
        size: S.
        config: `config.model.roi`.
    """
    level = _levels(graph, boxes, len(pyramid), config)
    image_shape = 4 * pyramid[0].height, 4 * pyramid[0].width
    pooled, places = [], []
    for i, features in enumerate(pyramid):
        place = graph("Squeeze", graph("NonZero", graph("Equal", level, np.int64(i))), ints(0))
        own = graph("Gather", boxes, place)
        if config.pooling == "crop_and_resize":
            pooled.append(_crop_and_resize(graph, features, own, place, size, image_shape))
        else:
            mode = "half_pixel" if config.aligned else "output_half_pixel"
            scale = 1 / (4 * 2**i)
            pooled.append(
                _roi_align(graph, features, own, place, size, scale, config.sampling_ratio, mode)
            )
        places.append(place)
    back = ascending(graph, graph("Concat", *places, axis=0))
    together = graph("Gather", graph("Concat", *pooled, axis=0), back)
    return FeatureMap(together, pyramid[0].channels, size, size)


def _levels(graph: Graph, boxes: str, number: int, config: Any) -> str:
    """Writes `ops.roi_align.assign_levels`; returns `[n]` int64, 0 for the finest."""
    x1, y1, x2, y2 = corners(graph, boxes)
    area = graph("Mul", graph("Sub", x2, x1), graph("Sub", y2, y1))
    size = graph("Sqrt", graph("Max", area, np.float32(0)))
    # As XLA has log2: another order of operations could move a box on the edge of two levels.
    log = graph("Log", graph("Div", size, np.float32(config.canonical_size)))
    level = graph(
        "Add", graph("Div", log, np.log(np.float32(2))), np.float32(config.canonical_level)
    )
    level = graph("Floor", graph("Add", level, np.float32(1e-6)))
    level = graph("Sub", level, np.float32(2))
    level = graph("Clip", level, np.float32(0), np.float32(number - 1))
    return graph("Squeeze", graph("Cast", level, to=TensorProto.INT64), ints(1))


def _roi_align(graph, features, boxes, place, size, scale, sampling_ratio, mode) -> str:
    image = graph("Mul", place, np.int64(0))  # of each box: there is one
    return graph(
        "RoiAlign",
        features.name,
        boxes,
        image,
        output_height=size,
        output_width=size,
        sampling_ratio=sampling_ratio,
        spatial_scale=float(scale),
        mode="avg",
        coordinate_transformation_mode=mode,
    )


def _crop_and_resize(graph, features: FeatureMap, boxes, place, size, image_shape) -> str:
    """Writes `ops.roi_align.multilevel_crop_and_resize` for the boxes of one level.

    A bin's single sample of RoiAlign lies in the bin's middle, here on the box's edges: boxes that
    are larger by half a bin on every side put one where the other is.
    """
    x1, y1, x2, y2 = corners(graph, boxes)
    columns = _positions(graph, x1, x2, features.width, image_shape[1], size)
    rows = _positions(graph, y1, y2, features.height, image_shape[0], size)
    (left, right, inside_x), (top, bottom, inside_y) = columns, rows
    grown = graph("Concat", left, top, right, bottom, axis=1)
    pooled = _roi_align(graph, features, grown, place, size, 1.0, 1, "half_pixel")
    inside = graph(
        "And", graph("Unsqueeze", inside_y, ints(2)), graph("Unsqueeze", inside_x, ints(1))
    )
    return graph("Where", graph("Unsqueeze", inside, ints(1)), pooled, np.float32(0))


def _positions(graph, low, high, length: int, image_length: int, bins: int) -> tuple[str, str, str]:
    """Along one axis: the ends of the grown boxes [n, 1], and which samples count [n, bins]."""
    scale = np.float32((length - 1) / (image_length - 1))
    low, high = graph("Mul", low, scale), graph("Mul", high, scale)
    extent = graph("Sub", high, low)
    fraction = np.linspace(0, 1, bins) if bins > 1 else np.array([0.5])
    position = graph("Add", low, graph("Mul", extent, fraction.astype(np.float32)[None]))
    last = np.float32(length - 1)
    inside = graph(
        "And",
        graph("GreaterOrEqual", position, -np.float32(_ROUNDING) * last),
        graph("LessOrEqual", position, np.float32(1 + _ROUNDING) * last),
    )
    half_bin = graph("Mul", extent, np.float32(0.5 / (bins - 1) if bins > 1 else 0.0))
    # Half-pixel mode takes cell i to lie at i + 0.5.
    start = graph("Add", graph("Sub", low, half_bin), np.float32(0.5))
    end = graph("Add", graph("Add", high, half_bin), np.float32(0.5))
    return start, end, inside
