"""The metrics as a page of text."""

from collections.abc import Mapping, Sequence

from maskrcnn_jax.console import amount
from maskrcnn_jax.data.records import Dataset
from maskrcnn_jax.evaluation.coco_metrics import IOU_TYPES, KEYPOINTS, metric_names
from maskrcnn_jax.evaluation.metrics.lvis import NAMES

_TITLES = {"bbox": "boxes", "segm": "masks", KEYPOINTS: "points"}


def report_text(
    metrics: Mapping[str, float],
    dataset: Dataset,
    max_detections: Sequence[int],
    skipped: Sequence[str] = (),
) -> str:
    """Lays the metrics out in two tables: COCO's numbers, and the AP of each class.

    Args:
        metrics: as `evaluate` returns them; numbers between 0 and 1 are shown in percent, -1
            (no such object in the truth) as a dash.
        dataset: for its name, classes and objects.
        max_detections: as in the configuration.
        skipped: a message for each image that could not be read; without them their number alone
            is told.

    Returns:
        The page.
    """
    more = [*_more(metrics), *_keypoints(metrics)]
    lines = [
        f"{dataset.name}: {amount(int(metrics['images']), 'image')}, "
        f"{metrics['images_per_second']:.1f} images/s, {max_detections[-1]} detections an image",
        "",
        *_numbers(metrics, max_detections),
        "",
        *_classes(metrics, dataset.class_names),
        "",
        *([*more, ""] if more else []),
        "AP: mean over IoU 0.50:0.95. s, m, l: objects below 32^2, 96^2 and above, in pixels.",
        "ARn: recall with n detections of a class in an image. -: no such object in the truth.",
    ]
    losses = [f"{key} {value:.4f}" for key, value in metrics.items() if key.startswith("loss_")]
    if losses:
        lines += ["", "  ".join(losses)]
    number = len(skipped) or int(metrics.get("images_skipped", 0))
    if number:
        which = ":" if skipped else "; eval/report.txt of the work directory says which"
        lines += ["", f"{amount(number, 'image')} could not be read, left out{which}"]
        lines += [f"  {message}" for message in skipped]
    return "\n".join(lines) + "\n"


def _numbers(metrics, max_detections) -> list[str]:
    names = ["AP", "AP50", "AP75", "APs", "APm", "APl"]
    names += [f"AR{limit}" for limit in max_detections] + ["ARs", "ARm", "ARl"]
    lines = ["".join(f"{name:>7}" for name in ["", *names])]
    for iou_type in _measured(metrics, IOU_TYPES):
        values = "".join(f"{_percent(metrics[f'{iou_type}/{name}']):>7}" for name in names)
        lines.append(f"{_TITLES[iou_type]:>7}{values}")
    return lines


def _more(metrics) -> list[str]:
    """The numbers of `config.eval.metrics` that stand for all classes."""
    rows = [
        ("VOC 2007, AP at IoU 0.5", "bbox/voc07", "segm/voc07"),
        ("VOC 2012, AP at IoU 0.5", "bbox/voc12", "segm/voc12"),
        ("matterport, AP at IoU 0.5", "", "segm/matterport"),
        *((f"LVIS {name}", f"lvis/bbox/{name}", f"lvis/segm/{name}") for name in NAMES),
        *((f"boundary {name}", "", f"boundary/{name}") for name in ("AP", "AP50", "AP75")),
    ]
    return [
        f"{title:<26}" + "".join(f"{_percent(metrics.get(key, -1)):>8}" for key in keys)
        for title, *keys in rows
        if keys[-1] in metrics
    ]


def _keypoints(metrics) -> list[str]:
    """The numbers of keypoints, whose similarity is COCO's OKS."""
    if f"{KEYPOINTS}/AP" not in metrics:
        return []
    names = metric_names((), (1,), (KEYPOINTS,))
    words = [f"{name.split('/')[1]} {_percent(metrics[name])}" for name in names]
    return [f"keypoints, by OKS: {'  '.join(words)}"]


def _classes(metrics, class_names) -> list[str]:
    width = max(len("class"), *(len(name) for name in class_names))
    kinds = _measured(metrics, (*IOU_TYPES, KEYPOINTS))
    lines = [f"{'class':<{width}}" + "".join(f"{_TITLES[kind]:>8}" for kind in kinds)]
    for name in class_names:
        values = (_percent(metrics[f"{iou_type}/AP/{name}"]) for iou_type in kinds)
        lines.append(f"{name:<{width}}" + "".join(f"{value:>8}" for value in values))
    return lines


def _measured(metrics, kinds: Sequence[str]) -> list[str]:
    """Those of the kinds that the model gives: boxes alone, say."""
    return [iou_type for iou_type in kinds if f"{iou_type}/AP" in metrics]


def _percent(value: float) -> str:
    return "-" if value < 0 else f"{100 * value:.1f}"
