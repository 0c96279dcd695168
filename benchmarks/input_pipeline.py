"""Training batches without a network: `python -m benchmarks.input_pipeline`.

JPEG files of 640x480 with polygons, as COCO has them, are written to a temporary folder; then
batches are drawn as training draws them: read, decoded, flipped, resized to 800x1067, padded, masks
rasterised inside their boxes. What counts is images a second, beside what a training step takes.
"""

import itertools
import json
import tempfile
import time
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np

from benchmarks import measure
from maskrcnn_jax import config as default_config
from maskrcnn_jax.data import coco, pipeline


def main(argv: list[str] | None = None) -> list[dict]:
    parser = measure.argument_parser(__doc__, rounds=7)
    parser.add_argument("--batches", type=int, default=16, help="of each round")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--images", type=int, default=64, help="files; they are read repeatedly")
    parser.add_argument("--objects", type=int, default=7, help="in each image")
    arguments = measure.parse(parser, argv)
    config = default_config.get_config()
    config.train.batch_size = arguments.batch
    height, width = 480, 640
    if arguments.tiny:
        arguments.batches, arguments.images, height, width = 2, 4, 48, 64
        config.data.short_side, config.data.long_side = 64, 96
        config.data.buckets, config.data.mask_size = ((64, 96), (96, 64)), 28

    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder), arguments.images, arguments.objects, height, width)
        dataset = coco.read(images="images", annotations="instances.json", root=folder)
        with closing(pipeline.train_batches(dataset, config)) as batches:

            def side():
                objects = skipped = 0
                start = time.perf_counter()
                for batch, info in itertools.islice(batches, arguments.batches):
                    objects += int(batch["gt_valid"].sum())
                    skipped += len(info["skipped"])
                return time.perf_counter() - start, {"objects": objects, "skipped": skipped}

            sizes = {
                "file": [height, width],
                "batches": arguments.batches,
                "batch": list(next(batches)[0]["image"].shape[:3]),
                "objects": arguments.objects,
            }
            return measure.report(
                "input_pipeline",
                "batches for training",
                sizes,
                {measure.OURS: side},
                arguments.rounds,
                facts={},
                per_second=arguments.batches * arguments.batch,
            )


def write_dataset(folder: Path, images: int, objects: int, height: int, width: int) -> None:
    """Writes JPEG files and a COCO annotation file: stars of 24 corners on blurred noise."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    entries, annotations = [], []
    for number in range(1, images + 1):
        noise = rng.integers(0, 256, (height, width, 3), np.uint8)
        name = f"{number:06d}.jpg"
        cv2.imwrite(str(folder / "images" / name), cv2.GaussianBlur(noise, (0, 0), 2))
        entries.append({"id": number, "file_name": name, "height": height, "width": width})
        for _ in range(objects):
            polygon = _star(rng, height, width)
            low, high = polygon.min(0), polygon.max(0)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "bbox": [*low.tolist(), *(high - low).tolist()],
                    "area": float((high - low).prod() / 2),
                    "iscrowd": 0,
                    "segmentation": [polygon.ravel().tolist()],
                }
            )
    categories = [{"id": 1, "name": "star"}]
    content = {"images": entries, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))


def _star(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Returns the corners [24, 2] of a polygon inside the image, in pixels."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, 24))
    radii = min(height, width) * rng.uniform(0.05, 0.25) * rng.uniform(0.6, 1.0, 24)
    centre = rng.uniform(0.2, 0.8, 2) * (width, height)
    corners = centre + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.clip(corners, 0, (width, height)).round(2)


if __name__ == "__main__":
    main()
