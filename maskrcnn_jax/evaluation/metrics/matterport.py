"""Average precision at IoU 0.5 as matterport/Mask_RCNN measures it: per image, then the mean.

Source: `compute_ap` and `compute_matches` in its `mrcnn/utils.py` (00c9fce). What differs from
COCO's AP50 of masks:

- every image has a curve of its own, over all classes, and all images count alike;
- a detection may take the object of its class that it overlaps by 0.5, the largest overlap first;
- that code asks `gt_match[j] > 0` of an object to pass it over as taken. The surest detection has
  the number 0: what it has taken can be taken once more. The numbers that people have published
  are by that rule, so it is kept.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from maskrcnn_jax.evaluation.analysis.matching import overlaps
from maskrcnn_jax.evaluation.coco_metrics import scored
from maskrcnn_jax.evaluation.metrics.voc import area_below

_IOU = 0.5


def matterport_ap(
    truth: Mapping[str, list[dict]], results: Sequence[Mapping]
) -> dict[int | str, float]:
    """Computes the AP of masks of every image that has objects.

    Args:
        truth: COCO dictionary, see `coco_truth`; crowd regions are left out.
        results: entries of a COCO results file.

    Returns:
        AP by the image's id, 0..1, or above 1 where an object was counted twice.
    """
    objects, found = defaultdict(list), defaultdict(list)
    for entry in truth["annotations"]:
        if not entry["iscrowd"]:
            objects[entry["image_id"]].append(entry)
    for detection in scored(results, "segm"):
        found[detection["image_id"]].append(detection)
    return {image: _ap(found[image], own) for image, own in objects.items()}


def matterport_metrics(
    truth: Mapping[str, list[dict]], results: Sequence[Mapping]
) -> dict[str, float]:
    """Returns `segm/matterport`, the mean of `matterport_ap`; -1 where there is no object."""
    values = list(matterport_ap(truth, results).values())
    return {"segm/matterport": float(np.mean(values)) if values else -1.0}


def _ap(found: Sequence[Mapping], objects: Sequence[Mapping]) -> float:
    found = sorted(found, key=lambda entry: -entry["score"])
    right = np.cumsum(_right(found, objects))
    return area_below(right / len(objects), right / np.arange(1, len(right) + 1))


def _right(found: Sequence[Mapping], objects: Sequence[Mapping]) -> np.ndarray:
    """Returns `[D]` bool: which detections, by falling score, take an object."""
    right = np.zeros(len(found), bool)
    taken: set[int] = set()
    for row, iou in enumerate(overlaps(found, objects, "segm")):
        for column in np.argsort(-iou, kind="stable").tolist():
            if iou[column] < _IOU:
                break
            same = found[row]["category_id"] == objects[column]["category_id"]
            if same and column not in taken:
                right[row] = True
                if row:  # not those of the surest one, see above
                    taken.add(column)
                break
    return right
