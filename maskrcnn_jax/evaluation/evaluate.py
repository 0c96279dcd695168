"""One evaluation from images to metrics: predict, measure, write."""

import json
import math
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from maskrcnn_jax.data.records import Dataset, Record
from maskrcnn_jax.evaluation.analysis.write import write_analysis
from maskrcnn_jax.evaluation.coco_metrics import (
    IOU_TYPES,
    KEYPOINTS,
    accumulate,
    metric_names,
    scored,
    summaries,
)
from maskrcnn_jax.evaluation.collect import Found, collect
from maskrcnn_jax.evaluation.config import EvalConfig
from maskrcnn_jax.evaluation.metrics.chosen import more_metrics, more_names
from maskrcnn_jax.evaluation.metrics.lvis import check_lvis
from maskrcnn_jax.evaluation.pictures import comparison
from maskrcnn_jax.evaluation.report import report_text
from maskrcnn_jax.evaluation.truth import coco_truth
from maskrcnn_jax.evaluation.validation_loss import LossStep, loss_names, mean_losses
from maskrcnn_jax.files import refuse_links, write_atomically
from maskrcnn_jax.images.png import encode_png
from maskrcnn_jax.inference.predict_step import PredictStep
from maskrcnn_jax.inference.test_time import Views
from maskrcnn_jax.models.build import make_model
from maskrcnn_jax.parallel.gather import gather

if TYPE_CHECKING:
    from maskrcnn_jax.config import Config


_MOST_NAME = 200  # characters of an image's name in that of its picture


def check_metrics(config: "Config", dataset: Dataset) -> None:
    """Checks that the evaluation can measure `config.eval.metrics` and `config.train.best_metric`.

    Args:
        config: the whole configuration.
        dataset: that will be evaluated on.

    Raises:
        ValueError: naming the key of the configuration.
    """
    if "lvis" in config.eval.metrics:
        check_lvis(dataset.federated is not None)
    given, kinds = (dataset.class_names, config.eval.max_detections), _iou_types(config)
    more = more_names(config.eval.metrics, *given, _of_regions(kinds))
    names = [*metric_names(*given, kinds), *more]
    is_loss = config.train.best_metric.startswith("loss_")
    if is_loss and config.eval.loss:
        names += loss_names(make_model(config.model, len(dataset.class_names)))
    if config.train.best_metric not in names:
        raise ValueError(
            f"config.train.best_metric is {config.train.best_metric!r}; expected one of "
            f"{', '.join(names)}"
        )


def _iou_types(config: "Config") -> tuple[str, ...]:
    kinds = IOU_TYPES if config.model.masks else IOU_TYPES[:1]
    return (*kinds, KEYPOINTS) if config.model.keypoints.names else kinds


def _of_regions(kinds: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(kind for kind in kinds if kind != KEYPOINTS)


def batch_size(settings: EvalConfig, num_images: int, num_devices: int) -> int:
    """Returns how many images go at once: no more than there are, but equal shares for devices.

    The last batch is filled up, and empty slots take as long as images.

    Args:
        settings: `config.eval`; its `batch_size` is a multiple of `num_devices`.
        num_images: in the data set.
        num_devices: that share a batch.
    """
    if settings.max_images:
        num_images = min(num_images, settings.max_images)
    needed = math.ceil(max(num_images, 1) / num_devices) * num_devices
    return min(settings.batch_size, needed)


def evaluate(
    predict_step: PredictStep,
    variables: Any,
    dataset: Dataset,
    config: "Config",
    out_dir: str | Path,
    before_batch: Callable[[], None] = lambda: None,
    loss_step: LossStep | None = None,
    must_write: bool = True,
    report: bool = False,
    views: Views | None = None,
) -> dict[str, float]:
    """Predicts on a data set, measures the metrics and writes them down.

    Writes `report.txt` (a table), `metrics.json`, `detections.json` (COCO results at the original
    resolution), of a model that scores masks `detections_segm.json` (those of masks alone, with
    their scores) and `pictures/` (predictions beside the truth, by the names of the images). With
    several processes each predicts its part of every batch; the first one measures and writes, all
    return its metrics.

    Args:
        predict_step: as `make_predict_step` returns it.
        variables: of the model.
        dataset: images and annotations.
        config: the whole configuration; `eval` and `data` are used.
        out_dir: folder for the results; made where it does not exist.
        before_batch: called before each batch, equally often in all processes.
        loss_step: as `make_loss_step` returns it; None: no losses are measured.
        must_write: False: a file that cannot be written is only reported on stderr.
        report: also write `report.html`, curves, confusions, errors and the worst images, and its
            numbers as `report.json`.
        views: of test-time augmentation, those of the predict step.

    Returns:
        The numbers of `coco_metrics`, those of `config.eval.metrics`, those of `mean_losses` where
        there is a loss step, and `images`, `images_skipped` (unreadable, and so not in the metrics)
        and `images_per_second` (from reading to encoded masks, without compilation).

    Raises:
        ValueError: no image could be evaluated.
        OSError: the results cannot be written.
    """
    if config.eval.max_images:
        dataset = replace(dataset, records=dataset.records[: config.eval.max_images])
    found = collect(predict_step, variables, dataset, config, before_batch, loss_step, views)
    if not found.image_ids:
        first = f", the first because of: {found.skipped[0]}" if found.skipped else ""
        raise ValueError(f"none of the images of {dataset.name} could be evaluated{first}")
    if jax.process_index() > 0:
        return gather([])[0]  # measuring takes memory and cores, which processes may share
    truth = coco_truth(dataset, found.image_ids)
    kinds, limits = _iou_types(config), config.eval.max_detections
    known = config.model.keypoints.keypoint_set()
    sigmas = known.sigmas if known else ()
    evaluated = accumulate(truth, found.results, limits, iou_types=kinds, sigmas=sigmas)
    metrics = summaries(evaluated)
    regions = _of_regions(kinds)
    metrics |= more_metrics(config.eval.metrics, truth, found.results, limits, regions)
    if found.losses:
        metrics |= mean_losses(found.losses)
    metrics["images"] = float(len(found.image_ids))
    metrics["images_skipped"] = float(len(found.skipped))
    metrics["images_per_second"] = found.images_per_second
    gather([metrics])
    try:
        _write(Path(out_dir), metrics, found, dataset, config)
        if report:
            of_regions = {kind: evaluated[kind] for kind in regions}
            write_analysis(Path(out_dir), dataset, truth, found.results, of_regions)
    except OSError as error:
        if must_write:
            raise
        warning = f"the results of the evaluation cannot be written to {out_dir}: {error}"
        print(f"\nWARNING: {warning}\n", file=sys.stderr, flush=True)
    return metrics


def _write(
    out_dir: Path, metrics: dict[str, float], found: Found, dataset: Dataset, config: "Config"
) -> None:
    refuse_links(out_dir)
    report = report_text(metrics, dataset, config.eval.max_detections, found.skipped)
    write_atomically(out_dir / "report.txt", report)
    write_atomically(out_dir / "metrics.json", json.dumps(metrics, indent=1) + "\n")
    write_atomically(out_dir / "detections.json", json.dumps(found.results))
    if config.model.mask_scoring.enabled:
        without = ("bbox", "mask_score")
        entries = scored(found.results, "segm")
        masks = [{k: v for k, v in e.items() if k not in without} for e in entries]
        write_atomically(out_dir / "detections_segm.json", json.dumps(masks))
    _remove_pictures(out_dir / "pictures")
    for index, result in found.samples:
        record = dataset.records[index]
        picture = comparison(dataset.read_image(record), record, result, dataset.class_names)
        write_atomically(out_dir / "pictures" / _picture_name(index, record), encode_png(picture))


def pictures_in(out_dir: str | Path) -> dict[str, bytes]:
    """Returns the pictures of an evaluation, PNG files by `predictions/NUMBER_NAME`.

    Args:
        out_dir: as for `evaluate`.
    """
    return {
        f"predictions/{path.stem.removeprefix('eval_')}": path.read_bytes()
        for path in sorted((Path(out_dir) / "pictures").glob("eval_*.png"))
        if path.is_file() and not path.is_symlink()
    }


def _picture_name(index: int, record: Record) -> str:
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", Path(record.path).stem or str(record.image_id))
    return f"eval_{index:06d}_{name[:_MOST_NAME]}.png"


def _remove_pictures(folder: Path) -> None:
    """Removes an earlier evaluation's pictures, and no other file."""
    for old in folder.glob("*.png"):
        if re.fullmatch(r"(eval_[0-9]{6,}_[A-Za-z0-9._-]*)|[0-9]{6,}", old.stem):
            old.unlink()
