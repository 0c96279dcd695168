"""The reader of YOLO's text files of polygons: `labels/.../<id>.txt` beside `images/.../<id>.jpg`.

Each line is an instance: the number of its class, from 0 on, then x and y of every corner as shares
of the image's width and height. A YAML file has the names of the classes and the folders of images:

    train: images/train
    val: images/val
    names: {0: cat, 1: dog}

Source: https://docs.ultralytics.com/datasets/segment/
"""

import os
import posixpath
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn_jax.class_names import NO_CLASS
from maskrcnn_jax.data.faults import Fault, fault_of
from maskrcnn_jax.data.files.annotation_files import read_lines, read_yaml
from maskrcnn_jax.data.files.paths import PICTURES, existing, files_in, path_in
from maskrcnn_jax.data.masks.instances import class_numbers, instance
from maskrcnn_jax.data.masks.outlines import polygon
from maskrcnn_jax.data.masks.segmentation import Polygons
from maskrcnn_jax.data.read_options import DEFAULTS, ReadOptions
from maskrcnn_jax.data.records import Dataset, OneRead, make_dataset, make_record, read_each
from maskrcnn_jax.faults import FaultError, FaultKind, Ignored
from maskrcnn_jax.images.read import image_size

_ROUNDING = 0.01  # how far outside of 0 to 1 a coordinate may be; it is clipped


def read(
    folder: str | Path,
    names: str = "data.yaml",
    images: str = "",
    class_names: Sequence[str] = (),
    options: ReadOptions = DEFAULTS,
) -> Dataset:
    """Returns a dataset of YOLO's text files of polygons.

    The labels of an image are where its path has `labels` for the last `images`, or else beside
    it. An image without such a file has no objects, which is a warning. Boxes are tight around the
    polygons. An image's id is its path.

    Args:
        folder: to which everything is relative, whatever `path` the YAML file has.
        names: YAML file with `names`, or text file with one name a line.
        images: folder of images; by default what the YAML file has for `split` (folders, or text
            files that list images), or else `images`.
        class_names: instead of those of the file `names`, which is not needed then.
        options: see `ReadOptions`; `split` may also be another one that the YAML file has, and a
            hash divides the images only where it does not have it, or `images` is given.

    Raises:
        ValueError: a path does not exist or leads out of the folder, there are no names, no images
            or no labels at all, or, with on_error="raise", there are faults.
    """
    folder = existing(folder, "folder", is_folder=True)
    is_needed = not class_names or os.path.isfile(os.path.join(folder, names))
    content = _content(folder, names) if is_needed else {}
    numbers = class_numbers(class_names or _class_names(content.get("names"), names))
    listed = [] if images else _listed(content.get(options.split) if options.split else None)
    faults: list[Fault] = []
    files = _files(folder, listed or [images or "images"], faults)
    if not listed:
        files = options.chosen(files)
    labels = {name: path_in(folder, _labels_of(name)) for name in files}
    if not any(map(os.path.isfile, labels.values())):
        name, path = next(iter(labels.items()))
        raise ValueError(f"{folder} has no labels: those of {name}, say, are expected in {path}")

    def read_one(name: str) -> OneRead:
        return _read_one(folder, name, labels[name], len(numbers), options)

    records, found = read_each(read_one, files)
    faults += found
    return make_dataset((folder, options.split), list(numbers), records, faults, options)


def _content(folder: str, names: str) -> dict[str, Any]:
    """Returns what the file of names has; of a text file, its names."""
    path = existing(os.path.join(folder, names), "names", is_folder=False)
    if not names.lower().endswith((".yaml", ".yml")):
        return {"names": read_lines(path)}
    content = read_yaml(path, "the `names` of the classes")
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds {content!r:.80}; expected `names` and folders of images")
    return content


def _class_names(given: Any, source: str) -> list[str]:
    """Returns the names of classes 0, 1, ..., which may be a list or have these as keys."""
    if isinstance(given, dict):
        keys = [str(number) for number in range(len(given))]
        given = [given[key] for key in keys] if set(keys) == given.keys() else None
    if not isinstance(given, list) or not given:
        raise ValueError(
            f"{source} has no usable `names`; expected a list of the classes' names, or all of "
            "them under 0, 1, 2, ..."
        )
    return given


def _listed(given: Any) -> list[str]:
    """Returns the folders or lists of images that the YAML file has for a split."""
    given = [given] if isinstance(given, str) else given
    names = (entry for entry in given or [] if isinstance(entry, str) and entry)
    # Exports of Roboflow have ../train/images in a file beside `train`.
    return [re.sub(r"^(\.\.?/)+", "", name.replace("\\", "/")) for name in names]


def _files(folder: str, sources: list[str], faults: list[Fault]) -> list[str]:
    """Returns the images in folders, or in lists of images, relative to the dataset's folder."""
    found: list[str] = []
    for source in sources:
        path, base = path_in(folder, source), posixpath.dirname(source)
        if source.endswith(".txt"):
            for line in read_lines(existing(path, "the list of images", is_folder=False)):
                try:
                    name = posixpath.join(base, line.replace("\\", "/"))
                    file = os.path.relpath(path_in(folder, posixpath.normpath(name)), folder)
                    found.append(file.replace(os.sep, "/"))
                except ValueError as error:
                    faults.append(fault_of(error, path))
        else:
            inside = files_in(existing(path, "the folder of images", is_folder=True), *PICTURES)
            found += [posixpath.normpath(posixpath.join(source, file)) for file in inside]
    if not found:
        raise ValueError(f"there are no images in {', '.join(sources)} of {folder}")
    return list(dict.fromkeys(found))


def _labels_of(image: str) -> str:
    """Returns the path of an image's labels, relative to the dataset's folder like the image's."""
    parts = image.split("/")
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            break
    return posixpath.splitext("/".join(parts))[0] + ".txt"


def _read_one(
    folder: str, name: str, labels: str, num_classes: int, options: ReadOptions
) -> OneRead:
    """Reads one image's size and its labels."""
    path = os.path.join(folder, name)
    has_labels = os.path.isfile(labels)
    try:
        height, width = image_size(path, options.max_pixels)
        lines = read_lines(labels, keep_empty=True) if has_labels else []
    except (ValueError, OSError) as error:
        return None, [fault_of(error, path, image_id=name)]
    instances, faults = [], []
    if not has_labels:
        reason = f"it has no labels {labels}, and so no objects; make an empty file to say so"
        faults.append(Fault(path, reason, FaultKind.NOT_ANNOTATED, "warning"))
    for number, line in enumerate(lines, 1):
        try:
            if line:
                class_, corners, problem = _object(line, num_classes, options.boxes_as_masks)
                outline = Polygons([polygon(corners * (width, height))])
                crowd = problem is not None
                instances.append(instance(outline, class_, height, width, crowd))
                if problem is not None:
                    faults.append(fault_of(problem, f"{labels}: line {number}", "warning"))
        except ValueError as error:
            faults.append(fault_of(error, f"{labels}: line {number}", objects=1))
    return make_record(name, path, height, width, instances), faults


def _object(
    line: str, num_classes: int, boxes_as_masks: bool
) -> tuple[int, np.ndarray, Ignored | None]:
    """Returns the class, 1..K or NO_CLASS, and the corners [k, 2], from 0 to 1, of one line.

    Third, why the object is ignored, if it is: it has a box alone, or a class of no name.
    """
    try:
        class_, *numbers = (float(word) for word in line.split())
    except ValueError as error:
        reason = f"it is {line!r:.60}; expected numbers alone"
        raise FaultError(FaultKind.OUTLINE, reason) from error
    problem = None
    if class_ not in range(num_classes):
        reason = f"its class is {class_:g}; expected 0 to {num_classes - 1}"
        class_, problem = NO_CLASS - 1, Ignored(FaultError(FaultKind.CLASS, reason))
    if len(numbers) == 4:
        x, y, w, h = numbers
        left, right, top, bottom = x - w / 2, x + w / 2, y - h / 2, y + h / 2
        numbers = [left, top, right, top, right, bottom, left, bottom]
        if not boxes_as_masks:
            reason = "it has a box; expected x and y of the corners of a polygon"
            problem = Ignored(FaultError(FaultKind.OUTLINE, reason))
    if len(numbers) % 2:
        reason = f"it has {len(numbers)} numbers after its class; expected pairs x y"
        raise FaultError(FaultKind.OUTLINE, reason)
    corners = np.array(numbers).reshape(-1, 2)
    if not np.all((corners >= -_ROUNDING) & (corners <= 1 + _ROUNDING)):  # also of NaN
        raise FaultError(
            FaultKind.OUTLINE,
            f"its coordinates go from {corners.min():g} to {corners.max():g}; expected fractions "
            "of the image's width and height, from 0 to 1",
        )
    return int(class_) + 1, np.clip(corners, 0, 1), problem
