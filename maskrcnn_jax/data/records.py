"""What every reader hands over: images with their instances, and the faults found on the way."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from maskrcnn_jax.data.masks.segmentation import Segmentation
from maskrcnn_jax.images.pixels import RGB8, PixelFormat
from maskrcnn_jax.images.read import MAX_PIXELS, read_image


@dataclass(frozen=True, slots=True)
class Record:
    """One image and its n instances, in pixels of the image as it is stored.

    Attributes:
        image_id: the dataset's own name for the image.
        path: the image file; empty where the image is generated instead of read.
        height: of the image, in pixels, after its EXIF orientation where that is applied.
        width: likewise.
        boxes: [n, 4] float32, xyxy, clipped to the image.
        classes: [n] int32, 1..K.
        crowd: [n] bool; a crowd region is neither positive nor negative in training.
        segmentations: n of them.
        annotation_ids: [n] int64, the dataset's own.
        areas: [n] float32, square pixels, by which evaluation sorts small from large.
    """

    image_id: int | str
    path: str
    height: int
    width: int
    boxes: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray
    segmentations: list[Segmentation]
    annotation_ids: np.ndarray
    areas: np.ndarray


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong in a dataset.

    Attributes:
        where: the file, and the annotation in it where there is one.
        reason: what was found and what was expected.
        severity: "error": the image or annotation cannot be used; "warning": it can.
        image_id: of the image that cannot be used, for faults of a whole image.
    """

    where: str
    reason: str
    severity: str = "error"
    image_id: int | str | None = None

    def __str__(self) -> str:
        return f"{self.severity}: {self.where}: {self.reason}"


@dataclass
class Dataset:
    """The records of one split and how to get their images.

    Attributes:
        name: for logs and reports.
        class_names: K names; class c of a record is `class_names[c - 1]`.
        category_ids: K ids written in results, in the same order.
        records: one an image.
        read_image: gives a record's image, [height, width, 3] uint8 RGB, or with `wanted=` as that
            PixelFormat says; raises ValueError or OSError naming the file where that fails.
        faults: what the reader found and left out, or used with a warning.
    """

    name: str
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    records: list[Record]
    read_image: Callable[..., np.ndarray]
    faults: list[Fault] = field(default_factory=list)


def make_record(
    image_id: int | str, path: str, height: int, width: int, instances: list[tuple]
) -> Record:
    """Returns the record of an image whose instances are given one by one.

    Args:
        image_id: the dataset's own name for the image.
        path: the image file, or empty.
        height: in pixels.
        width: in pixels.
        instances: (box xyxy, class 1..K, crowd, segmentation, annotation id, area) of each.
    """
    columns = zip(*instances, strict=True) if instances else [()] * 6
    boxes, classes, crowd, segmentations, ids, areas = columns
    return Record(
        image_id=image_id,
        path=path,
        height=height,
        width=width,
        boxes=np.asarray(boxes, np.float32).reshape(-1, 4),
        classes=np.asarray(classes, np.int32),
        crowd=np.asarray(crowd, bool),
        segmentations=list(segmentations),
        annotation_ids=np.asarray(ids, np.int64),
        areas=np.asarray(areas, np.float32),
    )


def make_dataset(
    name: Sequence[str | Path],
    class_names: Sequence[str],
    records: Iterable[Record],
    faults: list[Fault],
    on_error: str,
    max_pixels: int = MAX_PIXELS,
) -> Dataset:
    """Returns a dataset of image files, of a format without numbers for categories and annotations.

    Categories are numbered from 1 in the order of their names, annotations from 1 over all records.

    Args:
        name: for logs and reports: the dataset's folder, and what tells splits apart, if anything.
        class_names: K names.
        records: their annotation ids are overwritten.
        faults: what the reader found.
        on_error: "skip", or "raise" to accept no fault.
        max_pixels: an image of more pixels is refused before it is decoded.

    Raises:
        ValueError: with on_error="raise", there are faults of severity "error".
    """
    raise_errors(faults, on_error)
    records, first = list(records), 1
    for record in records:
        record.annotation_ids[:] = np.arange(first, first + len(record.classes))
        first += len(record.classes)
    folder, *splits = name
    return Dataset(
        name="-".join([Path(folder).resolve().name, *filter(None, splits)]),
        class_names=tuple(class_names),
        category_ids=tuple(range(1, len(class_names) + 1)),
        records=records,
        read_image=partial(read_image_file, max_pixels=max_pixels),
        faults=faults,
    )


def read_image_file(
    record: Record, max_pixels: int = MAX_PIXELS, wanted: PixelFormat = RGB8
) -> np.ndarray:
    """Returns the pixels of a record's image file.

    Args:
        record: its height and width say which way up the image is wanted (see `read_image`).
        max_pixels: an image of more pixels is refused before it is decoded.
        wanted: channels and depth.

    Raises:
        ValueError, OSError: as `read_image`.
    """
    return read_image(record.path, max_pixels, (record.height, record.width), wanted=wanted)


def raise_errors(faults: list[Fault], on_error: str) -> None:
    """Raises ValueError naming the faults of severity "error" if `on_error` is "raise".

    Args:
        faults: those found.
        on_error: "skip": nothing happens, what is faulty has been left out; or "raise".
    """
    if on_error not in ("skip", "raise"):
        raise ValueError(f"on_error is {on_error!r}; expected 'skip' or 'raise'")
    errors = [fault for fault in faults if fault.severity == "error"]
    if errors and on_error == "raise":
        shown = "\n".join(f"  {fault.where}: {fault.reason}" for fault in errors[:20])
        more = f"\n  and {len(errors) - 20} more" if len(errors) > 20 else ""
        raise ValueError(
            f"{len(errors)} faults in the dataset (data.on_error='skip' leaves them out):\n"
            f"{shown}{more}"
        )
