"""Several datasets as one, their classes merged by name; or one with other classes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from maskrcnn_jax.class_names import NO_CLASS
from maskrcnn_jax.data.masks.instances import class_numbers
from maskrcnn_jax.data.records import Dataset, Record
from maskrcnn_jax.images.pixels import RGB8, PixelFormat


def union(
    parts: Mapping[str, Dataset],
    class_names: Sequence[str] = (),
    rename: Mapping[str, str] | None = None,
) -> Dataset:
    """Returns the images of several datasets, one part after the other.

    An image's id becomes `<part>/<its id>`; categories and annotations are numbered from 1.

    Args:
        parts: datasets by the names that they get here.
        class_names: the classes to keep, in this order; instances of others are left out, and what
            they show becomes background. By default all, in the order in which the parts have them.
        rename: new names of classes, by their old ones; two that become one are merged.

    Raises:
        ValueError: there is no part, or no part has a class that is renamed.
    """
    if not parts:
        raise ValueError("a union needs at least one part")
    rename = dict(rename or {})
    known = [name for part in parts.values() for name in part.class_names]
    unknown = sorted(rename.keys() - set(known))
    if unknown:
        raise ValueError(f"rename has {unknown}; the parts have the classes {sorted(set(known))}")
    renamed = dict.fromkeys(rename.get(name, name) for name in known)
    numbers = class_numbers(class_names or list(renamed))
    originals: dict[int | str, tuple[Dataset, Record]] = {}
    records, first = [], 1
    for part, dataset in parts.items():
        # The new number of each class, from 1 on; 0: left out.
        names = (rename.get(name, name) for name in dataset.class_names)
        new_numbers = np.array([0, *(numbers.get(name, 0) for name in names)], np.int32)
        for original in dataset.records:
            record = _with_classes(original, new_numbers, f"{part}/{original.image_id}", first)
            first += len(record.classes)
            originals[record.image_id] = dataset, original
            records.append(record)

    def read_image(record: Record, wanted: PixelFormat = RGB8) -> np.ndarray:
        dataset, original = originals[record.image_id]
        return dataset.read_image(original, wanted=wanted)

    return Dataset(
        name="+".join(dataset.name for dataset in parts.values()),
        class_names=tuple(numbers),
        category_ids=tuple(range(1, len(numbers) + 1)),
        records=records,
        read_image=read_image,
        faults=[
            replace(fault, image_id=None if fault.image_id is None else f"{part}/{fault.image_id}")
            for part, dataset in parts.items()
            for fault in dataset.faults
        ],
    )


def _with_classes(record: Record, new_numbers: np.ndarray, image_id: str, first: int) -> Record:
    """Returns the record with the instances whose class stays, numbered from `first` on."""
    classes = new_numbers[record.classes]
    kept = np.flatnonzero((classes > 0) | (record.classes == NO_CLASS))
    return replace(
        record.take(kept),
        image_id=image_id,
        classes=classes[kept],
        annotation_ids=np.arange(first, first + len(kept), dtype=np.int64),
    )
