"""Anchors: the reference boxes that the RPN scores and refines, one set per cell of each level.

They depend on shapes alone, so they are made by numpy while the program is traced and enter it as
constants.
"""

from collections.abc import Sequence

import numpy as np


def cell_anchors(
    sizes: Sequence[float], aspect_ratios: Sequence[float], rounded: bool
) -> np.ndarray:
    """Anchors of one cell of each level, around the origin.

    Args:
        sizes: side of the square anchor of each level (L of them), pixels.
        aspect_ratios: height / width (R of them); the area stays that of the square.
        rounded: round corners to whole pixels, half to even, as torchvision 0.28 does; Detectron2
            does not.

    Returns:
        `[L, R, 4]` float32, xyxy, pixels.
    """
    root = np.sqrt(np.asarray(aspect_ratios, np.float32))
    size = np.asarray(sizes, np.float32)[:, None]
    width, height = size * (1 / root), size * root
    anchors = np.stack([-width, -height, width, height], axis=-1) / np.float32(2)
    return np.round(anchors) if rounded else anchors


def pyramid_anchors(
    level_shapes: Sequence[tuple[int, int]],
    image_shape: tuple[int, int],
    sizes: Sequence[float],
    aspect_ratios: Sequence[float],
    rounded: bool,
    strides: str = "quotient",
) -> list[np.ndarray]:
    """Anchors of every cell of every level of a feature pyramid.

    Args:
        level_shapes: (height, width) of each level's feature map, cells.
        image_shape: (height, width) of the padded network input, pixels.
        sizes: side of each level's square anchor, pixels.
        aspect_ratios: height / width.
        rounded: see `cell_anchors`.
        strides: pixels between cells. quotient: the whole quotient of the image's and the level's
            height (and width), as torchvision 0.28's `AnchorGenerator` has it. nominal: 4 of the
            first level and twice as many of each further one, as Detectron2's.

    Returns:
        One `[h * w * R, 4]` float32 array a level, xyxy, input pixels, ordered by row, column,
        ratio: the order of a `[h, w, R]` output of the RPN head.

    Raises:
        ValueError: where levels and sizes differ in number, or for other strides.
    """
    if len(level_shapes) != len(sizes):
        raise ValueError(
            f"anchors: {len(sizes)} sizes {tuple(sizes)} for {len(level_shapes)} pyramid levels; "
            "give one size per level (config.model.anchors.sizes)"
        )
    if strides not in ("quotient", "nominal"):
        raise ValueError(f"anchors: strides {strides!r}; expected quotient or nominal")
    cells = cell_anchors(sizes, aspect_ratios, rounded)
    levels = []
    for i, ((height, width), cell) in enumerate(zip(level_shapes, cells, strict=True)):
        stride_y, stride_x = image_shape[0] // height, image_shape[1] // width
        if strides == "nominal":
            stride_y = stride_x = 4 * 2**i
        y = np.arange(height, dtype=np.float32) * np.float32(stride_y)
        x = np.arange(width, dtype=np.float32) * np.float32(stride_x)
        shift_y, shift_x = np.meshgrid(y, x, indexing="ij")
        shifts = np.stack([shift_x, shift_y, shift_x, shift_y], axis=-1)
        levels.append((shifts[:, :, None] + cell).reshape(-1, 4))
    return levels
