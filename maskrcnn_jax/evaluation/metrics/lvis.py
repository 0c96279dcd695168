"""LVIS's average precision, computed by hotcoco.

Gupta et al., "LVIS: A Dataset for Large Vocabulary Instance Segmentation" (CVPR 2019). In an image
only the classes count that the file says are there or not there (`neg_category_ids`); where it says
that not every object of a class is marked (`not_exhaustive_category_ids`), what is found besides is
not wrong. At most 300 detections of an image count, of all classes together.
"""

import contextlib
import importlib
import importlib.util
import io
from collections.abc import Mapping, Sequence

from maskrcnn_jax.evaluation.coco_metrics import IOU_TYPES, indexed, prepared

MAX_DETECTIONS = 300
_AP = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf")
_RECALLS = {f"AR{MAX_DETECTIONS}": "AR@300", **{f"AR{x}": f"AR{x}@300" for x in "sml"}}
NAMES = (*_AP, *_RECALLS)  # the recalls are named as `coco_metrics` names them


def lvis_metrics(
    truth: Mapping[str, list[dict]],
    results: Sequence[Mapping],
    max_detections: int = MAX_DETECTIONS,
    iou_types: Sequence[str] = IOU_TYPES,
) -> dict[str, float]:
    """Computes LVIS's thirteen numbers, for boxes and for masks.

    Args:
        truth: COCO dictionary with LVIS's keys, see `coco_truth`.
        results: entries of a COCO results file.
        max_detections: of an image; more are left out, the least sure first.
        iou_types: "bbox" and "segm", or one of them.

    Returns:
        `lvis/bbox/AP` ... and `lvis/segm/AP` ...: 0..1, or -1 where no object of the kind exists.
        APr, APc and APf are of classes that are rare, common and frequent in training.

    Raises:
        ValueError: as `check_lvis`.
    """
    check_lvis("frequency" in truth["categories"][0])
    hotcoco = importlib.import_module("hotcoco")
    numbers: dict[str, float] = {}
    for iou_type in iou_types:
        known, found = prepared(truth, results, iou_type)
        with contextlib.redirect_stdout(io.StringIO()):
            index = indexed(hotcoco, known)
            kept = _surest(found["annotations"], max_detections)
            detected = indexed(hotcoco, {**found, "annotations": kept})
            evaluation = hotcoco.COCOeval(index, detected, iou_type, lvis_style=True)
            evaluation.run()
            values = evaluation.get_results()
        numbers |= {
            f"lvis/{iou_type}/{name}": float(values[_RECALLS.get(name, name)]) for name in NAMES
        }
    return numbers


def check_lvis(has_frequencies: bool) -> None:
    """Checks that LVIS's numbers can be computed.

    Args:
        has_frequencies: whether the annotations have LVIS's keys.

    Raises:
        ValueError: hotcoco is not installed, or the annotations are not those of LVIS.
    """
    if not importlib.util.find_spec("hotcoco"):
        raise ValueError(
            "config.eval.metrics has 'lvis', which hotcoco computes: pip install hotcoco"
        )
    if not has_frequencies:
        raise ValueError(
            "config.eval.metrics has 'lvis', but the annotations have no neg_category_ids and "
            "frequency, as LVIS's files do; take 'lvis' out, or give LVIS's annotations"
        )


def _surest(found: list[dict], limit: int) -> list[dict]:
    """Returns the detections of which an image has at most so many, the surest."""
    counts: dict[int, int] = {}
    kept = []
    for entry in sorted(found, key=lambda entry: -entry["score"]):
        counts[entry["image_id"]] = counts.get(entry["image_id"], 0) + 1
        if counts[entry["image_id"]] <= limit:
            kept.append(entry)
    return kept
