"""Boundary AP: COCO's AP with an overlap that asks for the outline, too.

Source: Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation" (CVPR
2021), and its code, bowenc0221/boundary-iou-api. The boundary of a mask is what lies within d
pixels of its outline, inside it; d is 2 % of the image's diagonal. The overlap of two masks is the
smaller one of their IoU and that of their boundaries, so that large objects need good outlines.
"""

import contextlib
import io
import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from pycocotools import coco
from pycocotools import mask as coco_mask
from pycocotools.cocoeval import COCOeval

from maskrcnn_jax.evaluation.coco_metrics import indexed, prepared, summary

_DILATION = 0.02  # of the image's diagonal


def boundary_metrics(
    truth: Mapping[str, list[dict]], results: Sequence[Mapping], max_detections: Sequence[int]
) -> dict[str, float]:
    """Computes COCO's numbers by the overlap of boundaries.

    Args:
        truth: COCO dictionary, see `coco_truth`.
        results: entries of a COCO results file.
        max_detections: as for `coco_metrics`.

    Returns:
        The names of `coco_metrics` with `boundary/`.
    """
    known, found = prepared(truth, results, "segm")
    for entry in (*known["annotations"], *found["annotations"]):
        entry["boundary"] = boundary(entry["segmentation"])
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = _BoundaryEval(indexed(coco, known), indexed(coco, found), "segm")
        evaluation.params.maxDets = list(max_detections)
        evaluation.evaluate()
        evaluation.accumulate()
    return {f"boundary/{name}": value for name, value in summary(evaluation).items()}


def boundary(mask: Mapping) -> dict:
    """Returns the run lengths of a mask's boundary.

    Args:
        mask: run lengths, `{"size": [height, width], "counts": ...}`.
    """
    height, width = mask["size"]
    reach = max(1, round(_DILATION * math.hypot(height, width)))
    x, y, w, h = (int(value) for value in coco_mask.toBbox(mask))
    pixels = coco_mask.decode(mask)
    # Outside of its box a mask is empty, as is what lies outside of the image.
    part = np.ascontiguousarray(pixels[y : y + h, x : x + w])
    if part.size:
        square = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
        inside = cv2.erode(part, square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        pixels[y : y + h, x : x + w] = part - inside
    return coco_mask.encode(np.asfortranarray(pixels))


class _BoundaryEval(COCOeval):
    """pycocotools' evaluation with the smaller one of both overlaps."""

    def computeIoU(self, image_id, category_id):
        masks = super().computeIoU(image_id, category_id)
        true, found = self._gts[image_id, category_id], self._dts[image_id, category_id]
        if not true or not found:
            return masks
        order = np.argsort([-entry["score"] for entry in found], kind="mergesort")
        crowd = np.array([int(entry["iscrowd"]) for entry in true])
        boundaries = coco_mask.iou(
            [found[i]["boundary"] for i in order[: self.params.maxDets[-1]]],
            [entry["boundary"] for entry in true],
            crowd,
        )
        return np.where(crowd, masks, np.minimum(masks, boundaries))
