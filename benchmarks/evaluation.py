"""The host's part of an evaluation: `python -m benchmarks.evaluation`.

Invented detections of generated images, 36 an image of which some lie near the truth, go the way of
real ones: masks from the network's grid to run lengths at the image's size, then COCO's metrics of
boxes and masks, which hotcoco computes where it is installed, with pycocotools beside it.
"""

import importlib.util
import time
from importlib.metadata import version

import numpy as np

from benchmarks import measure
from maskrcnn_jax.data.formats import shapes
from maskrcnn_jax.evaluation.coco_metrics import accumulate, summaries
from maskrcnn_jax.evaluation.truth import coco_truth
from maskrcnn_jax.inference.coco_results import coco_results
from maskrcnn_jax.inference.result import to_result
from maskrcnn_jax.models.detections import Detections


def main(argv: list[str] | None = None) -> list[dict]:
    parser = measure.argument_parser(__doc__, rounds=3)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--detections", type=int, default=36, help="of each image")
    arguments = measure.parse(parser, argv)
    if arguments.tiny:
        arguments.images, arguments.detections = 4, 4
    dataset = shapes.read(count=arguments.images, seed=0, size=64 if arguments.tiny else 512)
    found = [invented_detections(r, arguments.detections, i) for i, r in enumerate(dataset.records)]
    sizes = {
        "images": arguments.images,
        "image": [dataset.records[0].height, dataset.records[0].width],
        "detections": arguments.detections,
        "classes": len(dataset.class_names),
    }
    results = encode(dataset, found)
    truth = coco_truth(dataset)

    def encoding():
        start = time.perf_counter()
        entries = encode(dataset, found)
        return time.perf_counter() - start, {"entries": len(entries)}

    def metrics(library=None):
        start = time.perf_counter()
        numbers = summaries(accumulate(truth, results, library=library))
        return time.perf_counter() - start, {"segm/AP": round(numbers["segm/AP"], 4)}

    peers = {}
    if importlib.util.find_spec("hotcoco"):
        peers["pycocotools"] = lambda: metrics("pycocotools")

    return [
        *_report("masks to run lengths", sizes, {measure.OURS: encoding}, arguments),
        *_report("COCO metrics", sizes, {measure.OURS: metrics, **peers}, arguments),
    ]


def invented_detections(record, number: int, seed: int) -> Detections:
    """Returns one image's detections: the true boxes moved a little, and boxes anywhere."""
    rng = np.random.default_rng(seed)
    size = np.float32([record.width, record.height] * 2)
    corners = rng.random((number, 2, 2), np.float32) * size[:2]
    boxes = np.concatenate([corners.min(1), corners.max(1)], axis=1)
    near = min(len(record.boxes), number)
    boxes[:near] = record.boxes[:near] + rng.normal(0, 0.01, (near, 4)) * size
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    classes = rng.integers(1, 4, number, np.int32)
    classes[:near] = record.classes[:near]
    rows, columns = np.mgrid[-1:1:28j, -1:1:28j]
    disc = (1.2 - np.hypot(rows, columns)).clip(0, 1).astype(np.float32)
    return Detections(
        boxes=boxes.clip(0, size)[None],
        scores=np.sort(rng.random(number, np.float32))[::-1][None],
        classes=classes[None],
        masks=np.repeat(disc[None], number, axis=0)[None],
        valid=np.ones((1, number), bool),
    )


def encode(dataset, found: list[Detections]) -> list[dict]:
    """Returns the entries of a COCO results file, masks and all."""
    entries = []
    for record, detections in zip(dataset.records, found, strict=True):
        size = np.array([record.height, record.width])
        result = to_result(detections, 0, size, size, dataset.class_names)
        entries += coco_results(result, record.image_id, dataset.category_ids)
    return entries


def _report(case, sizes, sides, arguments) -> list[dict]:
    return measure.report(
        "evaluation",
        case,
        sizes,
        sides,
        arguments.rounds,
        facts={},
        per_second=arguments.images,
        peer_versions={"pycocotools": version("pycocotools")},
    )


if __name__ == "__main__":
    main()
