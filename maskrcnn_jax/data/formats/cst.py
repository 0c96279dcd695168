"""The reader of CST's layout: circles, squares and triangles, each with a mask of its own.

    <folder>/annotation/anno-<split>.csv       image_id, object_id, class, bbox, mask_path
    <folder>/<split>/<id>/<id>.jpg             the image
    <folder>/<split>/<id>/masks/<id>-<n>.jpg   one object each, bright on dark; what mask_path names

The boxes of the CSV file are padded on purpose; those of the records are tight around the masks.
"""

import csv
import os
from pathlib import Path

from maskrcnn_jax.data.faults import Fault, fault_of
from maskrcnn_jax.data.files.annotation_files import read_lines
from maskrcnn_jax.data.files.paths import by_stem, existing, path_in
from maskrcnn_jax.data.masks.instances import class_or_ignored, mask_instance
from maskrcnn_jax.data.read_options import DEFAULTS, ReadOptions
from maskrcnn_jax.data.records import Dataset, OneRead, make_dataset, make_record, read_each
from maskrcnn_jax.faults import FaultError, FaultKind
from maskrcnn_jax.images.read import image_size
from maskrcnn_jax.images.read_masks import read_mask

_CLASSES = {"c": "circle", "s": "square", "t": "triangle"}
_COLUMNS = ("image_id", "object_id", "class", "mask_path")


def read(
    folder: str | Path,
    split: str = "train",
    options: ReadOptions = DEFAULTS,
) -> Dataset:
    """Returns one split of a dataset in CST's layout; its classes are circle, square, triangle.

    The images are those of the folder of the split; one that the CSV file does not mention has no
    objects. Every mask is read once, here.

    Args:
        folder: that has the folder `annotation` and one for each split.
        split: as the folder and the CSV file are named: train, val or test.
        options: `on_error` and `max_pixels` are used.

    Raises:
        ValueError: there is no such split, its CSV file is not in this format, or, with
            on_error="raise", there are faults.
    """
    folder = existing(folder, "folder", is_folder=True)
    source = os.path.join(folder, "annotation", f"anno-{split}.csv")
    source = existing(source, "the file of split's annotations", is_folder=False)
    base = existing(path_in(folder, split), "split", is_folder=True)
    rows = _rows(source)
    names = sorted(entry.name for entry in os.scandir(base) if entry.is_dir())
    faults = [
        Fault(
            f"{source}: image {name}",
            f"there is no folder {name} in {base}",
            FaultKind.MISSING_FILE,
            image_id=name,
        )
        for name in rows.keys() - set(names)
    ]

    def read_one(name: str) -> OneRead:
        return _read_one(base, source, name, rows.get(name, []), options.max_pixels)

    records, found = read_each(read_one, names)
    faults += found
    names = list(_CLASSES.values())
    return make_dataset((folder, split), names, records, faults, options)


def _rows(source: str) -> dict[str, list[dict[str, str]]]:
    """Returns the rows of the CSV file by their image."""
    table = csv.DictReader(read_lines(source))
    missing = [column for column in _COLUMNS if column not in (table.fieldnames or ())]
    if missing:
        raise ValueError(
            f"{source} has the columns {table.fieldnames}; missing: {missing}. Expected "
            f"{', '.join(_COLUMNS)} in its first line"
        )
    rows: dict[str, list] = {}
    try:
        for row in table:
            rows.setdefault(row["image_id"], []).append(row)
    except csv.Error as error:
        raise ValueError(f"{source}: line {table.line_num}: {error}") from error
    return rows


def _read_one(base: str, source: str, name: str, rows: list[dict], max_pixels: int) -> OneRead:
    """Reads one image's size and its masks."""
    folder = os.path.join(base, name)
    image = os.path.join(folder, by_stem(folder).get(name, f"{name}.jpg"))
    try:
        height, width = image_size(image, max_pixels)
    except (ValueError, OSError) as error:
        return None, [fault_of(error, image, image_id=name)]
    numbers = {letter: number for number, letter in enumerate(_CLASSES, 1)}
    instances, faults, is_first = [], [], True
    for row in rows:
        where, warnings = f"{source}: object {row['object_id']}", list[FaultError]()
        try:
            class_, ignored = class_or_ignored(row["class"], numbers, warnings)
            mask = read_mask(path_in(base, row["mask_path"] or ""), max_pixels)
            if is_first:  # of the upright photograph, or as the camera stored it
                is_first, (height, width) = False, image_size(image, max_pixels, mask.shape)
            found = mask_instance(mask, class_, height, width)
            instances.append(found._replace(crowd=ignored))
        except (ValueError, OSError) as error:
            faults.append(fault_of(error, where, objects=1))
        else:
            faults += [fault_of(warning, where, "warning") for warning in warnings]
    return make_record(name, image, height, width, instances), faults
