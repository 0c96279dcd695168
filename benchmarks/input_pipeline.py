"""Training batches without a network: `python -m benchmarks.input_pipeline`.

JPEG files of 640x480 with polygons, as COCO has them, are written to a temporary folder; then
batches of 800x1344 are drawn as training draws them: read, decoded, flipped, resized to 800x1067,
padded, masks rasterised inside their boxes.

The first cases, one for each engine that is installed, are what counts beside a training step:
images a second on all cores. `rss_mib` is the memory of the process after each round:
`--batches 500 --rounds 10 --alone --engine=threads` draws 5,500 batches with one engine. The next
case has CPU seconds, of all threads, instead of time, and so images a second and core; beside it
stands a loader that works as torchvision's reference does (see reference_loader.py). The last is
reading, decoding and resizing alone, beside other libraries (see decoding.py).
"""

import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np

from benchmarks import decoding, measure, reference_loader
from maskrcnn_jax import config as default_config
from maskrcnn_jax.config import Config
from maskrcnn_jax.data.formats import coco
from maskrcnn_jax.data.input import pipeline
from maskrcnn_jax.images.sizes import Size, short_side_size

_QUALITY = 98  # of the JPEG files: about 125 kB each
_PEER_PACKAGES = ("pillow", "pycocotools", "numpy", "opencv-python-headless")
_ENGINES = ("tfdata", "threads") if decoding.tf else ("threads",)
PEERS = {
    "torchvision-style resize by Pillow": reference_loader.resize_pillow,
    "torchvision-style resize by OpenCV": reference_loader.resize_opencv,
}


def main(argv: list[str] | None = None) -> list[dict]:
    parser = measure.argument_parser(__doc__, rounds=7)
    parser.add_argument("--batches", type=int, default=16, help="of each round")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--images", type=int, default=64, help="files; they are read repeatedly")
    parser.add_argument("--objects", type=int, default=7, help="in each image")
    parser.add_argument("--engine", choices=_ENGINES, help="this one alone")
    parser.add_argument("--alone", action="store_true", help="the first cases only")
    arguments = measure.parse(parser, argv)
    engines = [arguments.engine] if arguments.engine else _ENGINES
    config = default_config.get_config()
    config.train.batch_size = arguments.batch
    config.data.buckets = ((800, 1344), (1344, 800))
    height, width = 480, 640
    if arguments.tiny:
        arguments.batches, arguments.images, height, width = 2, 4, 48, 64
        config.data.short_side, config.data.long_side = 64, 96
        config.data.buckets, config.data.mask_size = ((64, 96), (96, 64)), 28

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_dataset(folder, arguments.images, arguments.objects, height, width)
        dataset = coco.read(images="images", annotations="instances.json", root=name)
        files = [file.stat().st_size for file in (folder / "images").iterdir()]
        sizes = {
            "file": [height, width],
            "kB": round(float(np.mean(files)) / 1000),
            "batches": arguments.batches,
            "batch": [arguments.batch, *config.data.buckets[0]],
            "objects": arguments.objects,
        }
        lines = []
        for engine in engines:
            config.data.engine = engine
            with closing(pipeline.train_batches(dataset, config)) as batches:
                ours = partial(_draw, batches, arguments.batches)
                lines += _on_all_cores(f"batches for training, {engine}", sizes, ours, arguments)
        if arguments.alone:
            return lines
        config.data.engine = engines[0]
        with closing(pipeline.train_batches(dataset, config)) as batches:
            ours = partial(_draw, batches, arguments.batches)
            peers = {
                side: _peer(folder, config, arguments.batches, resize)
                for side, resize in PEERS.items()
            }
            lines += _on_one_core("CPU time of one core", sizes, ours, peers, arguments)
        size = short_side_size(height, width, config.data.short_side, config.data.long_side)
        count = arguments.batches * arguments.batch
        ways = {
            side: _decoder(folder, size, count, decode)
            for side, decode in {measure.OURS: decoding.ours, **decoding.WAYS}.items()
        }
        sizes |= {"resized": list(size)}
        ours = ways.pop(measure.OURS)
        case = "CPU time of one core, decoding and resizing"
        return lines + _on_one_core(case, sizes, ours, ways, arguments)


def _on_all_cores(case: str, sizes: dict, ours: measure.Side, arguments) -> list[dict]:
    """Times ours alone, and reads the memory in use after each round, the first one included."""
    in_use = []

    def side():
        result = ours()
        in_use.append(measure.memory_in_use())
        return result

    return measure.report(
        "input_pipeline",
        case,
        sizes,
        {measure.OURS: side},
        arguments.rounds,
        facts={"rss_mib": in_use},
        per_second=arguments.batches * arguments.batch,
    )


def _on_one_core(case: str, sizes: dict, ours: measure.Side, peers: dict, arguments) -> list[dict]:
    """Tells the CPU seconds of ours beside the peers'."""
    return measure.report(
        "input_pipeline",
        case,
        sizes,
        {side: partial(_cpu_time, call) for side, call in {measure.OURS: ours, **peers}.items()},
        arguments.rounds,
        facts={},
        per_second=arguments.batches * arguments.batch,
        peer_versions={name: version(name) for name in _PEER_PACKAGES}
        | ({"tensorflow": decoding.tf.__version__} if decoding.tf else {}),
    )


def _draw(batches: Iterator, count: int) -> tuple[float, dict]:
    objects = skipped = 0
    start = time.perf_counter()
    for batch, info in itertools.islice(batches, count):
        objects += int(batch["gt_valid"].sum())
        skipped += len(info["skipped"])
    return time.perf_counter() - start, {"objects": objects, "skipped": skipped}


def _peer(folder: Path, config: Config, count: int, resize) -> measure.Side:
    """Returns the side that makes as many batches in the reference's way, in one thread."""
    entries = itertools.cycle(reference_loader.read_entries(folder))
    sides = config.data.short_side, config.data.long_side
    rng = np.random.default_rng(0)

    def side():
        objects = 0
        start = time.perf_counter()
        for _ in range(count):
            chosen = list(itertools.islice(entries, config.train.batch_size))
            _, targets = reference_loader.make_batch(
                chosen, config.data.buckets[0], sides, resize, rng
            )
            objects += sum(len(target["masks"]) for target in targets)
        return time.perf_counter() - start, {"objects": objects, "skipped": 0}

    return side


def _decoder(folder: Path, size: Size, count: int, decode) -> measure.Side:
    """Returns the side that decodes and resizes as many of the files."""
    paths = itertools.cycle(sorted((folder / "images").iterdir()))

    def side():
        start = time.perf_counter()
        pixels = sum(decode(path, size).size for path in itertools.islice(paths, count))
        return time.perf_counter() - start, {"pixels": pixels}

    return side


def _cpu_time(call: measure.Side) -> tuple[float, dict]:
    """Calls a side; returns the CPU seconds of all threads for it, and its counts.

    Threads that fill the prefetched batches up work on after the call. They are waited for on both
    sides of it, so that each call is charged for as many images as it has drawn.
    """
    start = _idle()
    _, counts = call()
    return _idle() - start, counts


def _idle() -> float:
    """Waits until no thread of this process works any more; returns its CPU seconds so far."""
    spent = time.process_time()
    while True:
        time.sleep(0.2)
        before, spent = spent, time.process_time()
        if spent - before < 0.002:
            return spent


def write_dataset(folder: Path, images: int, objects: int, height: int, width: int) -> None:
    """Writes JPEG files and a COCO annotation file: stars of 24 corners on blurred noise."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    entries, annotations = [], []
    for number in range(1, images + 1):
        noise = rng.integers(0, 256, (height, width, 3), np.uint8)
        name = f"{number:06d}.jpg"
        blurred = cv2.GaussianBlur(noise, (0, 0), 2)
        cv2.imwrite(str(folder / "images" / name), blurred, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
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
