"""Which detection is which true object: COCO's matching at IoU 0.5, with all overlaps.

pycocotools compares within a class alone; what kind an error is of also depends on the overlap
with objects of other classes.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

from maskrcnn_jax.evaluation.coco_metrics import scored

MATCHED = 0.5  # IoU


@dataclass
class ImageMatch:
    """Detections and true objects of one image. Crowds only make detections ignored.

    Attributes:
        image_id: as the data set names it.
        detections: D entries of a COCO results file, the surest first.
        objects: G annotations that are no crowds.
        scores: `[D]` float64.
        labels: `[D]` int, classes as indices of the categories.
        true_labels: `[G]` int.
        iou: `[D, G]` float64, of boxes or of masks.
        in_crowd: `[D]` bool, half of it or more lies in a crowd region of its class.
        match: `[D]` int, the true object of its class that the detection takes, or -1.
    """

    image_id: int | str
    detections: list[Mapping]
    objects: list[Mapping]
    scores: np.ndarray
    labels: np.ndarray
    true_labels: np.ndarray
    iou: np.ndarray
    in_crowd: np.ndarray
    match: np.ndarray

    @property
    def ignored(self) -> np.ndarray:
        """`[D]` bool: neither right nor wrong."""
        return self.in_crowd & (self.match < 0)

    def above(self, thresholds: np.ndarray) -> "ImageMatch":
        """Returns the image with the detections of at least their class's score, matched again.

        Args:
            thresholds: `[K]` scores.
        """
        kept = np.flatnonzero(self.scores >= thresholds[self.labels])
        labels, iou = self.labels[kept], self.iou[kept]
        return ImageMatch(
            image_id=self.image_id,
            detections=[self.detections[i] for i in kept],
            objects=self.objects,
            scores=self.scores[kept],
            labels=labels,
            true_labels=self.true_labels,
            iou=iou,
            in_crowd=self.in_crowd[kept],
            match=greedy_match(iou * (labels[:, None] == self.true_labels)),
        )


def match_images(
    truth: Mapping[str, list[dict]], results: Sequence[Mapping], iou_type: str, limit: int
) -> list[ImageMatch]:
    """Matches the detections of every image with its true objects.

    Args:
        truth: COCO dictionary, see `coco_truth`.
        results: entries of a COCO results file.
        iou_type: "bbox" or "segm".
        limit: on the detections of an image and class, the surest ones are taken.

    Returns:
        The images, in the order of the truth.
    """
    places = {category["id"]: k for k, category in enumerate(truth["categories"])}
    objects, found = _by_image(truth["annotations"]), _by_image(scored(results, iou_type))
    return [
        _match(image["id"], found[image["id"]], objects[image["id"]], places, iou_type, limit)
        for image in truth["images"]
    ]


def _by_image(entries: Iterable[Mapping]) -> dict[int | str, list[Mapping]]:
    groups = defaultdict(list)
    for entry in entries:
        groups[entry["image_id"]].append(entry)
    return groups


def _match(image_id, detections, annotations, places, iou_type, limit) -> ImageMatch:
    detections = _surest(detections, limit)
    objects = [a for a in annotations if not a["iscrowd"]]
    crowds = [a for a in annotations if a["iscrowd"]]
    labels = _labels(detections, places)
    true_labels = _labels(objects, places)
    iou = overlaps(detections, objects, iou_type)
    in_region = overlaps(detections, crowds, iou_type) >= MATCHED
    in_region &= labels[:, None] == _labels(crowds, places)
    return ImageMatch(
        image_id=image_id,
        detections=detections,
        objects=objects,
        scores=np.array([d["score"] for d in detections], float),
        labels=labels,
        true_labels=true_labels,
        iou=iou,
        in_crowd=in_region.any(axis=1),
        match=greedy_match(iou * (labels[:, None] == true_labels)),
    )


def _surest(detections: list[Mapping], limit: int) -> list[Mapping]:
    counts: dict[int, int] = defaultdict(int)
    kept = []
    for entry in sorted(detections, key=lambda d: -d["score"]):
        counts[entry["category_id"]] += 1
        if counts[entry["category_id"]] <= limit:
            kept.append(entry)
    return kept


def _labels(entries: Sequence[Mapping], places: Mapping[int, int]) -> np.ndarray:
    return np.array([places[entry["category_id"]] for entry in entries], int)


def overlaps(detections: Sequence[Mapping], objects: Sequence[Mapping], iou_type: str):
    """Returns the IoU `[D, G]` of detections and objects; of a crowd, the part that is inside it.

    Args:
        detections: with `bbox` and `segmentation` as run lengths.
        objects: the same, and `iscrowd`.
        iou_type: "bbox" or "segm".
    """
    if not detections or not objects:
        return np.zeros((len(detections), len(objects)))
    key = "bbox" if iou_type == "bbox" else "segmentation"
    crowd = [int(o["iscrowd"]) for o in objects]
    return np.asarray(
        coco_mask.iou([d[key] for d in detections], [o[key] for o in objects], crowd), float
    )


def greedy_match(iou: np.ndarray) -> np.ndarray:
    """Gives every row, the surest first, its best column that is still free; -1: there is none.

    Args:
        iou: `[D, G]`, 0 where the classes differ.

    Returns:
        `[D]` int.
    """
    left = iou.copy()
    match = np.full(len(left), -1)
    for row, values in enumerate(left if left.shape[1] else ()):
        best = int(values.argmax())
        if values[best] >= MATCHED:
            match[row] = best
            left[:, best] = 0
    return match
