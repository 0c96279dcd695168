"""The look at a dataset before the first step, so that its faults are known before they cost.

Readers find what annotations alone can tell. Here every image file's header is read too, and
records are checked whichever reader made them.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from maskrcnn_jax.class_names import NO_CLASS
from maskrcnn_jax.console import amount, printable
from maskrcnn_jax.data.config import DataConfig
from maskrcnn_jax.data.faults import Fault, counts_by_severity, fault_of, raise_errors
from maskrcnn_jax.data.masks.segmentation import box_of
from maskrcnn_jax.data.records import Dataset, Record
from maskrcnn_jax.data.threads import each_in_threads
from maskrcnn_jax.faults import FaultError, FaultKind
from maskrcnn_jax.files import write_atomically
from maskrcnn_jax.images.pixels import RGB8, PixelFormat, pixel_format
from maskrcnn_jax.images.read import MAX_PIXELS, image_size
from maskrcnn_jax.images.value_range import deep_range, is_dark, levels_left

_MOST_SHOWN = 20  # faults in the report
_LOUD_LOSS = 0.2  # fraction of the objects that may be lost before a line says so
MAX_INSTANCES = 100_000  # of one image: each costs time and memory in every epoch
_LOOKED_AT = 10  # images whose range of values is read, evenly spread
_MIN_AGREEMENT = 0.5  # IoU of an annotated box with the one tight around its mask


def checked(
    dataset: Dataset,
    config_data: DataConfig,
    listing: Path | None = None,
    log: Callable[[str], None] = print,
) -> Dataset:
    """Returns the dataset without the images that cannot be used, after reporting all faults.

    Args:
        dataset: what a reader gave.
        config_data: `config.data`, of which `on_error`, `max_pixels`, `channels` and `depth` are
            used.
        listing: a file for the whole list of faults, where they are more than the report shows.
        log: takes the report, a few lines of text.

    Raises:
        ValueError: there are faults of severity "error" and `on_error` is "raise"; or no image is
            left.
    """
    wanted = pixel_format(config_data)
    faults = check(dataset, max_pixels=config_data.max_pixels, wanted=wanted)
    text = report(dataset, faults)
    if listing and len(faults) > _MOST_SHOWN:
        write_atomically(listing, report(dataset, faults, len(faults)) + "\n")
        text += f"; all are listed in {listing}"
    log(text)
    raise_errors(faults, config_data.on_error)
    dataset = drop_faulty(dataset, faults)
    if not dataset.records:
        first = f"; first {faults[0].where}: {faults[0].reason}" if faults else ""
        raise ValueError(f"dataset {dataset.name} has no usable image{first}")
    return dataset


def check_same_classes(train: Dataset, val: Dataset) -> None:
    """Raises ValueError if two splits have not the same classes in the same order.

    Formats without a list of classes take the names that annotations use, which may differ between
    two folders.

    Args:
        train: the training images.
        val: the validation images.
    """
    if train.class_names == val.class_names:
        return
    raise ValueError(
        f"the training images, {train.name}, have the classes {_shown(train.class_names)}; the "
        f"validation images, {val.name}, have {_shown(val.class_names)}. Both need the same in the "
        "same order: give class_names to both where the format takes it"
    )


def _shown(names: tuple[str, ...]) -> str:
    return ", ".join(names[:20]) + (f", ... ({len(names)})" if len(names) > 20 else "")


def check(
    dataset: Dataset,
    limit: int = 0,
    decode: bool = False,
    max_pixels: int = MAX_PIXELS,
    wanted: PixelFormat = RGB8,
) -> list[Fault]:
    """Returns what the reader found wrong with a dataset and what its records and files show.

    Args:
        dataset: what a reader gave.
        limit: files of at most this many images are looked at, evenly spread; 0: of all.
        decode: also decode each image, which finds truncated files and takes a hundred times as
            long as reading headers.
        max_pixels: an image of more pixels is a fault.
        wanted: channels and depth; an image that cannot give these is a fault.
    """
    records = dataset.records
    faults = [f for r in records for f in _check_instances(r, len(dataset.class_names))]
    if limit and limit < len(records):
        records = [records[round(i)] for i in np.linspace(0, len(records) - 1, limit)]
    check_file = partial(_check_file, dataset, decode=decode, max_pixels=max_pixels, wanted=wanted)
    results = each_in_threads(check_file, records, "images checked")
    faults += [fault for found in results for fault in found]
    faults += _dark_images(dataset, max_pixels, wanted)
    return dataset.faults + faults + _check_whole(dataset)


def drop_faulty(dataset: Dataset, faults: list[Fault]) -> Dataset:
    """Returns the dataset without the images that faults of severity "error" name.

    Args:
        dataset: what was checked.
        faults: what was found.
    """
    bad = {fault.image_id for fault in faults if fault.severity == "error"} - {None}
    kept = [record for record in dataset.records if record.image_id not in bad]
    return replace(dataset, records=kept, faults=faults)


def report(dataset: Dataset, faults: list[Fault], most: int = _MOST_SHOWN) -> str:
    """Returns what the dataset holds in one line, and its faults, errors first, one a line.

    Args:
        dataset: what was checked.
        faults: what was found.
        most: faults to list; the others are only counted.
    """
    counts = [len(record.classes) for record in dataset.records]
    crowd = sum(int(record.crowd.sum()) for record in dataset.records)
    severities = counts_by_severity(faults)
    lines = [
        f"{printable(dataset.name)}: {amount(len(counts), 'image')} ({counts.count(0)} without "
        f"objects, at most {max(counts, default=0)} in one), {amount(sum(counts), 'instance')} "
        f"({crowd} crowd) of {len(dataset.class_names)} class"
        f"{'es' * (len(dataset.class_names) != 1)}; {amount(severities['error'], 'error')}, "
        f"{amount(severities['warning'], 'warning')}"
    ]
    lines += _loss(dataset, faults)
    ordered = sorted(faults, key=lambda fault: fault.severity != "error")
    lines += [f"  {printable(fault)}" for fault in ordered[:most]]
    if len(faults) > most:
        lines.append(f"  and {len(faults) - most} more")
    return "\n".join(lines)


def check_objects(dataset: Dataset) -> None:
    """Raises ValueError if a dataset to train on shows no object, so that nothing can be learned.

    Args:
        dataset: the training images, after `checked`.
    """
    if _objects(dataset.records):
        return
    crowd = sum(len(record.classes) for record in dataset.records)
    first = next((f for f in dataset.faults if f.objects or f.severity == "error"), None)
    raise ValueError(
        f"dataset {dataset.name} has {len(dataset.records)} images, {crowd} crowd regions and no "
        "object: nothing can be learned from it"
        + (f"; first {first.where}: {first.reason}" if first else "; check the annotations")
    )


def _objects(records: Iterable[Record]) -> int:
    return sum(int((~record.crowd).sum()) for record in records)


def _loss(dataset: Dataset, faults: list[Fault]) -> list[str]:
    """Returns a line where more than a fifth of the objects cannot be learned, or none can."""
    bad = {fault.image_id for fault in faults if fault.severity == "error"} - {None}
    usable = _objects(record for record in dataset.records if record.image_id not in bad)
    lost = _objects(record for record in dataset.records if record.image_id in bad)
    lost += sum(fault.objects for fault in faults)
    if lost <= _LOUD_LOSS * (usable + lost):
        return []
    return [
        f"  WARNING: {lost} of {usable + lost} objects ({lost / (usable + lost):.0%}) cannot be "
        "learned, for the reasons below: repair them, or accept a worse model"
    ]


def _check_file(
    dataset: Dataset, record: Record, decode: bool, max_pixels: int, wanted: PixelFormat
) -> list[Fault]:
    """Checks that the image is there, readable, as wanted, and of the size its annotations say."""
    expected = (record.height, record.width)
    try:
        if not record.path:  # generated, or part of an annotation file that the reader has read
            # The first of these tells whether they are as wanted.
            if decode or (wanted != RGB8 and record is dataset.records[0]):
                dataset.read_image(record)
            return []
        size = image_size(record.path, max_pixels, expected, wanted=wanted)
        if size != expected:
            raise FaultError(
                FaultKind.IMAGE_SIZE,
                f"the image is {size[0]} x {size[1]} (height x width); its annotations are for "
                f"{expected[0]} x {expected[1]}",
            )
        if decode:
            dataset.read_image(record)
    except (ValueError, OSError) as error:
        where = record.path or f"image {record.image_id}"
        return [fault_of(error, where, image_id=record.image_id)]
    return []


def _dark_images(dataset: Dataset, max_pixels: int, wanted: PixelFormat) -> list[Fault]:
    """Returns a warning where files of 16 bits are read as 8, of which few levels are left."""
    paths = [record.path for record in dataset.records if record.path]
    places = np.unique(np.linspace(0, max(len(paths) - 1, 0), _LOOKED_AT).round().astype(int))
    looked_at = [paths[place] for place in places] if paths else []
    ranges = each_in_threads(
        lambda path: deep_range(path, max_pixels, wanted), looked_at, "ranges of values read"
    )
    found = [limits for limits in ranges if limits is not None]
    low, high = min((pair[0] for pair in found), default=0), max((p[1] for p in found), default=0)
    if not found or not is_dark(high):
        return []
    reason = (
        "images of 16 bits are read as 8, by their high byte; those looked at have "
        f"{levels_left(low, high)}: set config.data.depth=16, with config.model.pixel.mean and std "
        "as `stats` "
        "measures them, or config.data.normalize=percentile, or scale the files"
    )
    return [Fault(dataset.name, reason, FaultKind.VALUE_RANGE, "warning", count=len(found))]


def _check_instances(record: Record, num_classes: int) -> list[Fault]:
    """Checks a record's arrays, and its boxes against its masks."""
    where = record.path or f"image {record.image_id}"
    boxes, count = record.boxes, len(record.segmentations)
    lengths = [len(column) for column in (boxes, record.classes, record.crowd, record.areas)]
    if boxes.shape[1:] != (4,) or lengths != [count] * 4 or len(record.annotation_ids) != count:
        reason = f"{count} masks, but boxes {boxes.shape}, and columns of {lengths}"
        return [Fault(where, reason, FaultKind.ENTRY, image_id=record.image_id)]
    if count > MAX_INSTANCES:
        reason = (
            f"it has {count:,} objects, more than the {MAX_INSTANCES:,} that an image may have: "
            "cut it into parts"
        )
        return [Fault(where, reason, FaultKind.ENTRY, image_id=record.image_id, objects=count)]
    border = np.array([record.width, record.height] * 2)
    inside = np.all((boxes >= 0) & (boxes <= border), 1)  # false for NaN
    usable = inside & np.all(boxes[:, 2:] > boxes[:, :2], 1)
    known = (record.classes >= 1) & (record.classes <= num_classes)
    known |= (record.classes == NO_CLASS) & record.crowd
    if not (usable & known).all():
        first = int(np.argmin(usable & known))
        reason = (
            f"annotation {record.annotation_ids[first]} has box {boxes[first].tolist()} and class "
            f"{record.classes[first]}; expected x1 < x2, y1 < y2 inside {record.height} x "
            f"{record.width}, and a class from 1 to {num_classes}"
        )
        kind = FaultKind.CLASS if usable[first] else FaultKind.BOX
        return [Fault(where, reason, kind, image_id=record.image_id)]
    extents = np.full((count, 4), np.nan)  # of files, which would have to be read
    for index, segmentation in enumerate(record.segmentations):
        found = box_of(segmentation)
        if found is not None:
            extents[index] = np.clip(found, 0, border)
    return [
        Fault(
            f"{where}: annotation {record.annotation_ids[index]}",
            f"its box {boxes[index].tolist()} and its mask, within "
            f"{np.round(extents[index], 1).tolist()}, hardly agree",
            FaultKind.BOX_AND_MASK,
            "warning",
        )
        for index in np.flatnonzero(_iou(boxes, extents) < _MIN_AGREEMENT)
    ]


def _iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Returns the IoU of boxes [n, 4] pair by pair, [n]."""
    overlap = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    shared = np.maximum(overlap, 0).prod(1)
    return shared / ((a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - shared)


def _check_whole(dataset: Dataset) -> list[Fault]:
    """Checks what only shows over all records."""
    present = set().union(*(r.classes[~r.crowd].tolist() for r in dataset.records))
    absent = [name for c, name in enumerate(dataset.class_names, 1) if c not in present]
    if not absent:
        return []
    reason = f"no instance of {len(absent)} of its classes: {', '.join(absent[:10])}"
    return [Fault(dataset.name, reason, FaultKind.CLASS_WITHOUT_OBJECTS, "warning")]
