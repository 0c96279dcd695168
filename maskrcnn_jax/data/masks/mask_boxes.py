"""Boxes measured on masks, instead of those that the annotations give beside them."""

from dataclasses import replace

import numpy as np

from maskrcnn_jax.data.masks.segmentation import box_of
from maskrcnn_jax.data.records import Record


def with_boxes_of_masks(record: Record) -> Record:
    """Returns a record whose boxes are tight around its masks, crowd regions' too.

    A box stays as it is where its mask lies outside the image or covers nothing, and where the mask
    is a file: readers of such files have measured it already.

    Args:
        record: its areas stay as they are too.
    """
    boxes, border = record.boxes.copy(), [record.width, record.height] * 2
    for i, segmentation in enumerate(record.segmentations):
        found = box_of(segmentation)
        if found is None:
            continue
        x1, y1, x2, y2 = box = np.clip(found, 0, border).astype(np.float32)
        if x2 > x1 and y2 > y1:
            boxes[i] = box
    return replace(record, boxes=boxes)
