"""Boxes measured on masks, instead of those that the annotations give beside them."""

from dataclasses import replace

import numpy as np
from pycocotools import mask as coco_mask

from maskrcnn_jax.data.masks.segmentation import RLE, Polygons, Segmentation
from maskrcnn_jax.data.records import Record


def with_boxes_of_masks(record: Record) -> Record:
    """Returns a record whose boxes are tight around its masks, crowd regions' too.

    A box stays as it is where its mask lies outside the image or covers nothing, and where the mask
    is a file: readers of such files have measured it already.

    Args:
        record: its areas stay as they are too.
    """
    boxes = record.boxes.copy()
    for i, segmentation in enumerate(record.segmentations):
        x1, y1, x2, y2 = box = _box(segmentation, record.height, record.width)
        if x2 > x1 and y2 > y1:
            boxes[i] = box
    return replace(record, boxes=boxes)


def _box(segmentation: Segmentation, height: int, width: int) -> np.ndarray:
    """Returns the part in the image of the box around a mask, [4] float32 xyxy; zeros: unknown."""
    if isinstance(segmentation, Polygons):
        corners = np.concatenate(segmentation.parts)
        box = np.concatenate([corners.min(0), corners.max(0)])
    elif isinstance(segmentation, RLE):
        encoded = {"size": list(segmentation.size), "counts": segmentation.counts}
        x, y, w, h = coco_mask.toBbox(encoded)
        box = np.array([x, y, x + w, y + h])
    else:
        return np.zeros(4, np.float32)
    return np.clip(box, 0, [width, height] * 2).astype(np.float32)
