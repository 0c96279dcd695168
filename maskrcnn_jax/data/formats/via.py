"""The reader of the VGG Image Annotator's JSON files, of its versions 1 and 2.

Either the annotations that it exports, as the balloon dataset has them, or a project that it saves:

    {"<file name><bytes>": {"filename": ..., "regions": [{"shape_attributes": {"name": "polygon",
        "all_points_x": [...], "all_points_y": [...]}, "region_attributes": {"class": "balloon"}}]}}

A project has the same under `_via_img_metadata`; version 1 has an object of regions, not a list.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn_jax.class_names import NO_CLASS
from maskrcnn_jax.data.faults import Fault, fault_of
from maskrcnn_jax.data.files.annotation_files import read_json
from maskrcnn_jax.data.files.json_values import number, whole
from maskrcnn_jax.data.files.paths import existing, path_in
from maskrcnn_jax.data.masks.instances import class_numbers, class_or_ignored, instance
from maskrcnn_jax.data.masks.outlines import ellipse, points, polygon, rectangle
from maskrcnn_jax.data.masks.segmentation import Polygons
from maskrcnn_jax.data.read_options import DEFAULTS, ReadOptions
from maskrcnn_jax.data.records import Dataset, Instance, make_dataset, make_record
from maskrcnn_jax.faults import FaultError, FaultKind, Ignored
from maskrcnn_jax.images.read import image_size


def read(
    folder: str | Path,
    annotations: str = "via_region_data.json",
    class_attribute: str = "",
    class_name: str = "object",
    class_names: Sequence[str] = (),
    options: ReadOptions = DEFAULTS,
) -> Dataset:
    """Returns a dataset of one JSON file of the VGG Image Annotator, beside its images.

    Each region is one instance, its box tight around the outline. Polygons, rectangles, circles
    and ellipses have an inside; points and lines are faults. An image's id is its file name.
    Images without regions are kept.

    Args:
        folder: of the images.
        annotations: the JSON file, relative to `folder`.
        class_attribute: the region attribute that holds the class: text, or the options of a drop
            down, radio or check box of which one is chosen. "": all regions are of one class.
        class_name: of that one class.
        class_names: with `class_attribute`: the classes in the order wanted; by default those
            found, in alphabetical order, those of the other split too.
        options: see `ReadOptions`.

    Raises:
        ValueError: a path does not exist, the file is not in this format, no region has a class,
            or, with on_error="raise", there are faults.
    """
    folder = existing(folder, "folder", is_folder=True)
    source = existing(os.path.join(folder, annotations), "annotations", is_folder=False)
    faults: list[Fault] = []
    images = _images(_entries(source), source, faults)
    regions = (region for found in images.values() for region in found)
    found = (_class_of(region, class_attribute) for region in regions)
    names = class_names if class_attribute else [class_name]
    numbers = class_numbers(names, (name for name in found if name))
    if not class_attribute:
        faults += _several_classes(images, class_name, source)
    records = []
    for name in options.chosen(images):
        where = f"{source}: image {name}"
        try:
            path = path_in(folder, name)
            size = image_size(path, options.max_pixels)
        except (ValueError, OSError) as error:
            faults.append(fault_of(error, where, image_id=name))
            continue
        instances, problems = _instances(images[name], size, class_attribute, numbers, where)
        records.append(make_record(name, path, *size, instances))
        faults += problems
    return make_dataset((folder, options.split), list(numbers), records, faults, options)


def _several_classes(
    images: dict[str, list[dict]], class_name: str, source: str
) -> Iterator[Fault]:
    """Yields a warning for each attribute that has several values, where all become one class."""
    values: dict[str, dict[str, None]] = {}
    for region in (region for regions in images.values() for region in regions):
        attributes = region.get("region_attributes")
        for attribute in attributes if isinstance(attributes, dict) else ():
            value = _class_of(region, attribute)
            if value is not None:
                values.setdefault(attribute, {})[value] = None
    for attribute, found in values.items():
        if len(found) > 1:
            shown = ", ".join(list(found)[:5]) + (", ..." if len(found) > 5 else "")
            reason = (
                f"regions have {len(found)} values of {attribute!r} ({shown}), but all are read as "
                f"one class, {class_name!r}: if they are classes, give "
                f"class_attribute={attribute!r}"
            )
            yield Fault(source, reason, FaultKind.CLASS, "warning")


def _entries(source: str) -> dict[str, Any]:
    """Reads the JSON file and returns its entries, one an image."""
    content = read_json(source, "annotations of the VGG Image Annotator")
    if isinstance(content, dict):
        content = content.get("_via_img_metadata", content)
    keys = str(sorted(content)) if isinstance(content, dict) else f"a {type(content).__name__}"
    if isinstance(content, dict) and {"project", "metadata", "view"} <= content.keys():
        raise ValueError(f"{source} is of version 3; annotate, or save it, with version 2")
    entries = content.values() if isinstance(content, dict) else [None]
    if not any(isinstance(entry, dict) and "regions" in entry for entry in entries):
        raise ValueError(
            f"{source} holds {keys:.200}; expected an object of images with 'filename' and "
            "'regions', as the VGG Image Annotator exports (as JSON, neither COCO nor CSV)"
        )
    return content


def _images(entries: dict[str, Any], source: str, faults: list[Fault]) -> dict[str, list[dict]]:
    """Returns the regions of each image by its file name."""
    images: dict[str, list[dict]] = {}
    for key, entry in entries.items():
        name = entry.get("filename") if isinstance(entry, dict) else None
        regions = entry.get("regions") if isinstance(entry, dict) else None
        regions = list(regions.values()) if isinstance(regions, dict) else regions
        kind = FaultKind.ENTRY
        if not isinstance(name, str) or not name:
            reason = f"its filename is {name!r:.80}; expected the name of an image file"
        elif not isinstance(regions, list):
            reason = f"its regions are {regions!r:.80}; expected a list or an object"
        elif name in images:
            kind, reason = FaultKind.TWICE, f"an earlier entry has the same filename, {name}"
        else:
            images[name] = [region if isinstance(region, dict) else {} for region in regions]
            continue
        faults.append(Fault(f"{source}: entry {key}", reason, kind))
    if not images:
        raise ValueError(f"{source} has no usable image: {faults[0].reason}")
    return images


def _instances(
    regions: list[dict], size: tuple[int, int], attribute: str, numbers: dict[str, int], where: str
) -> tuple[list[Instance], list[Fault]]:
    """Returns an image's regions as instances, and what is wrong with them."""
    instances: list[Instance] = []
    faults: list[Fault] = []
    for place, region in enumerate(regions, 1):
        where_region = f"{where}: region {place}"
        warnings: list[FaultError] = []
        try:
            outline = Polygons([_outline(region.get("shape_attributes"))])
            found = instance(outline, 1, *size, warnings=warnings)
            if attribute:
                class_, ignored = _class(region, attribute, numbers, warnings)
                found = found._replace(class_number=class_, crowd=ignored)
            instances.append(found)
        except ValueError as error:
            faults.append(fault_of(error, where_region, objects=1))
        faults += [fault_of(warning, where_region, "warning") for warning in warnings]
    return instances, faults


def _class(
    region: dict, attribute: str, numbers: dict[str, int], warnings: list[FaultError]
) -> tuple[int, bool]:
    """Returns the number of a region's class, and whether the region is ignored (unknown class)."""
    name = _class_of(region, attribute)
    if name is not None:
        return class_or_ignored(name, numbers, warnings)
    given = region.get("region_attributes")
    reason = f"its attributes are {given!r:.80}; expected one class as {attribute!r}"
    warnings.append(Ignored(FaultError(FaultKind.CLASS, reason)))
    return NO_CLASS, True


def _class_of(region: dict, attribute: str) -> str | None:
    """Returns the class that a region's attribute names; None if it names none, or several."""
    attributes = region.get("region_attributes")
    value = attributes.get(attribute) if isinstance(attributes, dict) else None
    if isinstance(value, dict):  # of a check box: the options that are chosen
        chosen = [option for option, on in value.items() if on]
        value = chosen[0] if len(chosen) == 1 else None
    if not isinstance(value, str):
        return None if whole(value) is None else str(whole(value))
    return value.strip() or None


def _outline(shape: Any) -> np.ndarray:
    """Returns the outline of a region, [k, 2] float64 (x, y)."""
    if not isinstance(shape, dict):
        raise FaultError(FaultKind.OUTLINE, "it has no shape_attributes")

    def numbers(*keys: str) -> list[float]:
        found = [number(shape.get(key)) for key in keys]
        if None in found:
            given = {key: shape.get(key) for key in keys}
            raise FaultError(
                FaultKind.OUTLINE, f"its {shape['name']} has {given!r:.80}; expected finite numbers"
            )
        return [value for value in found if value is not None]

    kind = shape.get("name")
    if kind == "polygon":
        xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
        if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys):
            raise FaultError(
                FaultKind.OUTLINE, "all_points_x and all_points_y are not two lists of one length"
            )
        return polygon(points(list(zip(xs, ys, strict=True))))
    if kind == "rect":
        x, y, width, height = numbers("x", "y", "width", "height")
        return rectangle(x, y, x + width, y + height)
    if kind == "circle":
        cx, cy, radius = numbers("cx", "cy", "r")
        return ellipse(cx, cy, radius, radius)
    if kind == "ellipse":
        shape = {"theta": 0, **shape}  # version 1 has upright ellipses alone
        return ellipse(*numbers("cx", "cy", "rx", "ry", "theta"))
    raise FaultError(
        FaultKind.OUTLINE,
        f"its shape is {kind!r:.40}, which has no area; expected polygon, rect, circle or ellipse",
    )
