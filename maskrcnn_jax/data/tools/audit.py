"""The long look at datasets: what costs too much to be looked for before every training.

`check` finds what readers, records and headers of files tell. Here every image is decoded, every
mask filled, outlines that cross themselves are looked for, and images and objects that are there
twice.
"""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from maskrcnn_jax.console import counted
from maskrcnn_jax.data.check import check, check_same_classes
from maskrcnn_jax.data.faults import Fault, counts_by_kind, counts_by_severity, fault_of, grouped
from maskrcnn_jax.data.masks.segmentation import RLE, Polygons, Segmentation, to_rle
from maskrcnn_jax.data.records import Dataset, Record
from maskrcnn_jax.data.threads import each_in_threads
from maskrcnn_jax.faults import FaultError, FaultKind
from maskrcnn_jax.images.pixels import RGB8, PixelFormat

_MOST_PAIRS = 1_000_000  # edges that are compared with others at a time
_MOST_CORNERS = 10_000  # of a polygon that is looked at for crossings, which takes a second then


def audit(
    datasets: Mapping[str, Dataset],
    max_pixels: int,
    decode: bool = True,
    wanted: PixelFormat = RGB8,
) -> dict[str, list[Fault]]:
    """Returns everything that is wrong with the splits of a dataset, alone and beside each other.

    Args:
        datasets: the splits, by their names; training images first.
        max_pixels: an image of more pixels is a fault.
        decode: whether to decode the images, which alone finds truncated files.
        wanted: channels and depth; an image that cannot give these is a fault.

    Returns:
        The faults of each split.
    """
    twins = twin_images(datasets)
    faults = {
        split: check(dataset, decode=decode, max_pixels=max_pixels, wanted=wanted)
        + list(_faults_of_objects(dataset))
        + twins[split]
        for split, dataset in datasets.items()
    }
    if len(datasets) == 2:
        train, val = datasets.values()
        try:
            check_same_classes(train, val)
        except ValueError as error:
            list(faults.values())[1].append(Fault(val.name, str(error), FaultKind.SPLITS_DIFFER))
    return faults


def as_json(dataset: Dataset, faults: list[Fault]) -> dict[str, object]:
    """Returns the faults of a split, and how many there are of each kind, as JSON has them.

    Args:
        dataset: the split.
        faults: what was found.
    """
    severities = counts_by_severity(faults)
    return {
        "dataset": dataset.name,
        "images": len(dataset.records),
        "instances": sum(len(record.classes) for record in dataset.records),
        "errors": severities["error"],
        "warnings": severities["warning"],
        "kinds": counts_by_kind(faults),
        "faults": [_entry(fault) for fault in faults],
    }


def _entry(fault: Fault) -> dict[str, object]:
    """Returns a fault as JSON has it; `part` is the annotation or image in the file, if known."""
    file, separator, part = fault.where.rpartition(": ")
    if not separator or os.path.exists(fault.where):
        file, part = fault.where, ""
    return {
        "severity": fault.severity,
        "kind": fault.kind.value,
        "file": file,
        "part": part or None,
        "image_id": fault.image_id,
        "reason": fault.reason,
        "count": fault.count,
    }


def _faults_of_objects(dataset: Dataset) -> Iterable[Fault]:
    """Yields a warning for each mask without a pixel, crossed outline and object drawn twice."""
    records = counted(dataset.records, len(dataset.records), "images' masks checked")
    for record in records:
        where = record.path or f"image {record.image_id}"
        if len(record.segmentations) != len(record.annotation_ids):
            continue  # `check` tells of it
        for i, segmentation in enumerate(record.segmentations):
            for error in _oddities(segmentation, record):
                yield fault_of(error, f"{where}: annotation {record.annotation_ids[i]}", "warning")
        yield from grouped(
            Fault(
                f"{where}: annotation {record.annotation_ids[i]}",
                f"it has class, box and mask of annotation {record.annotation_ids[first]}",
                FaultKind.TWICE,
                "warning",
            )
            for i, first in _twin_objects(record)
        )


def _oddities(segmentation: Segmentation, record: Record) -> Iterable[Exception]:
    """Yields what is wrong with a mask."""
    try:
        filled = to_rle(segmentation, record.height, record.width)
    except (ValueError, OSError) as error:
        yield error
        return
    if not coco_mask.area(filled):
        reason = "its mask covers no pixel of the image; a mask without any is learned"
        yield FaultError(FaultKind.EMPTY_MASK, reason)
    if not isinstance(segmentation, Polygons):
        return
    for part in segmentation.parts:
        if _is_line(part):
            reason = f"a polygon of {len(part)} corners lies on one line; it has no area"
            yield FaultError(FaultKind.OUTLINE, reason)
        point = crossing(part)
        if point is not None:
            reason = (
                f"its outline crosses itself near ({point[0]:.1f}, {point[1]:.1f}); what it goes "
                "around twice counts as outside"
            )
            yield FaultError(FaultKind.CROSSING, reason)


def crossing(corners: np.ndarray) -> np.ndarray | None:
    """Returns a point in which a polygon's outline crosses itself, or None.

    Polygons of more than 10,000 corners are not looked at: it takes the square of their number.
    Edges that only touch do not cross, and neither do edges on top of each other: outlines drawn
    with a bridge to a hole have such.

    Args:
        corners: [k, 2] float64, (x, y).

    Returns:
        [2] float64 (x, y), on the first edge that crosses another.
    """
    starts, steps = corners, np.roll(corners, -1, 0) - corners
    rows = max(1, _MOST_PAIRS // max(1, len(corners)))
    for first in range(0, len(corners) if len(corners) <= _MOST_CORNERS else 0, rows):
        a, step = starts[first : first + rows, None], steps[first : first + rows, None]
        # On which side of the other edge's line the ends of each edge lie.
        side_start = _cross(step, starts - a)
        side_end = np.roll(side_start, -1, 1)
        other_start = _cross(steps, a - starts)
        other_end = _cross(steps, a + step - starts)
        crosses = (side_start * side_end < 0) & (other_start * other_end < 0)
        if crosses.any():
            i, j = np.unravel_index(np.argmax(crosses), crosses.shape)
            share = other_start[i, j] / (other_start[i, j] - other_end[i, j])
            return a[i, 0] + share * step[i, 0]
    return None


def _is_line(corners: np.ndarray) -> bool:
    """Returns whether all corners [k, 2] lie on one line."""
    steps = corners - corners[0]
    lengths = np.hypot(*steps.T)
    away = _cross(steps[np.argmax(lengths)], steps)
    return bool(np.all(np.abs(away) <= 1e-9 * lengths.max() ** 2))


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]


def _twin_objects(record: Record) -> list[tuple[int, int]]:
    """Returns (object, earlier object) of one class, box and mask."""
    earlier: dict[tuple, int] = {}
    twins = []
    for i, segmentation in enumerate(record.segmentations):
        key = (record.classes[i], record.boxes[i].tobytes(), _content(segmentation))
        if key in earlier:
            twins.append((i, earlier[key]))
        earlier.setdefault(key, i)
    return twins


def _content(segmentation: Segmentation) -> object:
    if isinstance(segmentation, Polygons):
        return tuple(part.tobytes() for part in segmentation.parts)
    return segmentation.counts if isinstance(segmentation, RLE) else segmentation.path


def twin_images(datasets: Mapping[str, Dataset]) -> dict[str, list[Fault]]:
    """Returns a warning for each image whose file has the same bytes as an earlier one.

    Only files of equal size are read. The same image in two splits makes validation look better
    than it is.

    Args:
        datasets: the splits, by their names; later ones are compared with earlier ones too.
    """
    by_size = defaultdict(list)
    for split, dataset in datasets.items():
        for record in dataset.records:
            if record.path and os.path.isfile(record.path):
                by_size[os.path.getsize(record.path)].append((split, record))
    candidates = [image for images in by_size.values() if len(images) > 1 for image in images]
    digests = each_in_threads(
        lambda image: _digest(image[1].path), candidates, "images of equal size compared"
    )
    faults: dict[str, list[Fault]] = {split: [] for split in datasets}
    earlier: dict[str, tuple[str, Record]] = {}
    order = {split: number for number, split in enumerate(datasets)}
    pairs = sorted(zip(candidates, digests, strict=True), key=lambda pair: order[pair[0][0]])
    for (split, record), digest in pairs:
        if digest is None:
            continue  # `check` tells of it
        if digest not in earlier:
            earlier[digest] = split, record
            continue
        other_split, other = earlier[digest]
        within = "" if other_split == split else f" of {other_split}"
        file = "is the same file" if other.path == record.path else "has the same bytes"
        reason = f"it {file} as image {other.image_id}{within} ({other.path})"
        where = f"{record.path}: image {record.image_id}"
        faults[split].append(Fault(where, reason, FaultKind.TWICE, "warning"))
    return faults


def _digest(path: str) -> str | None:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return None
