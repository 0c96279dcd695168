"""Predictions beside the truth, for the eye."""

from collections.abc import Sequence

import numpy as np
from pycocotools import mask as coco_mask

from maskrcnn_jax.class_names import names_of
from maskrcnn_jax.data.masks import segmentation
from maskrcnn_jax.data.records import Record
from maskrcnn_jax.evaluation.analysis.matching import greedy_match
from maskrcnn_jax.images.run_lengths import crop_to_rle
from maskrcnn_jax.inference.result import Result
from maskrcnn_jax.visualization.drawing import draw_detections, enlarged, side_by_side
from maskrcnn_jax.visualization.overlay import draw_result

MIN_SCORE = 0.5  # below it, predictions would bury each other


def comparison(
    image: np.ndarray, record: Record, result: Result, class_names: Sequence[str]
) -> np.ndarray:
    """Draws an image's detections and, to their right, its annotations.

    Args:
        image: `[h, w, C]` uint8 or uint16 (see `drawing.as_rgb`).
        record: the image's annotations.
        result: the image's detections, of which those with a score of 0.5 or more are drawn.
        class_names: K names.

    Returns:
        `[H, W, 3]` uint8, RGB; small images are enlarged. A detection that has found an object has
        its colour, all others have their own.
    """
    shown = result.chosen(np.flatnonzero(result.scores >= MIN_SCORE))
    predictions = draw_result(image, shown, colors=_colors(shown, record))
    picture, scale = enlarged(image)
    masks = None
    if result.has_masks:
        shapes = (segmentation.to_mask(s, *image.shape[:2]) for s in record.segmentations)
        masks = (enlarged(shape, scale)[0] for shape in shapes)
    names = names_of(record.classes, class_names)
    truth = draw_detections(
        picture,
        record.boxes * scale,
        masks,
        [f"{n} (crowd)" if c else n for n, c in zip(names, record.crowd, strict=True)],
        points=None if record.keypoints is None else record.keypoints * (scale, scale, 1),
        keypoints=result.keypoint_set,
    )
    titles = [f"predicted ({len(shown)})", f"true ({len(names)})"]
    return side_by_side([predictions, truth], titles)


def _colors(result: Result, record: Record) -> list[int]:
    """Returns the numbers of the objects that were found, and numbers beyond theirs."""
    size = record.height, record.width
    found = [crop_to_rle(crop, *size) for crop in result.crops]
    true = [segmentation.to_rle(s, *size) for s in record.segmentations]
    same = result.classes[:, None] == np.where(record.crowd, -1, record.classes)
    iou = np.zeros(same.shape)
    if found and true:
        iou = same * np.asarray(coco_mask.iou(found, true, [0] * len(true)))
    match = greedy_match(iou)
    return [len(true) + i if match[i] < 0 else int(match[i]) for i in range(len(match))]
