"""The reader of labelme's older export, `labelme_json_to_dataset`: a folder for each image.

    <any folders>/<image>_json/img.png           the image; any suffix of an image will do
    <any folders>/<image>_json/label.png         a number in each pixel; 0 is background
    <any folders>/<image>_json/info.yaml         label_names: what each number stands for, from 0 on
    <any folders>/<image>_json/label_names.txt   the same, one a line; read where there is no YAML

Every number is one instance. Since the export gives shapes of one label one number, people name
them person1, person2, ...: the class is the label without the digits at its end.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from maskrcnn_jax.data.faults import Fault, fault_of
from maskrcnn_jax.data.files.annotation_files import read_lines, read_yaml
from maskrcnn_jax.data.files.paths import PICTURES, by_stem, existing, files_in, stem
from maskrcnn_jax.data.masks.instances import (
    check_mask_size,
    class_numbers,
    class_or_ignored,
    mask_instance,
)
from maskrcnn_jax.data.read_options import DEFAULTS, ReadOptions
from maskrcnn_jax.data.records import Dataset, OneRead, make_dataset, make_record, read_each
from maskrcnn_jax.faults import FaultError, FaultKind
from maskrcnn_jax.images.read import image_size
from maskrcnn_jax.images.read_masks import read_ids

_IGNORED = "__ignore__"


def read(
    folder: str | Path,
    class_names: Sequence[str] = (),
    options: ReadOptions = DEFAULTS,
) -> Dataset:
    """Returns a dataset of the folders that labelme's older export makes.

    Every mask is read once, here; boxes are tight around them.

    Args:
        folder: under which the folders of images lie.
        class_names: in the order wanted; a label that is one of them is that class, digits and
            all. By default the labels found, without digits at their ends, in alphabetical order.
        options: see `ReadOptions`.

    Raises:
        ValueError: there is no such folder, it has no image or no label, or, with
            on_error="raise", there are faults.
    """
    folder = existing(folder, "folder", is_folder=True)
    masks = [name for name in files_in(folder, *PICTURES) if stem(Path(name).name) == "label"]
    names = list(dict.fromkeys(os.path.dirname(name) or "." for name in masks))
    if not names:
        raise ValueError(f"{folder} has no image in this format; expected <image>_json/label.png")
    wanted = options.chosen(names)
    labels: dict[str, list[str]] = {}
    faults: list[Fault] = []
    for name in names:
        try:
            labels[name] = _labels(os.path.join(folder, name))
        except (ValueError, OSError) as error:
            if name in wanted:
                faults.append(fault_of(error, f"{folder}/{name}", image_id=name))
    if not labels:
        raise ValueError(f"{folder} has no usable image; {faults[0].where}: {faults[0].reason}")
    stems = (_stem(label) for texts in labels.values() for label in texts[1:] if label != _IGNORED)
    numbers = class_numbers(class_names, stems)
    usable = [name for name in wanted if name in labels]

    def read_one(name: str) -> OneRead:
        return _read_one(folder, name, labels[name], numbers, options.max_pixels)

    records, found = read_each(read_one, usable)
    faults += found
    return make_dataset((folder, options.split), list(numbers), records, faults, options)


def _labels(base: str) -> list[str]:
    """Returns the label of each number of an image, from 0, the background, on."""
    path = os.path.join(base, "info.yaml")
    if not os.path.isfile(path):
        return read_lines(os.path.join(base, "label_names.txt"))
    content = read_yaml(path, "labelme's `label_names`")
    labels = content.get("label_names") if isinstance(content, dict) else None
    if isinstance(labels, dict):  # name: number, as the first versions wrote it
        by_number = {number: name for name, number in labels.items() if isinstance(number, str)}
        labels = [by_number.get(str(number)) for number in range(len(labels))]
    if not isinstance(labels, list) or not all(isinstance(x, str) and x for x in labels):
        raise FaultError(
            FaultKind.CLASS, f"{path} has label_names {labels!r:.80}; expected a list of names"
        )
    return labels


def _stem(label: str) -> str:
    """Returns a label without the number at its end, unless nothing is left then."""
    return re.sub(r"[\s_-]*\d+$", "", label) or label


def _read_one(
    folder: str, name: str, labels: list[str], numbers: dict[str, int], max_pixels: int
) -> OneRead:
    """Reads one image's size and masks."""
    base = os.path.join(folder, name)
    there = by_stem(base)
    image, mask_file = (os.path.join(base, there.get(n, f"{n}.png")) for n in ("img", "label"))
    try:
        ids = read_ids(mask_file, max_pixels)
        # The size of the upright photograph, or as the camera stored it.
        height, width = image_size(image, max_pixels, ids.shape)
        check_mask_size(ids, height, width)
    except (ValueError, OSError) as error:
        return None, [fault_of(error, base, image_id=name)]
    instances, faults = [], []
    for number in np.unique(ids).tolist():
        where, label = f"{mask_file}: number {number}", _label_of(number, labels)
        if number == 0 or label == _IGNORED:
            continue
        warnings: list[FaultError] = []
        try:
            known = label if label in numbers else _stem(label)
            class_, ignored = class_or_ignored(known, numbers, warnings)
            found = mask_instance(ids == number, class_, height, width)
            instances.append(found._replace(crowd=ignored))
        except ValueError as error:
            faults.append(fault_of(error, where, objects=1))
        faults += [fault_of(warning, where, "warning") for warning in warnings]
    return make_record(name, image, height, width, instances), faults


def _label_of(number: int, labels: list[str]) -> str:
    """Returns the label of a number; of one that label_names does not reach, no class's name."""
    known = 0 <= number < len(labels)
    return labels[number] if known else f"{number}: label_names has {len(labels)} entries"
