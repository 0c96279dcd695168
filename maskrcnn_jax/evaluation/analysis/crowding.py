"""How average precision depends on how crowded an image is.

Source: Li et al., "CrowdPose: Efficient Crowded Scenes Pose Estimation" (CVPR 2019), whose index
counts the keypoints of others in an object's box beside its own. Here pixels of masks are counted:
an object's index is how many pixels of other objects are in its box, over its own; an image's is
the mean. The three groups end where CrowdPose's do.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from maskrcnn_jax.evaluation.coco_metrics import IOU_TYPES, accumulate, summaries

GROUPS = {"apart": (0.0, 0.1), "some": (0.1, 0.8), "crowded": (0.8, np.inf)}
_NUMBERS = ("AP", "AP50", "AP75")


def crowd_index(objects: Sequence[Mapping]) -> float:
    """Returns the crowding of an image: 0 where no object's box has a pixel of another one.

    Args:
        objects: annotations of one image, at least one.
    """
    masks = [coco_mask.decode(entry["segmentation"]) for entry in objects]
    covered = np.zeros(masks[0].shape, np.int32)
    for mask in masks:
        covered += mask
    indices = []
    for entry, mask in zip(objects, masks, strict=True):
        x, y, width, height = entry["bbox"]
        inside = np.s_[int(y) : int(np.ceil(y + height)), int(x) : int(np.ceil(x + width))]
        others = int(covered[inside].sum()) - int(mask[inside].sum())
        indices.append(others / max(int(mask.sum()), 1))
    return float(np.mean(indices))


def crowding_table(
    truth: Mapping[str, list[dict]], results: Sequence[Mapping], max_detections: Sequence[int]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Measures the images of each of `GROUPS` by themselves; those without objects are in none.

    Args:
        truth: COCO dictionary, see `coco_truth`.
        results: entries of a COCO results file.
        max_detections: as for `coco_metrics`.

    Returns:
        For "bbox" and "segm", and each group: `images`, and `AP`, `AP50` and `AP75`, 0..1, or -1
        where there is no image.
    """
    objects = defaultdict(list)
    for entry in truth["annotations"]:
        if not entry["iscrowd"]:
            objects[entry["image_id"]].append(entry)
    indices = {image: crowd_index(own) for image, own in objects.items()}
    table: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in IOU_TYPES}
    for group, (low, high) in GROUPS.items():
        images = {image for image, index in indices.items() if low <= index < high}
        part, found = _part(truth, results, images)
        numbers = summaries(accumulate(part, found, max_detections))
        for kind in IOU_TYPES:
            rounded = {name: round(numbers[f"{kind}/{name}"], 4) for name in _NUMBERS}
            table[kind][group] = {"images": len(images), **rounded}
    return table


def _part(truth, results, images):
    part = {
        "images": [entry for entry in truth["images"] if entry["id"] in images],
        "annotations": [entry for entry in truth["annotations"] if entry["image_id"] in images],
        "categories": truth["categories"],
    }
    return part, [entry for entry in results if entry["image_id"] in images]
