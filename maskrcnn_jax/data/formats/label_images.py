"""The reader of label images: beside each image one with the number of the object in each pixel.

    <any folders>/images/<id>.tif     the image
    <any folders>/masks/<id>.tif      0 is background, every other number one object

So do StarDist, Cellpose and ImageJ write them. The folder of the numbers may also be called labels,
their names may end in _mask, _masks, _cp_masks, _label or _labels, and then they may lie beside the
images. Folders lie as deep as you like.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn_jax.data.faults import Fault, fault_of
from maskrcnn_jax.data.files.annotation_files import read_json
from maskrcnn_jax.data.files.json_values import whole
from maskrcnn_jax.data.files.paths import PICTURES, existing, files_in, path_in, stem
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

_MASK_FOLDERS = ("masks", "mask", "labels", "label")
_MASK_NAME = re.compile(r"(.+?)_(cp_masks|masks|mask|labels|label)")
_SUFFIXES = (*PICTURES, ".npy")
_CELLPOSE = "_seg.npy"  # its own files beside the images: pickles, which are not opened
_FROM_CELLPOSE = (
    f". Cellpose's own files, *{_CELLPOSE}, are not read: save its masks as PNG or TIFF, by its "
    "File menu"
)


def read(
    folder: str | Path,
    class_name: str = "object",
    class_map: str = "",
    class_names: Sequence[str] = (),
    options: ReadOptions = DEFAULTS,
) -> Dataset:
    """Returns a dataset of label images.

    Every label image is read once, here; boxes are tight around the objects. An image's id is its
    path without the folder `images` and the suffix.

    Args:
        folder: under which images and label images lie.
        class_name: what the numbers stand for, without `class_map`.
        class_map: a JSON file, relative to `folder`, with the class of each number: of all images,
            {"1": "cell", ...}, or by the image's id, {"<id>": {"1": "cell", ...}, ...}.
        class_names: with `class_map`: the classes in the order wanted; by default those found, in
            alphabetical order.
        options: see `ReadOptions`.

    Raises:
        ValueError: there is no such folder, it has no image or no label image, the class map is not
            as said, or, with on_error="raise", there are faults.
    """
    folder = existing(folder, "folder", is_folder=True)
    images, masks = _pairs(folder)
    if not images or not masks:
        raise ValueError(
            f"{folder} has {len(images)} images and {len(masks)} label images; expected "
            "images/<id>.tif and masks/<id>.tif in it, or <id>.tif and <id>_masks.tif"
            + (_FROM_CELLPOSE if files_in(folder, _CELLPOSE) else "")
        )
    classes = _ClassMap(folder, class_map, class_name)
    numbers = class_numbers(class_names if class_map else [class_name], classes.names())

    def read_one(name: str) -> OneRead:
        paths = os.path.join(folder, images[name]), masks.get(name)
        return _read_one(folder, name, *paths, classes, numbers, options.max_pixels)

    chosen = options.chosen(images)
    records, faults = read_each(read_one, chosen)
    left = sorted(masks.keys() - images.keys())
    if left and options.split != "val":
        reason = f"{len(left)} label images have no image: {', '.join(left[:5])}"
        faults.append(Fault(folder, reason, FaultKind.MISSING_FILE, "warning", count=len(left)))
    return make_dataset((folder, options.split), list(numbers), records, faults, options)


def fits(folder: str | Path) -> bool:
    """Returns whether a folder, with those in it, looks like one of label images or of Cellpose."""
    images, masks = _pairs(folder)
    return not images.keys().isdisjoint(masks) or bool(files_in(folder, _CELLPOSE))


def _pairs(folder: str | Path) -> tuple[dict[str, str], dict[str, str]]:
    """Returns the files of images, and of label images, by the ids of the images."""
    images: dict[str, str] = {}
    masks: dict[str, str] = {}
    for file in files_in(folder, *_SUFFIXES):
        if file.endswith(_CELLPOSE):
            continue
        *folders, name = file.split("/")
        name = stem(name)
        places = [i for i, part in enumerate(folders) if part.lower() in _MASK_FOLDERS]
        named = _MASK_NAME.fullmatch(name)
        if places:
            del folders[places[-1]]
        elif "images" in folders:
            del folders[len(folders) - 1 - folders[::-1].index("images")]
        is_mask = bool(places) or (named is not None and "images" not in file.split("/")[:-1])
        if is_mask and named is not None:
            name = named[1]
        (masks if is_mask else images)["/".join([*folders, name])] = file
    return images, masks


class _ClassMap:
    """The class of each number of each image."""

    def __init__(self, folder: str, file: str, class_name: str):
        self._class_name = "" if file else class_name
        self._of_all: dict[int, str] = {}
        self._of_image: dict[str, dict[int, str]] = {}
        if not file:
            return
        source = existing(path_in(folder, file), "class_map", is_folder=False)
        content = read_json(source, "a class for each number")
        if not isinstance(content, dict) or not content:
            raise ValueError(f"{source} holds {content!r:.80}; expected {{number: class}}")
        if all(isinstance(value, dict) for value in content.values()):
            self._of_image = {name: _by_number(found, source) for name, found in content.items()}
        else:
            self._of_all = _by_number(content, source)

    def names(self) -> set[str]:
        """Returns all classes of the file."""
        maps = [self._of_all, *self._of_image.values()]
        return {name for found in maps for name in found.values()}

    def class_of(self, image: str, number: int) -> str | None:
        """Returns the class of a number; None where the map has none."""
        found = self._of_image.get(image, self._of_all)
        return self._class_name or found.get(number)


def _by_number(content: dict[str, Any], source: str) -> dict[int, str]:
    found = {whole(key): str(value) for key, value in content.items()}
    if None in found:
        raise ValueError(f"{source} has the keys {list(content)[:5]}; expected whole numbers")
    return {number: name for number, name in found.items() if number is not None}


def _read_one(
    folder: str,
    name: str,
    image: str,
    mask: str | None,
    classes: _ClassMap,
    numbers: dict[str, int],
    max_pixels: int,
) -> OneRead:
    """Reads one image's size and its label image."""
    try:
        if mask is None:
            reason = "it has no label image; make one that is all 0 if there is no object in it"
            raise FaultError(FaultKind.NOT_ANNOTATED, reason)
        ids = read_ids(os.path.join(folder, mask), max_pixels)
        # The size of the upright photograph, or as the camera stored it.
        height, width = image_size(image, max_pixels, ids.shape)
        check_mask_size(ids, height, width)
    except (ValueError, OSError) as error:
        return None, [fault_of(error, image, image_id=name)]
    instances, faults = [], []
    for number in np.unique(ids).tolist():
        if number == 0:
            continue
        warnings: list[FaultError] = []
        class_, ignored = class_or_ignored(classes.class_of(name, number), numbers, warnings)
        found = mask_instance(ids == number, class_, height, width)
        instances.append(found._replace(crowd=ignored))
        where = f"{os.path.join(folder, mask)}: number {number}"
        faults += [fault_of(warning, where, "warning") for warning in warnings]
    return make_record(name, image, height, width, instances), faults
