"""The reader of the VGG Image Annotator's JSON files, of its versions 1 and 2.

Either the annotations that it exports, as the balloon dataset has them, or a project that it saves:

    {"<file name><bytes>": {"filename": ..., "regions": [{"shape_attributes": {"name": "polygon",
        "all_points_x": [...], "all_points_y": [...]}, "region_attributes": {"class": "balloon"}}]}}

A project has the same under `_via_img_metadata`; version 1 has an object of regions, not a list.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn_jax.data.formats.annotation_files import read_json
from maskrcnn_jax.data.formats.paths import existing, path_in
from maskrcnn_jax.data.masks.instances import class_number, class_numbers, instance
from maskrcnn_jax.data.masks.outlines import ellipse, is_number, points, polygon, rectangle
from maskrcnn_jax.data.masks.segmentation import Polygons
from maskrcnn_jax.data.records import Dataset, Fault, make_dataset, make_record
from maskrcnn_jax.data.split import of_split
from maskrcnn_jax.images.read import MAX_PIXELS, image_size


def read(
    folder: str | Path,
    annotations: str = "via_region_data.json",
    class_attribute: str = "",
    class_name: str = "object",
    class_names: Sequence[str] = (),
    split: str = "",
    val_fraction: float = 0.2,
    split_seed: int = 0,
    on_error: str = "skip",
    max_pixels: int = MAX_PIXELS,
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
        split: "train", "val", or "" for all images (see `of_split`).
        val_fraction: share of the validation images, where `split` is given.
        split_seed: another one divides the images otherwise.
        on_error: "skip", or "raise" to accept no fault.
        max_pixels: an image of more pixels is refused before it is decoded.

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
    records = []
    for name in of_split(images, split, val_fraction, split_seed):
        where = f"{source}: image {name}"
        try:
            path = path_in(folder, name)
            size = image_size(path, max_pixels)
        except (ValueError, OSError) as error:
            faults.append(Fault(where, str(error), image_id=name))
            continue
        instances, found = _instances(images[name], size, class_attribute, numbers, where)
        records.append(make_record(name, path, *size, instances))
        faults += found
    return make_dataset((folder, split), list(numbers), records, faults, on_error, max_pixels)


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
        if not isinstance(name, str) or not name:
            reason = f"its filename is {name!r:.80}; expected the name of an image file"
        elif not isinstance(regions, list):
            reason = f"its regions are {regions!r:.80}; expected a list or an object"
        elif name in images:
            reason = f"an earlier entry has the same filename, {name}"
        else:
            images[name] = [region if isinstance(region, dict) else {} for region in regions]
            continue
        faults.append(Fault(f"{source}: entry {key}", reason))
    if not images:
        raise ValueError(f"{source} has no usable image: {faults[0].reason}")
    return images


def _instances(
    regions: list[dict], size: tuple[int, int], attribute: str, numbers: dict[str, int], where: str
) -> tuple[list[tuple], list[Fault]]:
    """Returns what `make_record` takes of an image's regions, and what is wrong with them."""
    instances: list[tuple] = []
    faults: list[Fault] = []
    for number, region in enumerate(regions, 1):
        where_region = f"{where}: region {number}"
        warnings: list[str] = []
        try:
            class_ = _number_of(region, attribute, numbers) if attribute else 1
            outline = Polygons([_outline(region.get("shape_attributes"))])
            instances.append(instance(outline, class_, *size, warnings=warnings))
        except ValueError as error:
            faults.append(Fault(where_region, str(error)))
        faults += [Fault(where_region, reason, "warning") for reason in warnings]
    return instances, faults


def _number_of(region: dict, attribute: str, numbers: dict[str, int]) -> int:
    """Returns the number of a region's class."""
    name = _class_of(region, attribute)
    if name is None:
        given = region.get("region_attributes")
        raise ValueError(f"its attributes are {given!r:.80}; expected one class as {attribute!r}")
    return class_number(name, numbers)


def _class_of(region: dict, attribute: str) -> str | None:
    """Returns the class that a region's attribute names; None if it names none, or several."""
    attributes = region.get("region_attributes")
    value = attributes.get(attribute) if isinstance(attributes, dict) else None
    if isinstance(value, dict):  # of a check box: the options that are chosen
        chosen = [option for option, on in value.items() if on]
        value = chosen[0] if len(chosen) == 1 else None
    return value.strip() or None if isinstance(value, str) else None


def _outline(shape: Any) -> np.ndarray:
    """Returns the outline of a region, [k, 2] float64 (x, y)."""
    if not isinstance(shape, dict):
        raise ValueError("it has no shape_attributes")

    def numbers(*keys: str) -> list[float]:
        if not all(is_number(shape.get(key)) for key in keys):
            given = {key: shape.get(key) for key in keys}
            raise ValueError(f"its {shape['name']} has {given!r:.80}; expected finite numbers")
        return [shape[key] for key in keys]

    kind = shape.get("name")
    if kind == "polygon":
        xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
        if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys):
            raise ValueError("all_points_x and all_points_y are not two lists of one length")
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
    raise ValueError(
        f"its shape is {kind!r:.40}, which has no inside; expected polygon, rect, circle or ellipse"
    )
