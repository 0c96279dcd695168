"""What a dataset is like, and how the configuration suits it: counts, sizes, anchors, buckets.

Sizes and aspect ratios are those at the network's input, unaugmented: after resizing by
`data.resize`, on the tiles where `data.augment.tile` cuts training images into such.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from maskrcnn_jax.data.config import DataConfig
from maskrcnn_jax.data.input.tiles import Sample, training_samples, whole_images
from maskrcnn_jax.data.records import Dataset, Record
from maskrcnn_jax.data.threads import each_in_threads
from maskrcnn_jax.data.tools.anchor_recall import best_iou
from maskrcnn_jax.data.tools.bucket_choice import choices, padding, suggested
from maskrcnn_jax.images.sizes import bucket_of_size, resize_boxes, resized_size

if TYPE_CHECKING:
    from maskrcnn_jax.config import Config

LEVELS = ("p2", "p3", "p4", "p5")  # from which boxes are pooled
# COCO's limits of small and medium objects, square pixels of the original image.
_SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, np.inf)}
_THRESHOLDS = (0.5, 0.7)
COUNT = "objects per image"  # the histogram of whole numbers
_BINS = {
    COUNT: (0, 1, 2, 3, 6, 11, 21, 51, 101, np.inf),
    "side of the box, input pixels": (0, 8, 16, 32, 64, 128, 256, 512, 1024, np.inf),
    "height / width": (0, 1 / 4, 1 / 2, 2 / 3, 1, 3 / 2, 2, 4, np.inf),
    "best IoU with an anchor": tuple(np.round(np.arange(0, 1.01, 0.1), 1)),
}


class Objects(NamedTuple):
    """The n objects that samples show, crowd regions aside.

    boxes: [n, 4] float32, xyxy, pixels of the network's input.
    areas: [n] float32, square pixels of the original image, as annotated.
    buckets: [n] int64, in which bucket each lies.
    """

    boxes: np.ndarray
    areas: np.ndarray
    buckets: np.ndarray


def statistics(
    dataset: Dataset, config: "Config", is_training: bool = True, most_images: int = 200
) -> dict[str, object]:
    """Returns what a dataset is like, as JSON has it.

    Args:
        dataset: with at least one image.
        config: the whole configuration; `data`, `model.anchors` and the level rule of `model.roi`
            are used.
        is_training: whether images are cut into tiles where that is configured.
        most_images: from which mean and deviation of pixels are taken, evenly spread; 0: all.

    Returns:
        dataset, images, samples, classes (name, objects and images of each), objects (counts),
        levels (by the pyramid level that a box is pooled from: objects, percentiles of the box's
        side, the root of its area, and of its height / width), anchor_recall (by level and by
        COCO's three sizes: mean best IoU, fraction of objects at or above thresholds), pixels (mean
        and std of each channel, on the scale of `model.pixel`), buckets (configured, suggested,
        choices) and histograms.

    Raises:
        ValueError: the configuration does not fit.
    """
    data, records = config.data, dataset.records
    samples = training_samples(records, data.augment) if is_training else whole_images(records)
    objects = shown_objects(samples, data)
    level = levels(objects.boxes, config.model.roi.canonical_level, config.model.roi.canonical_size)
    sides = objects.boxes[:, 2:] - objects.boxes[:, :2]
    side, ratio = np.sqrt(sides.prod(1)), sides[:, 1] / sides[:, 0]
    best = np.zeros(len(level), np.float32)
    for index, bucket in enumerate(data.buckets):
        inside = objects.buckets == index
        best[inside] = best_iou(objects.boxes[inside], bucket, config.model.anchors)
    counts = [int((~record.crowd).sum()) for record in records]
    sizes = Counter(sample.size for sample in samples)
    found = choices(sizes, data)
    return {
        "dataset": dataset.name,
        "images": len(records),
        "samples": len(samples),
        "classes": class_counts(dataset),
        "objects": _object_counts(records, counts, data.max_instances),
        "levels": {
            name: _level(side[level == i], ratio[level == i], len(level))
            for i, name in enumerate(LEVELS)
        },
        "anchor_recall": _recall(best, level, objects.areas),
        "pixels": pixel_statistics(dataset, most_images),
        "buckets": {
            "configured": padding(sizes, data),
            "suggested": suggested(found),
            "choices": found,
        },
        "histograms": {
            name: histogram(values, _BINS[name])
            for name, values in zip(_BINS, (counts, side, ratio, best), strict=True)
        },
    }


def shown_objects(samples: Sequence[Sample], data: DataConfig) -> Objects:
    """Returns the boxes of samples at the network's input.

    Args:
        samples: images, or windows of them: there, what is cut to less than
            `data.augment.min_visible` of its box is left out.
        data: the configuration's `data` section.
    """
    places = {
        size: (resized_size(*size, data), bucket_of_size(*size, data))
        for size in {sample.size for sample in samples}
    }
    boxes, areas, buckets = [np.zeros((0, 4), np.float32)], [], []
    for sample in samples:
        record, (x1, y1, x2, y2) = sample
        single = record.boxes[~record.crowd]
        seen = np.clip(single, (x1, y1, x1, y1), (x2, y2, x2, y2))
        share = (seen[:, 2:] - seen[:, :2]).prod(1) / (single[:, 2:] - single[:, :2]).prod(1)
        kept = (share > 0) & (share >= data.augment.min_visible)
        size, bucket = places[sample.size]
        seen = seen[kept] - np.array([x1, y1] * 2, np.float32)
        boxes.append(resize_boxes(seen, sample.size, size))
        areas.append(record.areas[~record.crowd][kept])
        buckets.append(np.full(kept.sum(), bucket))
    return Objects(
        np.concatenate(boxes).astype(np.float32), np.concatenate(areas), np.concatenate(buckets)
    )


def levels(boxes: np.ndarray, canonical_level: float, canonical_size: float) -> np.ndarray:
    """Returns the pyramid level that each box is pooled from, [n] int64, 0 for P2 to 3 for P5.

    The rule of `ops.roi_align.assign_levels`, by numpy.
    """
    size = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(1))
    level = np.floor(canonical_level + np.log2(size / np.float32(canonical_size)) + 1e-6) - 2
    return np.clip(level, 0, len(LEVELS) - 1).astype(np.int64)


def class_counts(dataset: Dataset) -> list[dict[str, object]]:
    """Returns name, objects (crowd regions aside) and images of each class, in their order."""
    objects: Counter[int] = Counter()
    images: Counter[int] = Counter()
    for record in dataset.records:
        classes = record.classes[~record.crowd].tolist()
        objects.update(classes)
        images.update(set(classes))
    return [
        {"name": name, "objects": objects[number], "images": images[number]}
        for number, name in enumerate(dataset.class_names, 1)
    ]


def _object_counts(
    records: Sequence[Record], counts: Sequence[int], max_instances: int
) -> dict[str, object]:
    """Returns how many objects there are, in all and in an image."""
    above = [len(r.boxes) - max_instances for r in records if len(r.boxes) > max_instances]
    return {
        "all": sum(counts),
        "crowd": sum(int(record.crowd.sum()) for record in records),
        "images_without": counts.count(0),
        "per_image": {
            "mean": float(np.mean(counts)),
            "max": max(counts),
            **(_percentiles(counts) or {}),
        },
        "cut_by_max_instances": {"images": len(above), "objects": sum(above)},
    }


def _level(side: np.ndarray, ratio: np.ndarray, total: int) -> dict[str, object]:
    return {
        "objects": len(side),
        "share": len(side) / max(total, 1),
        "side": _percentiles(side),
        "aspect_ratio": _percentiles(ratio),
    }


def _percentiles(values: Sequence[float] | np.ndarray) -> dict[str, float] | None:
    """Returns the 5th, 50th and 95th percentile; None of nothing."""
    if not len(values):
        return None
    return {f"p{p}": float(np.percentile(values, p)) for p in (5, 50, 95)}


def _recall(best: np.ndarray, level: np.ndarray, areas: np.ndarray) -> dict[str, object]:
    """Returns how many objects have how good an anchor, by level and by size."""
    groups = {"all": np.ones(len(best), bool)}
    groups |= {name: level == i for i, name in enumerate(LEVELS)}
    groups |= {name: (areas >= low) & (areas < high) for name, (low, high) in _SIZES.items()}
    return {
        name: {"objects": int(chosen.sum())}
        | ({"mean_iou": float(best[chosen].mean())} if chosen.any() else {})
        | {str(t): float((best[chosen] >= t).mean()) for t in _THRESHOLDS if chosen.any()}
        for name, chosen in groups.items()
    }


def pixel_statistics(dataset: Dataset, most_images: int) -> dict[str, object]:
    """Returns mean and standard deviation of each channel over the pixels of images.

    Args:
        dataset: the images, as they are stored; those that cannot be read are left out.
        most_images: of how many, evenly spread; 0: all.

    Returns:
        images; mean and std, on the scale of the values, 0 to 255 or 65535; and bits, 8 or 16.
    """
    records = dataset.records
    last, count = len(records) - 1, min(most_images or len(records), len(records))
    chosen = np.unique(np.linspace(0, last, count).round().astype(int))

    def sums(index: int) -> tuple[np.ndarray, int] | None:
        try:
            image = dataset.read_image(records[index])
        except (ValueError, OSError):
            return None
        bits = 8 * image.itemsize
        values = np.arange(2**bits, dtype=np.float64)
        pixels = image.reshape(-1, image.shape[2])
        histograms = [np.bincount(channel, minlength=2**bits) for channel in pixels.T]
        found = [(h.sum(), h @ values, h @ values**2) for h in histograms]
        return np.transpose(found), bits

    read = [s for s in each_in_threads(sums, chosen.tolist(), "images read") if s is not None]
    if not read:
        return {"images": 0}
    pixels, total, squares = np.sum([found for found, _ in read], 0)
    mean = total / pixels
    std = np.sqrt(np.maximum(squares / pixels - mean**2, 0))
    bits = read[0][1]
    return {"images": len(read), "mean": mean.tolist(), "std": std.tolist(), "bits": bits}


def histogram(values: Sequence[float], edges: Sequence[float]) -> dict[str, list]:
    """Returns edges (null: without end) and how many values lie from each to below the next.

    The last bin has its upper edge too.
    """
    counts, _ = np.histogram(values, np.array(edges, np.float64))
    ends = [None if np.isinf(edge) else float(edge) for edge in edges]
    return {"edges": ends, "counts": counts.tolist()}
