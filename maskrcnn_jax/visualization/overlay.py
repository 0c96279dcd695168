"""A result drawn over its image."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from maskrcnn_jax.images.paste import full_mask
from maskrcnn_jax.visualization.drawing import as_rgb, draw_detections, enlarged
from maskrcnn_jax.visualization.splash import color_splash
from maskrcnn_jax.visualization.style import Style

if TYPE_CHECKING:
    from maskrcnn_jax.inference.result import Result

_USUAL = Style()


def draw_result(
    image: np.ndarray,
    result: "Result",
    min_score: float = 0.0,
    style: Style = _USUAL,
    colors: Sequence[int] | None = None,
    scale: float | None = None,
) -> np.ndarray:
    """Draws the detections of an image with masks, boxes, keypoints, names and scores.

    Args:
        image: `[h, w, C]` uint8 or uint16, the image of the result (see `as_rgb`).
        result: as a predictor returns it.
        min_score: detections with a lower score are left out.
        style: what is drawn, and how.
        colors: numbers of colours for the detections that are drawn; None: as `style` says.
        scale: size of the picture over that of the image; None: a small image is enlarged by a
            whole factor, so that the names do not cover it, and a splash has its size.

    Returns:
        `[H, W, 3]` uint8, RGB. Of a model of boxes alone, boxes, which are then what a splash
        shows.
    """
    shown = np.flatnonzero(result.scores >= min_score)
    if not result.has_masks:
        style = replace(style, masks=False, boxes=True)
    masks = (full_mask(result.crops[i], result.height, result.width) for i in shown)
    if style.splash:
        return enlarged(color_splash(as_rgb(image), masks), scale or 1)[0]
    if colors is None and style.color_by == "class":
        colors = (result.classes[shown] - 1).tolist()
    picture, scale = enlarged(image, scale)
    return draw_detections(
        picture,
        result.boxes[shown] * scale,
        (enlarged(mask, scale)[0] for mask in masks),
        [result.class_names[i] for i in shown],
        result.scores[shown],
        colors,
        style,
        None if result.keypoints is None else result.keypoints[shown] * (scale, scale, 1),
        result.keypoint_set,
    )
