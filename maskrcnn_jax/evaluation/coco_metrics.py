"""COCO's average precision and recall, computed by hotcoco where it is installed, or pycocotools.

Both match and accumulate, and give the same numbers; hotcoco is several times faster. The numbers
are read off their arrays here, because `summarize()` of pycocotools insists on a limit of 100
detections, and images of cells have several hundred.
"""

import contextlib
import importlib
import importlib.util
import io
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.cocoeval import COCOeval

from maskrcnn_jax.evaluation.config import check_limits

IOU_TYPES = ("bbox", "segm")
KEYPOINTS = "keypoints"  # the type of similarity that is COCO's OKS
KEYPOINT_LIMITS = (20,)  # of detections of an image and class, as COCO's
_AREAS = {"s": "small", "m": "medium", "l": "large"}


def coco_metrics(
    truth: Mapping[str, list[dict]],
    results: Sequence[Mapping],
    max_detections: Sequence[int] = (1, 10, 100),
) -> dict[str, float]:
    """Computes COCO's twelve numbers, and each class's AP, for boxes and for masks.

    With the default limits the numbers equal those of pycocotools' `summarize()`. The sizes of
    detected masks are the areas of the masks, as in COCO's own evaluation of masks; pycocotools
    takes the areas of the boxes when it is given both, which moves APs, APm and APl of masks.

    Args:
        truth: COCO dictionary, see `coco_truth`.
        results: entries of a COCO results file, see `coco_results`.
        max_detections: increasing limits on the detections of an image and class. AP and the last
            recalls use the last one.

    Returns:
        `bbox/AP`, `AP50`, `AP75`, `APs`, `APm`, `APl`, a recall `ARn` for every limit n (`AR1`,
        `AR10`, `AR100`), `ARs`, `ARm`, `ARl`, `AP/<class>`, and the same for `segm/`: 0..1, or -1
        where no object of the kind exists.

    Raises:
        ValueError: the limits are not increasing positive numbers, or a result names an image or a
            category that the truth lacks.
    """
    return summaries(accumulate(truth, results, max_detections))


def accumulate(
    truth: Mapping[str, list[dict]],
    results: Sequence[Mapping],
    max_detections: Sequence[int] = (1, 10, 100),
    library: str | None = None,
    iou_types: Sequence[str] = IOU_TYPES,
    sigmas: Sequence[float] = (),
) -> dict[str, COCOeval]:
    """Matches detections with true objects; the errors are those of `coco_metrics`.

    Args:
        truth: as for `coco_metrics`.
        results: as for `coco_metrics`.
        max_detections: as for `coco_metrics`.
        library: "hotcoco" or "pycocotools"; None: hotcoco where it is installed.
        iou_types: some of "bbox", "segm" and "keypoints", which has COCO's limit of 20 detections.
        sigmas: [P], how precisely people place each keypoint.

    Returns:
        For boxes and for masks, as asked, the evaluation with its arrays of precision and recall (a
        `COCOeval` of the library).
    """
    if library is None:
        library = "hotcoco" if importlib.util.find_spec("hotcoco") else "pycocotools"
    check_limits(max_detections)
    return {
        iou_type: _accumulate(
            _library(library),
            *prepared(truth, results, iou_type),
            iou_type,
            list(_limits(iou_type, max_detections)),
            sigmas,
        )
        for iou_type in iou_types
    }


def _limits(iou_type: str, max_detections: Sequence[int]) -> Sequence[int]:
    return KEYPOINT_LIMITS if iou_type == KEYPOINTS else max_detections


def scored(results: Sequence[Mapping], iou_type: str) -> list[dict]:
    """Returns the entries with the score that counts: of masks `mask_score`, where there is one.

    Args:
        results: as for `coco_metrics`.
        iou_type: "bbox", "segm" or "keypoints".
    """
    if iou_type != "segm":
        return list(map(dict, results))
    return [{**entry, "score": entry.get("mask_score", entry["score"])} for entry in results]


def prepared(
    truth: Mapping[str, list[dict]], results: Sequence[Mapping], iou_type: str
) -> tuple[dict[str, list[dict]], dict[str, list[dict]]]:
    """Returns truth and detections as two COCO dictionaries that a library can evaluate.

    Images are numbered, so that ids of any type will do; detections have areas, those of their
    boxes or of their masks.

    Args:
        truth: as for `coco_metrics`.
        results: as for `coco_metrics`.
        iou_type: "bbox", "segm" or "keypoints".

    Raises:
        ValueError: a result names an image or a category that the truth lacks.
    """
    numbers = {image["id"]: number for number, image in enumerate(truth["images"], start=1)}
    categories = truth["categories"]
    _check_known(results, numbers, {category["id"] for category in categories})
    images = [{**image, "id": numbers[image["id"]]} for image in truth["images"]]
    objects = [{**a, "image_id": numbers[a["image_id"]]} for a in truth["annotations"]]
    found = [
        {**entry, "image_id": numbers[entry["image_id"]], "id": number, "iscrowd": 0}
        for number, entry in enumerate(scored(results, iou_type), start=1)
    ]
    for entry in found:
        entry["area"] = _area(entry, iou_type)
    known = {"images": images, "annotations": objects, "categories": categories}
    return known, {**known, "annotations": found}


def summaries(evaluated: Mapping[str, COCOeval]) -> dict[str, float]:
    """Returns the numbers of `coco_metrics` of what `accumulate` gives."""
    return {
        f"{iou_type}/{name}": value
        for iou_type, evaluation in evaluated.items()
        for name, value in summary(evaluation).items()
    }


def class_numbers(evaluation: COCOeval) -> list[dict[str, float]]:
    """Returns AP, AP50 and AR of each class, in the order of the categories' ids; -1: no object."""
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # all sizes, the last limit
    recall = evaluation.eval["recall"][:, :, 0, -1]
    (at,) = np.flatnonzero(np.isclose(evaluation.params.iouThrs, 0.5))
    return [
        {
            "AP": _mean(precision[:, :, k]),
            "AP50": _mean(precision[at, :, k]),
            "AR": _mean(recall[:, k]),
        }
        for k in range(precision.shape[2])
    ]


def metric_names(
    class_names: Sequence[str],
    max_detections: Sequence[int],
    iou_types: Sequence[str] = IOU_TYPES,
) -> list[str]:
    """Returns the names that `coco_metrics` gives its numbers; raises as it does."""
    check_limits(max_detections)
    found = []
    for iou_type in iou_types:
        # Of small objects COCO annotates no keypoints.
        areas = [letter for letter in _AREAS if iou_type != KEYPOINTS or letter != "s"]
        recalls = [*map(str, _limits(iou_type, max_detections)), *areas]
        names = ["AP", "AP50", "AP75", *(f"AP{letter}" for letter in areas)]
        names += [f"AR{recall}" for recall in recalls] + [f"AP/{name}" for name in class_names]
        found += [f"{iou_type}/{name}" for name in names]
    return found


def _check_known(results, image_ids, category_ids):
    for key, known in (("image_id", image_ids), ("category_id", category_ids)):
        unknown = {entry[key] for entry in results} - set(known)
        if unknown:
            raise ValueError(
                f"{len(unknown)} values of {key} in the results are not in the ground truth, "
                f"the first of them {sorted(unknown, key=str)[0]!r}"
            )


def _library(name: str) -> tuple[ModuleType, ModuleType]:
    """Returns the modules with `COCO` and with `COCOeval`."""
    if name == "hotcoco":
        module = importlib.import_module(name)
        return module, module
    return importlib.import_module(f"{name}.coco"), importlib.import_module(f"{name}.cocoeval")


def _accumulate(library, known, found, iou_type, limits, sigmas) -> COCOeval:
    """Runs the library, silently."""
    coco, cocoeval = library
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = cocoeval.COCOeval(indexed(coco, known), indexed(coco, found), iou_type)
        evaluation.params.maxDets = limits
        if iou_type == KEYPOINTS:
            evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _area(entry, iou_type) -> float:
    if iou_type == "segm":
        return float(coco_mask.area(entry["segmentation"]))
    if iou_type == KEYPOINTS:  # of the box around them, as COCO takes results without boxes
        return float(np.prod(np.ptp(np.reshape(entry["keypoints"], (-1, 3))[:, :2], axis=0)))
    return entry["bbox"][2] * entry["bbox"][3]


def indexed(library: ModuleType, content: dict[str, list[dict]]) -> Any:
    """Returns a library's `COCO` of a dictionary."""
    index = library.COCO()
    index.dataset = content
    index.createIndex()
    return index


def summary(evaluation: COCOeval) -> dict[str, float]:
    """Returns the numbers of `coco_metrics` of one evaluation.

    They are means over pycocotools' arrays, in which -1 marks what has no truth, as in these.
    """
    params = evaluation.params
    precision = evaluation.eval["precision"]  # [IoU, recall, class, area, limit]
    recall = evaluation.eval["recall"]  # [IoU, class, area, limit]
    area = {name: params.areaRngLbl.index(name) for name in params.areaRngLbl}
    areas = {letter: area[name] for letter, name in _AREAS.items() if name in area}
    numbers = {"AP": _mean(precision[:, :, :, area["all"], -1])}
    for percent in (50, 75):
        (at,) = np.flatnonzero(np.isclose(params.iouThrs, percent / 100))
        numbers[f"AP{percent}"] = _mean(precision[at, :, :, area["all"], -1])
    for letter, at in areas.items():
        numbers[f"AP{letter}"] = _mean(precision[:, :, :, at, -1])
    for i, limit in enumerate(params.maxDets):
        numbers[f"AR{limit}"] = _mean(recall[:, :, area["all"], i])
    for letter, at in areas.items():
        numbers[f"AR{letter}"] = _mean(recall[:, :, at, -1])
    for k, category_id in enumerate(params.catIds):
        name = evaluation.cocoGt.cats[category_id]["name"]
        numbers[f"AP/{name}"] = _mean(precision[:, :, k, area["all"], -1])
    return numbers


def _mean(values: np.ndarray) -> float:
    values = values[values > -1]
    return float(values.mean()) if values.size else -1.0
