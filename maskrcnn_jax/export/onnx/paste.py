"""Masks at the size of the image: the two rules of `images.paste`, as products of matrices.

Bilinear interpolation separates into rows and columns, and a pixel's weight on a cell is a tent
around the pixel's position, in cells. Positions outside the mask's own cells get no weight, which
is the border of zeros.
"""

import numpy as np
from onnx import TensorProto

from maskrcnn_jax.export.onnx.boxes import corners
from maskrcnn_jax.export.onnx.graph import Graph, ints

_BORDER = 1  # cells of zeros around the grid


def paste(
    graph: Graph, masks: str, boxes: str, side: int, shape: tuple[int, int], rule: str
) -> str:
    """Returns masks `[n, H, W]` uint8, 1 where the probability is above 0.5.

    Args:
        graph: to write to.
        masks: `[n, side, side]`, probabilities.
        boxes: `[n, 4]`, input pixels.
        side: of the masks.
        shape: H and W of the network's input.
        rule: `config.model.detections.mask_paste`.
    """
    x1, y1, x2, y2 = corners(graph, boxes)
    positions = _exact if rule == "exact" else _whole_pixels
    rows = _tents(graph, positions(graph, y1, y2, side, shape[0]), side)
    columns = _tents(graph, positions(graph, x1, x2, side, shape[1]), side)
    pasted = graph(
        "MatMul", graph("MatMul", rows, masks), graph("Transpose", columns, perm=[0, 2, 1])
    )
    return graph("Cast", graph("Greater", pasted, np.float32(0.5)), to=TensorProto.UINT8)


def _exact(graph: Graph, low: str, high: str, side: int, length: int) -> str:
    """Positions `[n, length]` of the pixels, in cells, where the box is as it is."""
    extent = graph("Max", graph("Sub", high, low), np.float32(1e-6))
    cell = graph("Div", extent, np.float32(side))
    centres = np.arange(length, dtype=np.float32)[None] + np.float32(0.5)
    offset = graph("Div", graph("Sub", centres, low), cell)
    return graph("Sub", offset, np.float32(0.5))


def _whole_pixels(graph: Graph, low: str, high: str, side: int, length: int) -> str:
    """The same where the grown box is cut to whole pixels, as torchvision does."""
    padded, half = side + 2 * _BORDER, np.float32(0.5)
    reach = graph("Mul", graph("Sub", high, low), half)
    reach = graph("Mul", reach, np.float32(padded / side))
    centre = graph("Mul", graph("Add", high, low), half)
    first, last = (
        # Integers, and back: towards zero.
        graph("Cast", graph("Cast", x, to=TensorProto.INT64), to=TensorProto.FLOAT)
        for x in (graph("Sub", centre, reach), graph("Add", centre, reach))
    )
    number = graph("Add", graph("Sub", last, first), np.float32(1))
    scale = graph("Div", np.float32(padded), graph("Max", number, np.float32(1)))
    centres = np.arange(length, dtype=np.float32)[None] + half
    offset = graph("Mul", graph("Sub", centres, first), scale)
    return graph("Sub", offset, half + _BORDER)


def _tents(graph: Graph, positions: str, side: int) -> str:
    """Weights `[n, length, side]` of the cells."""
    cells = np.arange(side, dtype=np.float32)
    distance = graph("Abs", graph("Sub", graph("Unsqueeze", positions, ints(2)), cells))
    return graph("Max", graph("Sub", np.float32(1), distance), np.float32(0))
