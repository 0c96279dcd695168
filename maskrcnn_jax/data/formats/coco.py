"""The reader of COCO's format: one JSON file of annotations beside a folder of images.

LVIS has the same, but for the names of its image files (see `_file_name`).
"""

import gc
import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from maskrcnn_jax.data.formats.annotation_files import read_json
from maskrcnn_jax.data.formats.paths import existing, path_in
from maskrcnn_jax.data.masks import rle
from maskrcnn_jax.data.masks.outlines import is_number
from maskrcnn_jax.data.masks.segmentation import RLE, Polygons, Segmentation, to_rle
from maskrcnn_jax.data.read_options import DEFAULTS, ReadOptions
from maskrcnn_jax.data.records import Dataset, Instance, make_record, read_image_file
from maskrcnn_jax.faults import Fault, FaultError, FaultKind, fault_of, raise_errors
from maskrcnn_jax.images.read import check_stated_size, image_size

_MOST_OUTSIDE = 10  # image sides from the origin to a polygon's corner


def read(
    images: str | Path,
    annotations: str | Path,
    root: str | Path = "",
    max_images: int = 0,
    options: ReadOptions = DEFAULTS,
) -> Dataset:
    """Returns a dataset in COCO's format.

    Category ids become 1..K in ascending order. Images without annotations are kept. Boxes are
    those of `bbox`, clipped to their image. What cannot be used (an instance without area or
    without a mask, an unknown category or image, an image file outside the folder) is left out and
    listed in the dataset's faults.

    Args:
        images: folder of the images.
        annotations: JSON file with the lists images, annotations and categories.
        root: folder to which the two are relative; by default the working directory.
        max_images: the first this many images of the file are used; 0: all.
        options: see `ReadOptions`.

    Raises:
        ValueError: a path does not exist, the file is not in this format, or, with
            on_error="raise", it has faults.
    """
    root = existing(root, "root", is_folder=True) if root else root
    images = existing(os.path.join(root, images), "images", is_folder=True)
    source = existing(os.path.join(root, annotations), "annotations", is_folder=False)
    return read_annotations(source, images, max_images, options)


def read_annotations(
    source: str,
    images: str = "",
    max_images: int = 0,
    options: ReadOptions = DEFAULTS,
) -> Dataset:
    """Returns what one file of annotations has, whether or not its images are there.

    Args:
        source: the JSON file.
        images: folder of the images.
        max_images: as for `read`, and likewise the others.

    Raises:
        ValueError: as `read`.
    """
    with _no_garbage_collection():
        return _read(images, source, max_images, options)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Spares the collector millions of new objects, none in a cycle: 40 % of the time to read."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _read(images: str, source: str, max_images: int, options: ReadOptions) -> Dataset:
    content = _load(source)
    category_ids, class_names = _categories(content["categories"], source)
    class_of = {category: number for number, category in enumerate(category_ids, 1)}

    faults: list[Fault] = []
    found = _images(content["images"], images, source, options.max_pixels, faults)
    instances = _instances(content["annotations"], found, class_of, source, faults)
    if not content["annotations"]:
        faults.append(
            Fault(
                source, "it has images but no annotation at all", FaultKind.NOT_ANNOTATED, "warning"
            )
        )
    raise_errors(faults, options.on_error)
    files = [os.path.relpath(image[1], images or ".") for image in found.values()]
    wanted = set(options.chosen(files))
    used = [image for image, file in zip(found.values(), files, strict=True) if file in wanted]
    used = used[: max_images or None]
    records = [make_record(*image, instances.get(image[0], [])) for image in used]
    return Dataset(
        name=Path(source).stem,
        class_names=class_names,
        category_ids=category_ids,
        records=records,
        read_image=partial(read_image_file, max_pixels=options.max_pixels),
        faults=faults,
    )


def _load(source: str) -> dict[str, list]:
    """Reads the JSON file and checks its outermost structure."""
    content = read_json(source, "COCO annotations")
    keys = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(k), list) for k in keys):
        given = sorted(content) if isinstance(content, dict) else f"a {type(content).__name__}"
        raise ValueError(
            f"{source} holds {given}; expected COCO annotations: an object with the lists "
            f"{', '.join(keys)} (a list alone is how results of a detector are written)"
        )
    for key in ("images", "categories"):
        if not content[key]:
            raise ValueError(f"{source}: its list of {key} is empty; expected at least one entry")
    return content


def _categories(entries: list, source: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Returns ids and names of the categories, by ascending id."""
    names: dict[int, str] = {}
    for entry in entries:
        if not isinstance(entry, dict) or type(entry.get("id")) is not int or "name" not in entry:
            raise ValueError(f"{source}: category {entry!r}; expected a whole 'id' and a 'name'")
        if entry["id"] in names:
            raise ValueError(f"{source}: two categories have the id {entry['id']}")
        if str(entry["name"]) in names.values():
            raise ValueError(
                f"{source}: two categories have the name {entry['name']!r}; rename one of them, or "
                "give their annotations one id, since results are told apart by names"
            )
        names[entry["id"]] = str(entry["name"])
    ids = tuple(sorted(names))
    return ids, tuple(names[category] for category in ids)


def _images(
    entries: list, folder: str, source: str, max_pixels: int, faults: list[Fault]
) -> dict[int | str, tuple]:
    """Returns (id, path, height, width) of each usable image by its id."""
    found: dict[int | str, tuple] = {}
    for number, entry in enumerate(entries):
        try:
            if not isinstance(entry, dict) or type(entry.get("id")) not in (int, str):
                raise FaultError(FaultKind.ENTRY, "it has no 'id'")
            if entry["id"] in found:
                raise FaultError(FaultKind.ID, "an earlier image has the same id")
            path = path_in(folder, _file_name(entry, folder))
            size = entry.get("height"), entry.get("width")
            if size == (None, None):
                size = image_size(path, max_pixels)
            check_stated_size(*size, max_pixels)
            found[entry["id"]] = (entry["id"], path, *size)
        except (ValueError, OSError) as error:
            name = entry.get("id", f"number {number}") if isinstance(entry, dict) else number
            faults.append(fault_of(error, f"{source}: image {name}"))
    return found


def _file_name(entry: dict, folder: str) -> str:
    """Returns the name of an image's file, relative to the folder of images.

    LVIS gives an address, .../train2017/000000391895.jpg, instead of a name. Its images are those
    of COCO, divided otherwise, so that one list has images of two of COCO's folders.
    """
    name, address = entry.get("file_name"), entry.get("coco_url")
    if name is None and isinstance(address, str):
        parts = address.split("/")[-2:]
        in_subfolder = len(parts) == 2 and os.path.isdir(os.path.join(folder, parts[0]))
        name = "/".join(parts) if in_subfolder else parts[-1]
    if not isinstance(name, str) or not name:
        raise FaultError(FaultKind.MISSING_FILE, "it has no 'file_name'")
    return name


def _instances(
    entries: list, images: dict, class_of: dict[int, int], source: str, faults: list[Fault]
) -> dict[int | str, list[Instance]]:
    """Returns the usable annotations of each image, by image id."""
    instances = defaultdict(list)
    seen = set()
    for number, entry in enumerate(entries, 1):
        warnings: list[FaultError] = []
        where = f"{source}: annotation number {number}"
        try:
            if not isinstance(entry, dict):
                raise FaultError(FaultKind.ENTRY, f"it is {entry!r}; expected an object")
            annotation_id = entry.get("id", number)
            where = f"{source}: annotation {annotation_id}"
            is_id = type(annotation_id) is int and abs(annotation_id) < 2**63
            if not is_id or annotation_id in seen:
                raise FaultError(
                    FaultKind.ID, "its 'id' is not a whole number, or is that of an earlier one"
                )
            seen.add(annotation_id)
            image_id = entry.get("image_id")
            image = images.get(image_id) if type(image_id) in (int, str) else None
            if image is None:
                raise FaultError(
                    FaultKind.UNKNOWN_IMAGE,
                    f"its image_id {image_id!r} is not that of a usable image",
                )
            instance = _instance(entry, annotation_id, image, class_of, warnings)
            instances[image_id].append(instance)
        except ValueError as error:
            faults.append(fault_of(error, where))
        faults.extend(fault_of(warning, where, "warning") for warning in warnings)
    return instances


def _instance(
    entry: dict, annotation_id: int, image: tuple, class_of: dict, warnings: list[FaultError]
) -> Instance:
    """Returns one annotation as an instance; ValueError says why it is unusable."""
    _, _, height, width = image
    category = entry.get("category_id")
    if type(category) is not int or category not in class_of:
        raise FaultError(
            FaultKind.CLASS, f"category_id {category!r} is not in the list of categories"
        )
    crowd = entry.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise FaultError(FaultKind.CROWD, f"iscrowd is {crowd!r}; expected 0 or 1")
    box = _box(entry.get("bbox"), height, width, warnings)
    segmentation = _segmentation(entry.get("segmentation"), height, width, warnings)
    area = entry.get("area")
    if not is_number(area) or not area > 0:
        if area is not None:
            reason = f"area is {area!r}; that of the mask is taken"
            warnings.append(FaultError(FaultKind.AREA, reason))
        area = float(coco_mask.area(to_rle(segmentation, height, width)))
    return Instance(box, class_of[category], bool(crowd), segmentation, annotation_id, area)


def _box(bbox: Any, height: int, width: int, warnings: list[FaultError]) -> tuple:
    """Returns the box clipped to its image, xyxy."""
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(is_number, bbox)):
        raise FaultError(
            FaultKind.BOX, f"bbox is {bbox!r}; expected four finite numbers [x, y, width, height]"
        )
    x, y, w, h = bbox
    if not (w > 0 and h > 0):
        raise FaultError(
            FaultKind.BOX, f"bbox {bbox} has no area; expected a width and height above 0"
        )
    # In float32, as records keep them: a sliver may vanish there.
    x1, x2 = np.float32(min(max(x, 0), width)), np.float32(min(max(x + w, 0), width))
    y1, y2 = np.float32(min(max(y, 0), height)), np.float32(min(max(y + h, 0), height))
    if not (x2 > x1 and y2 > y1):
        raise FaultError(
            FaultKind.BOX_OUTSIDE, f"bbox {bbox} lies outside its image of {height} x {width}"
        )
    if x < -1 or y < -1 or x + w > width + 1 or y + h > height + 1:
        reason = f"bbox {bbox} leaves its image of {height} x {width}; it is clipped"
        warnings.append(FaultError(FaultKind.BOX_OUTSIDE, reason))
    return x1, y1, x2, y2


def _segmentation(given: Any, height: int, width: int, warnings: list[FaultError]) -> Segmentation:
    """Returns the mask in whichever of COCO's three forms it is given."""
    if isinstance(given, dict):
        if given.get("size") != [height, width]:
            raise FaultError(
                FaultKind.MASK_SIZE,
                f"its run-length mask is of size {given.get('size')}; expected [height, width] of "
                f"the image, [{height}, {width}]",
            )
        text = rle.compress(given.get("counts"), height, width)
        if not rle.run_lengths(text)[1::2].any():
            raise FaultError(FaultKind.EMPTY_MASK, "its run-length mask is empty")
        return RLE((height, width), text)
    if not isinstance(given, list) or not given:
        raise FaultError(
            FaultKind.MASK, f"segmentation is {given!r:.80}; expected polygons or run lengths"
        )
    parts, errors = [], []
    for polygon in given:
        try:
            parts.append(_polygon(polygon, _MOST_OUTSIDE * max(height, width)))
        except FaultError as error:
            errors.append(error)
    if not parts:
        raise errors[0]
    warnings.extend(
        FaultError(error.kind, f"{error}; the instance's other polygons are kept")
        for error in errors
    )
    return Polygons(parts)


def _polygon(given: Any, most: float) -> np.ndarray:
    """Returns a polygon's corners, [k, 2] float64 (x, y), none of them further out than `most`.

    Filling takes time and memory by the length of the outline, whatever the size of the image.
    """
    if not isinstance(given, list) or len(given) < 6 or len(given) % 2:
        length = f"{len(given)} numbers" if isinstance(given, list) else repr(given)
        raise FaultError(
            FaultKind.OUTLINE, f"a polygon has {length}; expected x, y of at least three corners"
        )
    try:
        corners = np.array(given, np.float64)
    except (TypeError, ValueError, OverflowError):
        corners = np.empty(0)
    furthest = np.abs(corners).max() if corners.ndim == 1 and len(corners) else np.nan
    if not np.isfinite(furthest):
        raise FaultError(
            FaultKind.OUTLINE, "a polygon is not a list of finite numbers [x1, y1, x2, y2, ...]"
        )
    if furthest > most:
        raise FaultError(
            FaultKind.BOX_OUTSIDE, f"a polygon reaches {furthest:g}, far out of its image"
        )
    return corners.reshape(-1, 2)
