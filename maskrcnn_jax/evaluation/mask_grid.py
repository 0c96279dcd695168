"""What keeping masks on a small grid costs: the AP that a perfect detector would get.

True masks travel as grids of M x M cells inside their boxes, the mask head learns 28 x 28 of them,
and predictions are pasted from 28 x 28. Nothing a network learns makes up for what is lost here.

    mask_grid_metrics(datasets.load(config.data, "val"), mask_size=56)["segm/AP"]
"""

import jax
import numpy as np

from maskrcnn_jax.data.masks.segmentation import rasterize_in_box
from maskrcnn_jax.data.records import Dataset, Record
from maskrcnn_jax.evaluation.coco_metrics import coco_metrics
from maskrcnn_jax.evaluation.truth import coco_truth
from maskrcnn_jax.inference.coco_results import coco_results
from maskrcnn_jax.inference.result import to_result
from maskrcnn_jax.models.detections import Detections
from maskrcnn_jax.ops.masks import crop_targets

_SLOTS = 32  # objects are padded to multiples of this, so that not every number of them compiles
_crop_targets = jax.jit(crop_targets, static_argnames="size")


def mask_grid_metrics(
    dataset: Dataset, mask_size: int, head_size: int = 28, mask_paste: str = "exact"
) -> dict[str, float]:
    """Evaluates the truth itself, after it has gone the way that masks go in this project.

    Args:
        dataset: images and annotations; crowds are not detected.
        mask_size: M, side of the grid on which true masks are kept (`data.mask_size`).
        head_size: side of the mask head's output.
        mask_paste: `model.detections.mask_paste`, the rule by which masks are pasted.

    Returns:
        The numbers of `coco_metrics`; boxes score 1 unless an object has no box to speak of.
    """
    results = []
    for record in dataset.records:
        size = np.array([record.height, record.width])
        detections = true_detections(record, mask_size, head_size)
        result = to_result(detections, 0, size, size, dataset.class_names, mask_paste=mask_paste)
        results += coco_results(result, record.image_id, dataset.category_ids)
    most = max((len(record.boxes) for record in dataset.records), default=1)
    return coco_metrics(coco_truth(dataset), results, (1, 10, max(100, most)))


def true_detections(record: Record, mask_size: int, head_size: int = 28) -> Detections:
    """Returns an image's objects, without crowds, as a batch of one image of detections of score 1.

    Args:
        record: the image's annotations.
        mask_size: M, side of the grid on which true masks are kept.
        head_size: side of the detections' masks.

    Returns:
        Detections in pixels of the image, as numpy arrays.
    """
    chosen = np.flatnonzero(~record.crowd)
    slots = -(-len(chosen) // _SLOTS) * _SLOTS
    grids = np.zeros((slots, mask_size, mask_size), np.uint8)
    boxes = np.zeros((slots, 4), np.float32)
    boxes[: len(chosen)] = record.boxes[chosen]
    for slot, i in enumerate(chosen):
        grids[slot] = rasterize_in_box(
            record.segmentations[i], record.boxes[i], record.height, record.width, mask_size
        )
    masks = np.zeros((0, head_size, head_size), np.float32)
    if slots:
        masks = np.asarray(_crop_targets(grids, boxes, boxes, np.arange(slots), head_size))
    return Detections(
        boxes=boxes[None, : len(chosen)],
        scores=np.ones((1, len(chosen)), np.float32),
        classes=record.classes[chosen][None],
        masks=masks[None, : len(chosen)],
        valid=np.ones((1, len(chosen)), bool),
    )
