"""The reader of coco/2017 as tensorflow-datasets prepares it, with masks from COCO's own JSON file.

What tensorflow-datasets stores has images, boxes and the ids of annotations, but no masks
(`tensorflow_datasets/object_detection/coco.py`, version 1.1.0). So an annotation's mask is found in
the JSON file by its id. An image is read from its shard when it is asked for, by its place there:
each process reads the images of its own slots alone.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from maskrcnn_jax.class_names import names_of
from maskrcnn_jax.console import counted
from maskrcnn_jax.data.faults import Fault, fault_of, raise_errors
from maskrcnn_jax.data.files.paths import existing
from maskrcnn_jax.data.formats import coco
from maskrcnn_jax.data.prepared import tfrecords
from maskrcnn_jax.data.prepared.folder import check_folder
from maskrcnn_jax.data.read_options import DEFAULTS, ReadOptions
from maskrcnn_jax.data.records import Dataset, Record
from maskrcnn_jax.faults import FaultError, FaultKind
from maskrcnn_jax.images.pixels import RGB8, PixelFormat
from maskrcnn_jax.images.read import read_image

NAME, VERSION = "coco/2017", "1.1.0"
SPLITS = {"train": "train", "val": "validation"}  # their names in tensorflow-datasets

_MOST_APART = 0.5  # pixels between the two files' boxes; shares in float32 are 1e-4 off


class _Instance(NamedTuple):
    """What both files have of an instance; its box is xyxy in pixels."""

    box: np.ndarray
    class_name: str
    crowd: bool


def read(
    folder: str | Path,
    annotations: str | Path,
    split: str = "train",
    options: ReadOptions = DEFAULTS,
) -> Dataset:
    """Returns a split of coco/2017, with the records that `coco.read` gives, in their order.

    An annotation needs to be in both the prepared dataset and the JSON file, with one box, class
    and crowd flag. Those in one alone, and images likewise, are left out and listed.

    Args:
        folder: the `data_dir` of tensorflow-datasets.
        annotations: instances_train2017.json or instances_val2017.json, as the split.
        split: "train" or "val".
        options: `on_error` and `max_pixels` are used.

    Raises:
        ValueError: the dataset is not prepared in TFRecord files, a shard is cut short, the JSON
            file is not COCO's or of another split, or, with on_error="raise", there are faults.
    """
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; expected one of {sorted(SPLITS)}")
    folder = existing(folder, "folder", is_folder=True)
    source = existing(annotations, "annotations", is_folder=False)
    builder = _open_builder(folder, SPLITS[split])
    # Faults raise below, all at once.
    dataset = coco.read_annotations(source, options=replace(options, on_error="skip"))
    faults = list(dataset.faults)
    records, places = _joined(dataset, builder, SPLITS[split], source, faults)
    raise_errors(faults, options.on_error)

    def read_content(record: Record, wanted: PixelFormat = RGB8) -> np.ndarray:
        place = places[record.image_id]
        where = f"image {record.image_id} in {place.path}"
        content = tfrecords.content_of(tfrecords.read(place), where)
        return read_image(where, options.max_pixels, (record.height, record.width), content, wanted)

    return replace(dataset, records=records, read_image=read_content, faults=faults)


def _open_builder(folder: str, split: str) -> Any:
    """Returns the builder, if it has prepared the split, in TFRecord files."""
    # Here, because it takes a second to import, which other formats would pay too.
    import tensorflow_datasets as tfds

    prepared = os.path.join(folder, NAME, VERSION)
    if not os.path.isfile(os.path.join(prepared, "dataset_info.json")):
        raise ValueError(
            f"{folder} has no {NAME}/{VERSION}/dataset_info.json; give the data_dir in which "
            f"tensorflow-datasets has prepared {NAME}, or prepare it there (a download of 25 GB): "
            f"tfds build {NAME} --data_dir={folder}"
        )
    check_folder(prepared)
    try:
        builder = tfds.builder(f"{NAME}:{VERSION}", data_dir=folder)
        splits, form = builder.info.splits, builder.info.file_format
    except Exception as error:  # JSON and protocol buffers, each with errors of its own
        raise ValueError(
            f"{prepared} cannot be opened: {error}; copy it again, or prepare it again"
        ) from error
    if form is None or form.value != "tfrecord":
        raise ValueError(
            f"{prepared} has files of the format {getattr(form, 'value', form)}; prepare {NAME} in "
            "tfrecord files, which is what tensorflow-datasets does by itself"
        )
    if split not in splits:
        raise ValueError(f"{prepared} has the splits {sorted(splits)}; expected {split!r}")
    return builder


def _joined(
    dataset: Dataset, builder: Any, split: str, source: str, faults: list[Fault]
) -> tuple[list[Record], dict[int | str, tfrecords.Place]]:
    """Returns the records of images that are in both files, and where their images are."""
    labels = builder.info.features["objects"]["label"].names
    given = {record.image_id: record for record in dataset.records}
    joined, places = {}, {}
    total = builder.info.splits[split].num_examples
    for place, example in counted(_examples(builder, split), total, "images found"):
        (image_id,) = tfrecords.values(example, "image/id")
        if image_id not in given:
            reason = f"{source} has no usable image of this id"
            faults.append(Fault(f"{place.path}: image {image_id}", reason, FaultKind.UNKNOWN_IMAGE))
            continue
        record, places[image_id] = given[image_id], place
        stored = _stored(example, record, labels)
        joined[image_id] = _join(record, stored, dataset.class_names, place.path, source, faults)
    if not joined:
        raise ValueError(
            f"none of the {total} images in split {split!r} of {builder.data_dir} is in {source}; "
            "are the annotations those of this split?"
        )
    for image_id in given.keys() - joined.keys():
        reason = f"split {split!r} of {builder.data_dir} has no such image"
        faults.append(Fault(f"{source}: image {image_id}", reason, FaultKind.UNKNOWN_IMAGE))
    return [joined[image_id] for image_id in given if image_id in joined], places


def _examples(builder: Any, split: str) -> Iterator[tuple[tfrecords.Place, Any]]:
    """Yields places and features of all examples of a split; says where a shard lacks some."""
    info = builder.info.splits[split]
    for path, expected in zip(info.filepaths, info.shard_lengths, strict=True):
        found = 0
        for item in tfrecords.examples(path, "image"):
            found += 1
            yield item
        if found != expected:
            raise ValueError(f"{path} has {found} of {expected} images; copy it again")


def _join(
    record: Record,
    stored: dict[int, _Instance],
    class_names: Sequence[str],
    where: str,
    source: str,
    faults: list[Fault],
) -> Record:
    """Returns the record with the instances that are stored too, in the record's order."""
    kept, names = [], names_of(record.classes, class_names)
    for i, annotation_id in enumerate(record.annotation_ids.tolist()):
        ours = _Instance(record.boxes[i], names[i], bool(record.crowd[i]))
        difference = _difference(ours, stored.pop(annotation_id, None), where)
        if difference:
            faults.append(fault_of(difference, f"{source}: annotation {annotation_id}"))
        else:
            kept.append(i)
    for annotation_id in stored:
        reason = f"{source} has no usable annotation of this id in image {record.image_id}"
        faults.append(Fault(f"{where}: annotation {annotation_id}", reason, FaultKind.ENTRY))
    return replace(record.take(kept), path="")


def _stored(example: Any, record: Record, labels: Sequence[str]) -> dict[int, _Instance]:
    """Returns the instances of an example by their annotations' ids."""
    shares = np.array(tfrecords.values(example, "objects/bbox"), np.float64).reshape(-1, 4)
    boxes = (shares * ([record.height, record.width] * 2))[:, [1, 0, 3, 2]]  # from y, x, y, x
    ids, classes, crowd = (
        tfrecords.values(example, f"objects/{name}") for name in ("id", "label", "is_crowd")
    )
    columns = zip(ids, boxes, classes, crowd, strict=True)
    return {i: _Instance(box, labels[c], bool(is_crowd)) for i, box, c, is_crowd in columns}


def _difference(ours: _Instance, theirs: _Instance | None, where: str) -> FaultError | None:
    """Returns why an annotation of the JSON file cannot be that of the prepared dataset, if so."""
    if theirs is None:
        return FaultError(FaultKind.ENTRY, f"{where} has no such annotation of this image")
    if np.abs(theirs.box - ours.box).max() > _MOST_APART:
        boxes = ours.box.tolist(), np.round(theirs.box, 2).tolist()
        return FaultError(FaultKind.BOX, f"its box is {boxes[0]}; {where} has {boxes[1]}")
    if theirs.class_name != ours.class_name:
        reason = f"its class is {ours.class_name!r}; {where} has {theirs.class_name!r}"
        return FaultError(FaultKind.CLASS, reason)
    if theirs.crowd != ours.crowd:
        reason = f"its iscrowd is {int(ours.crowd)}; {where} has {int(theirs.crowd)}"
        return FaultError(FaultKind.CROWD, reason)
    return None
