"""The reader of labelme's JSON files: one beside each image, or anywhere under a folder."""

import base64
import binascii
import os
import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn_jax.console import amount
from maskrcnn_jax.data.faults import Fault, fault_of
from maskrcnn_jax.data.files.annotation_files import read_json
from maskrcnn_jax.data.files.json_values import size_of, whole
from maskrcnn_jax.data.files.paths import PICTURES, existing, files_in, path_in
from maskrcnn_jax.data.formats.keypoints import LabelmePoints
from maskrcnn_jax.data.formats.labelme_shapes import has_area, part
from maskrcnn_jax.data.masks.instances import class_numbers, class_or_ignored, instance, union
from maskrcnn_jax.data.read_options import DEFAULTS, ReadOptions
from maskrcnn_jax.data.records import Dataset, Record, make_dataset, make_record
from maskrcnn_jax.faults import FaultError, FaultKind
from maskrcnn_jax.images.pixels import RGB8, PixelFormat
from maskrcnn_jax.images.read import check_stated_size, image_size, read_image

IGNORED = ("__ignore__", "_background_")  # labelme's own names for what is no object


@dataclass(frozen=True, slots=True)
class _Annotated:
    """One JSON file.

    `image` is the path of its image, or empty where the JSON file itself contains the image;
    `shapes` are those that are not ignored, by their numbers in the file.
    """

    source: str
    image: str
    height: int
    width: int
    shapes: dict[int, dict]


def read(
    folder: str | Path,
    images: str = "",
    class_names: Sequence[str] = (),
    ignore: Sequence[str] = IGNORED,
    crowd_flag: str = "crowd",
    options: ReadOptions = DEFAULTS,
) -> Dataset:
    """Returns a dataset of labelme's JSON files.

    Every JSON file under the folder is one image, whose id is its path without `.json`. Shapes of
    one label and one `group_id` are one instance. Polygons, rectangles, circles and masks have an
    inside; points and lines are faults, but for points that are keypoints (`LabelmePoints`). Boxes
    are tight around the outlines.

    Args:
        folder: of the JSON files and, in it, the images.
        images: folder of the images, relative to `folder`, where `imagePath` no longer leads to
            them: only its file name is used then.
        class_names: in the order wanted; by default the labels found, in alphabetical order, those
            of the other split too.
        ignore: shapes with one of these labels or flags are left out.
        crowd_flag: shapes with this flag set are crowd regions.
        options: see `ReadOptions`.

    Raises:
        ValueError: there is no such folder, it has no JSON file or no label, or, with
            on_error="raise", there are faults.
    """
    folder = existing(folder, "folder", is_folder=True)
    ignore = (ignore,) if isinstance(ignore, str) else ignore
    files = {name.removesuffix(".json"): name for name in files_in(folder, ".json")}
    if not files:
        raise ValueError(
            f"{folder} has no JSON file; expected one of labelme's for each image. If it has "
            "another format, name that: config.data.format, as docs/formats/README.md says"
        )
    found: dict[str, _Annotated] = {}
    unusable: dict[str, Fault] = {}
    for name, file in files.items():
        try:
            found[name] = _load(folder, file, images, ignore, options.max_pixels)
        except (ValueError, OSError) as error:
            unusable[name] = fault_of(error, f"{folder}/{file}", image_id=name)
    if not found:
        first = next(iter(unusable.values()))
        raise ValueError(f"{folder} has no usable JSON file; {first.where}: {first.reason}")
    wanted = set(options.chosen(files))
    faults = [fault for name, fault in unusable.items() if name in wanted]
    shapes = (shape for entry in found.values() for shape in entry.shapes.values())
    labels = (_label(shape) for shape in shapes if has_area(shape))
    numbers = class_numbers(class_names, (n for n in labels if isinstance(n, str) and n))
    if options.split != "val":
        faults += _without_json(folder, found, unusable)
    used = {name: entry for name, entry in found.items() if name in wanted}
    results = [_record(*item, numbers, crowd_flag, options.keypoints) for item in used.items()]
    faults += [fault for _, found in results for fault in found]
    records = [record for record, _ in results]
    dataset = make_dataset((folder, options.split), list(numbers), records, faults, options)
    contained = {name: entry.source for name, entry in used.items() if not entry.image}
    read_file = dataset.read_image

    def read_either(record: Record, wanted: PixelFormat = RGB8) -> np.ndarray:
        source = contained.get(str(record.image_id))
        if source is None:
            return read_file(record, wanted=wanted)
        content = _contained_image(read_json(source, "an image's labels"))
        return read_image(
            source, options.max_pixels, (record.height, record.width), content, wanted
        )

    dataset.read_image = read_either
    return dataset


def _without_json(
    folder: str, found: dict[str, _Annotated], unusable: Iterable[str]
) -> list[Fault]:
    """Returns a warning of the images that no JSON file names, which are not used."""
    named = {os.path.realpath(entry.image) for entry in found.values() if entry.image}
    stems = {*found, *unusable}
    left = [
        name
        for name in files_in(folder, *PICTURES)
        if posixpath.splitext(name)[0] not in stems
        and os.path.realpath(os.path.join(folder, name)) not in named
    ]
    if not left:
        return []
    shown = ", ".join(left[:5]) + (", ..." if len(left) > 5 else "")
    reason = (
        f"{amount(len(left), 'image')} without a JSON file: {shown}. They are not used; to use one "
        "as an image without objects, save it in labelme without shapes"
    )
    return [Fault(folder, reason, FaultKind.NOT_ANNOTATED, "warning", count=len(left))]


def _load(
    folder: str, file: str, images: str, ignore: Sequence[str], max_pixels: int
) -> _Annotated:
    """Reads one JSON file and finds its image."""
    source = os.path.join(folder, file)
    content = read_json(source, "an image's labels by labelme")
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise FaultError(
            FaultKind.ENTRY, "it has no list 'shapes', and so is not labelme's; move it elsewhere"
        )
    size = size_of(content.get("imageHeight"), content.get("imageWidth"))
    if size is not None:
        check_stated_size(*size, max_pixels)
    try:
        image = _image_path(folder, file, images, content.get("imagePath"))
        if not os.path.isfile(image):
            raise FaultError(
                FaultKind.MISSING_FILE, f"there is no image {image}; give its folder as `images`"
            )
        size = image_size(image, max_pixels) if size is None else size
    except ValueError:
        if not content.get("imageData"):
            raise
        image = ""
        given, size = size, image_size(source, max_pixels, size, _contained_image(content))
        if given not in (size, None):
            raise FaultError(
                FaultKind.IMAGE_SIZE,
                f"its imageData is {size[0]} x {size[1]} (height x width), but imageHeight and "
                f"imageWidth are {given[0]} x {given[1]}",
            ) from None
    shapes = (shape if isinstance(shape, dict) else {} for shape in content["shapes"])
    used = {
        number: shape
        for number, shape in enumerate(shapes, 1)
        if _label(shape) not in ignore and not _flags(shape) & set(ignore)
    }
    height, width = size
    return _Annotated(source, image, height, width, used)


def _image_path(folder: str, file: str, images: str, given: Any) -> str:
    """Returns the path of an image, which a JSON file names relative to itself."""
    if not isinstance(given, str) or not given:
        raise FaultError(
            FaultKind.MISSING_FILE, f"imagePath is {given!r}; expected the name of an image file"
        )
    name = given.replace("\\", "/")
    if images:
        name = posixpath.join(images, posixpath.basename(name))
    elif not name.startswith("/") and ":" not in name.split("/")[0]:
        name = posixpath.normpath(posixpath.join(posixpath.dirname(file), name))
    try:
        return path_in(folder, name)
    except ValueError as error:
        raise FaultError(
            FaultKind.FILE_OUTSIDE, f"imagePath: {error}; or give the images' folder as `images`"
        ) from error


def _contained_image(content: dict) -> bytes:
    """Returns the image file that a JSON file contains."""
    data: Any = content.get("imageData") if isinstance(content, dict) else None
    try:
        return base64.b64decode(data, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise FaultError(
            FaultKind.UNREADABLE_FILE, f"imageData is not an image file in base64: {error}"
        ) from error


def _label(shape: dict) -> Any:
    """Returns the label of a shape; of one that is a number, its digits."""
    label = shape.get("label")
    return label if whole(label) is None else str(label)


def _flags(shape: dict) -> set[str]:
    """Returns the flags of a shape that are set."""
    flags = shape.get("flags")
    return {name for name, on in flags.items() if on} if isinstance(flags, dict) else set()


def _record(
    name: str,
    entry: _Annotated,
    numbers: dict[str, int],
    crowd_flag: str,
    keypoints: Sequence[str],
) -> tuple[Record, list[Fault]]:
    """Returns the record of one JSON file, and what is wrong with its shapes."""
    size = entry.height, entry.width
    drawn: dict[tuple, list] = {}  # where, whether crowd, and mask of the parts of each instance
    faults: list[Fault] = []
    points = LabelmePoints(keypoints)
    for number, shape in entry.shapes.items():
        where, group = f"{entry.source}: shape {number}", shape.get("group_id")
        unknown: list[FaultError] = []
        try:
            if points.take(_label(shape), shape, _flags(shape), where):
                continue
            mask = part(shape, *size)
        except ValueError as error:
            faults.append(fault_of(error, where, objects=int(has_area(shape))))
            continue
        class_, ignored = class_or_ignored(_label(shape), numbers, unknown)
        faults += [fault_of(warning, where, "warning") for warning in unknown]
        key = class_, ignored, number if group is None else f"group {group}"
        is_crowd = ignored or crowd_flag in _flags(shape)
        drawn.setdefault(key, []).append((where, is_crowd, mask))
    instances, groups = [], []
    for (class_, _, group), parts in drawn.items():
        wheres, crowds, masks = zip(*parts, strict=True)
        warnings: list[FaultError] = []
        try:
            joined = union(list(masks), *size)
            instances.append(instance(joined, class_, *size, any(crowds), warnings))
            groups.append(group)
        except ValueError as error:
            faults.append(fault_of(error, wheres[0], objects=1))
        faults += [fault_of(warning, wheres[0], "warning") for warning in warnings]
    lost: list[tuple[str, FaultError]] = []
    known = points.given_to(groups, [found.box for found in instances], lost)
    faults += [fault_of(warning, where, "warning") for where, warning in lost]
    instances = [i._replace(keypoints=p) for i, p in zip(instances, known, strict=True)]
    return make_record(name, entry.image, *size, instances), faults
