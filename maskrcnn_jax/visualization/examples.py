"""Training examples with their annotations, as the network gets them."""

from collections.abc import Iterable, Mapping, Sequence

import cv2
import numpy as np

from maskrcnn_jax.class_names import names_of
from maskrcnn_jax.images.paste import full_mask, paste_crop
from maskrcnn_jax.keypoint_set import KeypointSet
from maskrcnn_jax.visualization.drawing import draw_boxes, draw_detections, enlarged
from maskrcnn_jax.visualization.labels import draw_labels

_HATCH, _STRIPE = 8, 2  # pixels from one stripe of a crowd region to the next, and of a stripe
_WHITE = (255, 255, 255)


def draw_example(
    example: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    keypoints: KeypointSet | None = None,
) -> np.ndarray:
    """Draws one slot of a batch: the whole canvas with boxes, masks from their grids and names.

    Where the image ends before the canvas, a white line shows the border to the padding.

    Args:
        example: the arrays of a batch without their leading axis.
        class_names: K names.
        keypoints: what those of the example are; None: there are none.

    Returns:
        `[H, W, 3]` uint8, RGB; a small image is enlarged by a whole factor.
    """
    canvas, scale = enlarged(example["image"])
    height, width = example["image"].shape[:2]
    valid = np.flatnonzero(example["gt_valid"])
    boxes = example["gt_boxes"][valid]
    masks = (
        full_mask(paste_crop(grid / 255, box, height, width), height, width)
        for grid, box in zip(example["gt_masks"][valid], boxes, strict=True)
    )
    bottom, right = (int(v) * scale for v in example["image_size"])
    if (bottom, right) != canvas.shape[:2]:
        canvas = draw_boxes(canvas, np.array([(-9, -9, right, bottom)]), _WHITE, 1)
    return draw_objects(
        canvas,
        boxes * scale,
        (enlarged(mask, scale)[0] for mask in masks),
        names_of(example["gt_classes"][valid], class_names),
        example["gt_crowd"][valid],
        None if keypoints is None else example["gt_keypoints"][valid] * (scale, scale, 1),
        keypoints,
    )


def draw_objects(
    image: np.ndarray,
    boxes: np.ndarray,
    masks: Iterable[np.ndarray],
    names: Sequence[str],
    crowd: np.ndarray,
    points: np.ndarray | None = None,
    keypoints: KeypointSet | None = None,
) -> np.ndarray:
    """Draws annotated objects in colours of their own, crowd regions as white stripes.

    Args:
        image: `[h, w, 3]` uint8, RGB; it is not changed.
        boxes: `[n, 4]`, xyxy, pixels of the image.
        masks: n masks `[h, w]`, bool or 0 and 1; one at a time is enough.
        names: n names of classes.
        crowd: `[n]` bool.
        points: `[n, P, 3]`, see `draw_keypoints`; None: none are drawn.
        keypoints: what they are.

    Returns:
        `[h, w, 3]` uint8, RGB.
    """
    masks = [np.asarray(mask, np.uint8) for mask in masks]
    picture = image.copy()
    for i in np.flatnonzero(crowd).tolist():
        _hatch(picture, masks[i])
    picture = draw_boxes(picture, boxes[crowd], _WHITE, 1)
    regions = [f"crowd: {names[i]}" for i in np.flatnonzero(crowd).tolist()]
    draw_labels(picture, regions, boxes[crowd], [_WHITE] * len(regions))
    single = np.flatnonzero(~crowd)
    return draw_detections(
        picture,
        boxes[single],
        (masks[i] for i in single),
        [names[i] for i in single.tolist()],
        points=None if points is None else points[single],
        keypoints=keypoints,
    )


def _hatch(picture: np.ndarray, mask: np.ndarray) -> None:
    """Lays white stripes from the lower left to the upper right over a mask, and its outline."""
    y, x = np.ogrid[: mask.shape[0], : mask.shape[1]]
    stripes = (x + y) % _HATCH < _STRIPE
    picture[(mask > 0) & stripes] = _WHITE
    outlines, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, _WHITE, 1, cv2.LINE_AA)
