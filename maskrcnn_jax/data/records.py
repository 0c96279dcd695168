"""What every reader hands over: images with their instances, and the faults found on the way."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maskrcnn_jax.data.faults import Fault, grouped, raise_errors
from maskrcnn_jax.data.federated import Federated
from maskrcnn_jax.data.masks.segmentation import Segmentation
from maskrcnn_jax.data.read_options import ReadOptions
from maskrcnn_jax.data.threads import each_in_threads
from maskrcnn_jax.images.pixels import RGB8, PixelFormat
from maskrcnn_jax.images.read import MAX_PIXELS, read_image
from maskrcnn_jax.keypoint_set import KeypointSet


class Instance(NamedTuple):
    """One object of an image, or a crowd region.

    Attributes:
        box: xyxy, clipped to the image.
        class_number: 1..K; NO_CLASS of a crowd region whose class is not known.
        crowd: whether it is a crowd region, neither positive nor negative in training.
        segmentation: its mask.
        annotation_id: the dataset's own; 0 where `make_dataset` gives the numbers.
        area: square pixels, by which evaluation sorts small from large.
        keypoints: [P, 3], see `data.formats.keypoints`; None: none is known.
    """

    box: Sequence[float] | np.ndarray
    class_number: int
    crowd: bool
    segmentation: Segmentation
    annotation_id: int
    area: float
    keypoints: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One image and its n instances, in pixels of the image as it is stored.

    Attributes:
        image_id: the dataset's own name for the image.
        path: the image file; empty where the image is generated instead of read.
        height: of the image, in pixels, after its EXIF orientation where that is applied.
        width: likewise.
        boxes: [n, 4] float32, xyxy, clipped to the image.
        classes: [n] int32, 1..K; NO_CLASS of crowd regions that may show any class.
        crowd: [n] bool; a crowd region is neither positive nor negative in training.
        segmentations: n of them.
        annotation_ids: [n] int64, the dataset's own.
        areas: [n] float32, square pixels, by which evaluation sorts small from large.
        keypoints: [n, P, 3] float32, see `data.formats.keypoints`; None: of no object is any known.
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
    keypoints: np.ndarray | None = None

    def take(self, indices: Sequence[int] | np.ndarray) -> "Record":
        """Returns the record with some of its instances.

        Args:
            indices: [m] whole numbers, in the order wanted.
        """
        index = np.asarray(indices, np.int64)
        return replace(
            self,
            boxes=self.boxes[index],
            classes=self.classes[index],
            crowd=self.crowd[index],
            segmentations=[self.segmentations[i] for i in index],
            annotation_ids=self.annotation_ids[index],
            areas=self.areas[index],
            keypoints=None if self.keypoints is None else self.keypoints[index],
        )


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
        federated: in which images which classes were looked for, where the files tell, as LVIS's.
        keypoints: what those of the records are; None: none are wanted.
    """

    name: str
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    records: list[Record]
    read_image: Callable[..., np.ndarray]
    faults: list[Fault] = field(default_factory=list)
    federated: Federated | None = None
    keypoints: KeypointSet | None = None


def make_record(
    image_id: int | str, path: str, height: int, width: int, instances: Sequence[Instance]
) -> Record:
    """Returns the record of an image whose instances are given one by one.

    Args:
        image_id: the dataset's own name for the image.
        path: the image file, or empty.
        height: in pixels.
        width: in pixels.
        instances: n of them.
    """
    columns = zip(*instances, strict=True) if instances else [()] * 7
    boxes, classes, crowd, segmentations, ids, areas, keypoints = columns
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
        keypoints=_joined_keypoints(keypoints),
    )


def _joined_keypoints(given: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Returns the keypoints of all instances, of which some may have none."""
    known = [points for points in given if points is not None]
    if not known:
        return None
    nothing = np.zeros_like(known[0])
    return np.stack([nothing if points is None else points for points in given])


def make_dataset(
    name: Sequence[str | Path],
    class_names: Sequence[str],
    records: Iterable[Record],
    faults: list[Fault],
    options: ReadOptions,
) -> Dataset:
    """Returns a dataset of image files, of a format without numbers for categories and annotations.

    Categories are numbered from 1 in the order of their names, annotations from 1 over all records.

    Args:
        name: for logs and reports: the dataset's folder, and what tells splits apart, if anything.
        class_names: K names.
        records: their annotation ids are overwritten.
        faults: what the reader found; those of one file and cause become one line.
        options: `on_error` and `max_pixels` are used.

    Raises:
        ValueError: with on_error="raise", there are faults of severity "error".
    """
    faults = grouped(faults)
    raise_errors(faults, options.on_error)
    records, first = list(records), 1
    for record in records:
        record.annotation_ids[:] = np.arange(first, first + len(record.classes))
        first += len(record.classes)
    folder, *splits = name
    return Dataset(
        name="-".join([Path(folder).resolve().name, *(str(part) for part in splits if part)]),
        class_names=tuple(class_names),
        category_ids=tuple(range(1, len(class_names) + 1)),
        records=records,
        read_image=partial(read_image_file, max_pixels=options.max_pixels),
        faults=faults,
    )


# What a reader gives for one image: its record, unless it cannot be used, and the faults found.
OneRead = tuple[Record | None, list[Fault]]


def read_each(
    read_one: Callable[[str], OneRead], names: Sequence[str]
) -> tuple[list[Record], list[Fault]]:
    """Returns the records and the faults of images that are read one by one, in threads.

    Args:
        read_one: reads the image of a name, and what it shows.
        names: of the images.
    """
    records, faults = [], []
    for record, found in each_in_threads(read_one, names, "images read"):
        faults += found
        if record is not None:
            records.append(record)
    return records, faults


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
