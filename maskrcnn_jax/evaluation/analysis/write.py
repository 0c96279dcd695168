"""The files of `eval.py --report`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pycocotools.cocoeval import COCOeval

from maskrcnn_jax.console import amount
from maskrcnn_jax.data.records import Dataset
from maskrcnn_jax.evaluation.analysis.crowding import crowding_table
from maskrcnn_jax.evaluation.analysis.page import page
from maskrcnn_jax.evaluation.analysis.summary import Analysis, analyse
from maskrcnn_jax.evaluation.analysis.worst import draw_errors, encode_jpeg
from maskrcnn_jax.files import write_atomically


def write_analysis(
    out_dir: Path,
    dataset: Dataset,
    truth: Mapping[str, list[dict]],
    results: Sequence[Mapping],
    evaluated: Mapping[str, COCOeval],
) -> None:
    """Writes `report.html` and the same numbers as `report.json`.

    Args:
        out_dir: folder for both.
        dataset: for its name and images.
        truth: COCO dictionary of the images that were evaluated.
        results: entries of a COCO results file.
        evaluated: as `coco_metrics.accumulate` returns it.

    Raises:
        OSError: the files cannot be written.
    """
    analyses = {kind: analyse(truth, results, evaluated[kind], kind) for kind in evaluated}
    limits = [int(limit) for limit in evaluated["segm"].params.maxDets]
    crowding = crowding_table(truth, results, limits)
    numbers = {k: {**analysis.numbers, "crowding": crowding[k]} for k, analysis in analyses.items()}
    images, limit = len(truth["images"]), limits[-1]
    written = {"dataset": dataset.name, "images": images, "max_detections": limit, **numbers}
    write_atomically(out_dir / "report.json", json.dumps(written, indent=1) + "\n")
    subtitle = f"{amount(images, 'image')}, at most {limit} detections of a class in an image"
    pictures = _pictures(dataset, analyses["segm"])
    html = page(f"Evaluation on {dataset.name}", subtitle, numbers, pictures)
    write_atomically(out_dir / "report.html", html)


def _pictures(dataset: Dataset, analysis: Analysis) -> list[tuple[str, bytes]]:
    records = {record.image_id: record for record in dataset.records}
    pictures = []
    for match, row in zip(analysis.worst, analysis.numbers["worst"], strict=True):
        record = records[match.image_id]
        picture = draw_errors(dataset.read_image(record), match, list(dataset.class_names))
        caption = (
            f"{Path(record.path).name or record.image_id}: "
            f"{amount(row['false_detections'], 'false detection')}, "
            f"{amount(row['objects_not_found'], 'object')} not found"
        )
        pictures.append((caption, encode_jpeg(picture)))
    return pictures
