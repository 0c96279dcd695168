"""Everything that the report shows, as one dictionary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval

from maskrcnn_jax.evaluation.analysis.confusion import confusion_matrix
from maskrcnn_jax.evaluation.analysis.curves import RECALLS, SCORES, Curve, class_curve, mean_of
from maskrcnn_jax.evaluation.analysis.errors import error_table, image_errors
from maskrcnn_jax.evaluation.analysis.matching import ImageMatch, match_images
from maskrcnn_jax.evaluation.coco_metrics import class_numbers, summaries

_SIZES = {"small": "s", "medium": "m", "large": "l"}
_DIGITS = 4


@dataclass
class Analysis:
    """What was found about boxes or about masks.

    Attributes:
        numbers: ready for `json.dump`, see `docs/evaluation.md`.
        worst: images with the most errors, with the detections that count.
    """

    numbers: dict[str, Any]
    worst: list[ImageMatch]


def analyse(
    truth: Mapping[str, list[dict]],
    results: Sequence[Mapping],
    evaluation: COCOeval,
    iou_type: str,
    num_worst: int = 20,
) -> Analysis:
    """Analyses detections: numbers of classes and sizes, curves, confusions, errors, worst images.

    Args:
        truth: COCO dictionary, see `coco_truth`.
        results: entries of a COCO results file.
        evaluation: of both, see `coco_metrics.accumulate`.
        iou_type: "bbox" or "segm", as the evaluation's.
        num_worst: how many images are kept at most.
    """
    categories = truth["categories"]
    images = match_images(truth, results, iou_type, evaluation.params.maxDets[-1])
    curves = [class_curve(images, k) for k in range(len(categories))]
    thresholds = np.array([_threshold(curve) for curve in curves])
    counted = [image.above(thresholds) for image in images]
    whole = summaries({iou_type: evaluation})
    worst = _worst(counted, num_worst)
    names = [category["name"] for category in categories]
    numbers = {
        **{name: _rounded(whole[f"{iou_type}/{name}"]) for name in ("AP", "AP50", "AP75")},
        "sizes": {
            name: {key: _rounded(whole[f"{iou_type}/{key}{letter}"]) for key in ("AP", "AR")}
            for name, letter in _SIZES.items()
        },
        "classes": _classes(categories, evaluation, curves),
        "curves": _curves(curves),
        "confusion": {
            "labels": [*names, "background"],
            "counts": confusion_matrix(counted, len(categories)).tolist(),
        },
        "errors": {
            kind: {"count": row["count"]} | {k: _rounded(row[k]) for k in ("fraction", "gain")}
            for kind, row in error_table(images, len(categories)).items()
        },
        "worst": [{"image_id": image.image_id, **_errors_of(image)} for image in worst],
    }
    return Analysis(numbers, worst)


def _threshold(curve: Curve) -> float:
    """The score of the best F1; above all scores where no detection is right."""
    best = curve.best()
    return 1.1 if best is None else float(curve.scores[best])


def _classes(categories, evaluation, curves: Sequence[Curve]) -> list[dict[str, Any]]:
    by_id = dict(zip(evaluation.params.catIds, class_numbers(evaluation), strict=True))
    rows = []
    for category, curve in zip(categories, curves, strict=True):
        best = curve.best()
        at_best: dict[str, float | None] = {
            "threshold": None,
            "precision": None,
            "recall": None,
            "f1": None,
        }
        if best is not None:
            at_best = {
                "threshold": float(curve.scores[best]),  # not rounded: rounded up it excludes some
                "precision": _rounded(curve.precision[best]),
                "recall": _rounded(curve.recall[best]),
                "f1": _rounded(curve.f1[best]),
            }
        numbers = {name: _rounded(value) for name, value in by_id[category["id"]].items()}
        rows.append({"name": category["name"], "objects": curve.objects} | numbers | at_best)
    return rows


def _curves(curves: Sequence[Curve]) -> dict[str, Any]:
    """Precision over recall and F1 over the score; the means are over classes with objects."""
    precision = [curve.precision_over_recall() for curve in curves]
    f1 = [curve.f1_over_score() for curve in curves]
    there = [k for k, curve in enumerate(curves) if curve.objects]
    return {
        "recall": _listed(RECALLS),
        "score": _listed(SCORES),
        "precision": {
            "mean": _listed(mean_of(precision[k] for k in there)),
            "classes": [_listed(values) for values in precision],
        },
        "f1": {
            "mean": _listed(mean_of(f1[k] for k in there)),
            "classes": [_listed(values) for values in f1],
        },
    }


def _worst(images: Sequence[ImageMatch], number: int) -> list[ImageMatch]:
    wrong = [sum(_errors_of(image).values()) for image in images]
    order = sorted(range(len(images)), key=lambda i: -wrong[i])
    return [images[i] for i in order[:number] if wrong[i]]


def _errors_of(image: ImageMatch) -> dict[str, int]:
    errors = image_errors(image)
    false = sum(kind != "" for kind in errors.kinds)
    taken = np.zeros(len(image.objects), bool)
    taken[image.match[image.match >= 0]] = True
    return {"false_detections": false, "objects_not_found": int((~taken).sum())}


def _rounded(value: float) -> float:
    return round(float(value), _DIGITS)


def _listed(values: np.ndarray) -> list[float]:
    return [_rounded(value) for value in values]
