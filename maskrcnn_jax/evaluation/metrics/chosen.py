"""The metrics of `config.eval.metrics`, by name."""

from collections.abc import Mapping, Sequence

from maskrcnn_jax.evaluation.coco_metrics import IOU_TYPES, metric_names
from maskrcnn_jax.evaluation.metrics.boundary import boundary_metrics
from maskrcnn_jax.evaluation.metrics.lvis import NAMES, lvis_metrics
from maskrcnn_jax.evaluation.metrics.matterport import matterport_metrics
from maskrcnn_jax.evaluation.metrics.voc import RULES, voc_metrics


def more_metrics(
    chosen: Sequence[str],
    truth: Mapping[str, list[dict]],
    results: Sequence[Mapping],
    max_detections: Sequence[int],
    iou_types: Sequence[str] = IOU_TYPES,
) -> dict[str, float]:
    """Computes what is measured besides COCO's numbers.

    Args:
        chosen: `config.eval.metrics`.
        truth: COCO dictionary, see `coco_truth`.
        results: entries of a COCO results file.
        max_detections: `config.eval.max_detections`; boundary AP uses them.
        iou_types: "bbox" and "segm", or one of them.

    Returns:
        Numbers of the names that `more_names` gives: 0..1, or -1 where there is no object.
    """
    numbers: dict[str, float] = {}
    if rules := [rule for rule in RULES if rule in chosen]:
        for iou_type in iou_types:
            numbers |= voc_metrics(truth, results, iou_type, rules)
    if "matterport" in chosen:
        numbers |= matterport_metrics(truth, results)
    if "lvis" in chosen:
        numbers |= lvis_metrics(truth, results, iou_types=iou_types)
    if "boundary" in chosen:
        numbers |= boundary_metrics(truth, results, max_detections)
    return numbers


def more_names(
    chosen: Sequence[str],
    class_names: Sequence[str],
    max_detections: Sequence[int],
    iou_types: Sequence[str] = IOU_TYPES,
) -> list[str]:
    """Returns the names that `more_metrics` gives its numbers."""
    names = []
    for rule in (rule for rule in RULES if rule in chosen):
        for start in (f"{iou_type}/{rule}" for iou_type in iou_types):
            names += [start, *(f"{start}/{name}" for name in class_names)]
    if "matterport" in chosen:
        names.append("segm/matterport")
    if "lvis" in chosen:
        names += [f"lvis/{iou_type}/{name}" for iou_type in iou_types for name in NAMES]
    if "boundary" in chosen:
        coco = metric_names(class_names, max_detections)
        names += [f"boundary/{name[5:]}" for name in coco if name.startswith("segm/")]
    return names
