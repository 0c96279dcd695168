"""Average precision at IoU 0.5 as Pascal VOC measures it, by the rule of 2007 and that of 2010 on.

Source: Everingham et al., "The PASCAL Visual Object Classes Challenge 2012 Development Kit",
`VOCevaldet.m`. What differs from COCO's AP50:

- a detection takes the object of its class that it overlaps most, taken or not: the second
  detection of an object is wrong even where it overlaps another object by more than 0.5, too;
- the overlap has to be above 0.5, not 0.5;
- an object that is `difficult` is neither to be found nor wrong to find, by its own IoU;
- the curve is summed up at 11 recalls (2007), or as its area (2010 on), not at 101 recalls;
- every detection counts, whatever their number.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from maskrcnn_jax.evaluation.analysis.matching import overlaps
from maskrcnn_jax.evaluation.coco_metrics import scored

RULES = ("voc07", "voc12")
_IOU = 0.5


def voc_metrics(
    truth: Mapping[str, list[dict]],
    results: Sequence[Mapping],
    iou_type: str,
    rules: Sequence[str] = RULES,
) -> dict[str, float]:
    """Computes VOC's AP, the mean over classes and that of each class.

    Args:
        truth: COCO dictionary, see `coco_truth`. Its crowd regions are VOC's difficult objects,
            which is what the reader of VOC's format makes of these.
        results: entries of a COCO results file.
        iou_type: "bbox", as VOC's, or "segm".
        rules: of "voc07" and "voc12".

    Returns:
        `bbox/voc07`, `bbox/voc07/<class>` and so on: 0..1; -1 where there is no object.
    """
    numbers = {}
    objects, found = _grouped(truth["annotations"]), _grouped(scored(results, iou_type))
    images = [image["id"] for image in truth["images"]]
    curves = {
        c["name"]: _curve(objects[c["id"]], found[c["id"]], images, iou_type)
        for c in truth["categories"]
    }
    for rule in rules:
        sum_up = _mean_of_11 if rule == "voc07" else area_below
        values = {k: sum_up(*curve) if curve else -1.0 for k, curve in curves.items()}
        there = [value for value in values.values() if value >= 0]
        numbers[f"{iou_type}/{rule}"] = float(np.mean(there)) if there else -1.0
        numbers |= {f"{iou_type}/{rule}/{name}": value for name, value in values.items()}
    return numbers


def _grouped(entries: Sequence[Mapping]) -> dict[int, dict[int | str, list[Mapping]]]:
    """Returns the entries of each category and image."""
    grouped: dict[int, dict[int | str, list[Mapping]]]
    grouped = defaultdict(lambda: defaultdict(list))
    for entry in entries:
        grouped[entry["category_id"]][entry["image_id"]].append(entry)
    return grouped


def _curve(objects, found, images, iou_type) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns recall and precision of one class, each over the detections by falling score.

    Args:
        objects: by the image's id, as the detections.
        found: detections.
        images: ids of all.
        iou_type: "bbox" or "segm".

    Returns:
        None where there is no object.
    """
    number = sum(not entry["iscrowd"] for entries in objects.values() for entry in entries)
    if not number:
        return None
    judged = [_judge(found[image], objects[image], iou_type) for image in images]
    scores = np.concatenate([scores for scores, _ in judged])
    right = np.concatenate([right for _, right in judged])[np.argsort(-scores, kind="stable")]
    right = right[right >= 0]
    true = np.cumsum(right)
    return true / number, true / np.arange(1, len(true) + 1)


def _judge(found, objects, iou_type) -> tuple[np.ndarray, np.ndarray]:
    """Returns scores, and 1 of a detection that is right, 0 of a wrong one, -1: on a crowd."""
    found = sorted(found, key=lambda entry: -entry["score"])
    right = np.zeros(len(found), int)
    if found and objects:
        plain = [{**entry, "iscrowd": 0} for entry in objects]
        taken = set()
        for row, iou in enumerate(overlaps(found, plain, iou_type)):
            best = int(iou.argmax())
            if iou[best] <= _IOU:
                continue
            if objects[best]["iscrowd"]:
                right[row] = -1
            elif best not in taken:
                right[row] = 1
                taken.add(best)
    return np.array([entry["score"] for entry in found], float), right


def _mean_of_11(recall: np.ndarray, precision: np.ndarray) -> float:
    """The mean of the highest precisions at recalls of at least 0, 0.1, ..., 1."""
    best = [precision[recall >= at].max(initial=0) for at in np.arange(0.0, 1.1, 0.1)]
    return float(np.mean(best))


def area_below(recall: np.ndarray, precision: np.ndarray) -> float:
    """Returns the area below a curve that is made to fall.

    Args:
        recall: rising, one for each detection by falling score.
        precision: at each of these.
    """
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall, prepend=0) * falling))
