"""The reader of COCO's format: one JSON file of annotations beside a folder of images.

LVIS has the same, but for the names of its image files (see `_file_name`).
"""

import gc
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

from maskrcnn_jax.console import amount, said_if_slow
from maskrcnn_jax.data.faults import Fault, fault_of, grouped, raise_errors
from maskrcnn_jax.data.federated import read_federated
from maskrcnn_jax.data.files.annotation_files import read_json
from maskrcnn_jax.data.files.json_values import as_id, size_of, whole
from maskrcnn_jax.data.files.paths import existing, path_in
from maskrcnn_jax.data.formats.coco_annotations import Meaning, read_instances
from maskrcnn_jax.data.formats.keypoints import columns_of
from maskrcnn_jax.data.read_options import DEFAULTS, ReadOptions
from maskrcnn_jax.data.records import Dataset, Instance, make_record, read_image_file
from maskrcnn_jax.faults import FaultError, FaultKind
from maskrcnn_jax.images.read import check_stated_size, image_size

_USUAL_CROWDS = 4, 0.1  # crowd regions, and their fraction, that are usual; COCO has 1 %
_Image = tuple[int | str, str, int, int]  # id, path, height, width


def read(
    images: str | Path,
    annotations: str | Path,
    root: str | Path = "",
    max_images: int = 0,
    crowd_as_objects: bool = False,
    options: ReadOptions = DEFAULTS,
) -> Dataset:
    """Returns a dataset in COCO's format.

    Category ids become 1..K in ascending order. Images without annotations are kept. Boxes are
    those of `bbox`, clipped to their image, or where it is missing those of the masks. An object of
    which only the box is sound becomes a crowd region. What cannot be used at all (an annotation
    without box and mask, an unknown image, an image file outside the folder) is left out and listed
    in the dataset's faults. `split` divides the images by their files' names.

    Args:
        images: folder of the images.
        annotations: JSON file with the lists images, annotations and categories.
        root: folder to which the two are relative; by default the working directory.
        max_images: the first this many images of the file are used; 0: all.
        crowd_as_objects: whether annotations marked `iscrowd` are objects like the others; CVAT
            marks masks drawn with its brush so.
        options: see `ReadOptions`.

    Raises:
        ValueError: a path does not exist, the file is not in this format, or, with
            on_error="raise", it has faults.
    """
    root = existing(root, "root", is_folder=True) if root else root
    images = existing(os.path.join(root, images), "images", is_folder=True)
    source = existing(os.path.join(root, annotations), "annotations", is_folder=False)
    with _no_garbage_collection():
        return _read(images, source, max_images, crowd_as_objects, options)


def read_annotations(source: str, options: ReadOptions = DEFAULTS) -> Dataset:
    """Returns what one file of annotations has, whether or not its images are there.

    Args:
        source: the JSON file.
        options: as for `read`.

    Raises:
        ValueError: as `read`.
    """
    with _no_garbage_collection():
        return _read("", source, 0, False, options)


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


def _read(
    images: str,
    source: str,
    max_images: int,
    crowd_as_objects: bool,
    options: ReadOptions,
) -> Dataset:
    content = _load(source)
    faults: list[Fault] = []
    category_ids, class_names = _categories(content, source, faults)
    class_of = {category: number for number, category in enumerate(category_ids, 1)}
    found, unusable = _images(content, images, source, options.max_pixels, faults)
    used = list(found.values())
    if options.split:
        files = [os.path.relpath(image[1], images or ".") for image in used]
        wanted = set(options.chosen(files))
        used = [image for image, file in zip(used, files, strict=True) if file in wanted]
    used = used[: max_images or None]
    # Annotations of images that another line tells of, or that are of the other split, are silent.
    sizes: dict[int | str, tuple[int, int] | None] = dict.fromkeys([*unusable, *found])
    sizes |= {image_id: (height, width) for image_id, _, height, width in used}
    columns = columns_of(content["categories"], options.keypoints, source)
    meaning = Meaning(
        class_of, crowd_as_objects, options.boxes_as_masks, len(options.keypoints), columns
    )
    with said_if_slow(f"reading {amount(len(content['annotations']), 'annotation')}"):
        instances = read_instances(content["annotations"], sizes, meaning, source, faults)
    faults = [*grouped(faults), *_whole_file(content["annotations"], instances, source)]
    raise_errors(faults, options.on_error)
    return Dataset(
        name="-".join(filter(None, [_name(source), options.split])),
        class_names=class_names,
        category_ids=category_ids,
        records=[make_record(*image, instances.get(image[0], [])) for image in used],
        read_image=partial(read_image_file, max_pixels=options.max_pixels),
        faults=faults,
        federated=read_federated(content),
    )


def _name(source: str) -> str:
    """Returns the name of a dataset: of its file, or of its folder where all files have one name.

    Roboflow's are `train/_annotations.coco.json`, `valid/_annotations.coco.json`, ...
    """
    path = Path(source).resolve()
    return path.parent.name if path.name.startswith("_annotations") else path.stem


def _whole_file(
    entries: list, instances: dict[int | str, list[Instance]], source: str
) -> Iterator[Fault]:
    """Yields what only shows over all annotations: that none or too few of them are objects."""
    read = [instance for found in instances.values() for instance in found]
    crowds = sum(instance.crowd for instance in read)
    dicts = [entry for entry in entries if isinstance(entry, dict)]
    marked = sum(whole(e.get("iscrowd")) == 1 or e.get("iscrowd") is True for e in dicts)
    if not entries:
        reason = "it has images but no annotation at all"
        yield Fault(source, reason, FaultKind.NOT_ANNOTATED, "warning")
    elif crowds and (marked == len(dicts) or _is_unusual(marked, len(dicts))):
        yield _crowds(source, marked, len(dicts))
    elif read and crowds == len(read) and not any(e.get("segmentation") for e in dicts):
        reason = (
            f"none of its {len(dicts)} annotations has a mask, only boxes, so no object can be "
            "learned. Export segmentations (polygons or masks), or give boxes_as_masks=True "
            "(config.data.train.boxes_as_masks) to take each box for the mask of its object"
        )
        yield Fault(source, reason, FaultKind.MASK)


def _is_unusual(marked: int, number: int) -> bool:
    most, fraction = _USUAL_CROWDS
    return marked > most and marked > fraction * number


def _crowds(source: str, marked: int, number: int) -> Fault:
    """Returns what is said of a file with so many crowd regions that they may be a tool's."""
    found = f"{marked} of its {number} annotations are marked iscrowd=1 and not learned"
    if marked == number:
        found = f"all {number} annotations are marked iscrowd=1, so there is no object to learn"
    reason = (
        f"{found}. CVAT exports masks of its brush and its AI tools so: give crowd_as_objects=True "
        "(config.data.train.crowd_as_objects) to take them as objects"
    )
    return Fault(source, reason, FaultKind.CROWD, "error" if marked == number else "warning")


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


def _categories(
    content: dict[str, list], source: str, faults: list[Fault]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Returns ids and names of the categories, by ascending id."""
    names: dict[int, str] = {}
    entries = _without_root(content, source, faults)
    for entry in entries:
        category_id = whole(entry.get("id")) if isinstance(entry, dict) else None
        if category_id is None or "name" not in entry:
            raise ValueError(f"{source}: category {entry!r}; expected a whole 'id' and a 'name'")
        if category_id in names:
            raise ValueError(f"{source}: two categories have the id {category_id}")
        if str(entry["name"]) in names.values():
            raise ValueError(
                f"{source}: two categories have the name {entry['name']!r}; rename one of them, or "
                "give their annotations one id, since results are told apart by names"
            )
        names[category_id] = str(entry["name"])
    ids = tuple(sorted(names))
    return ids, tuple(names[category] for category in ids)


def _without_root(content: dict[str, list], source: str, faults: list[Fault]) -> list:
    """Returns the categories but for Roboflow's root: all others' supercategory, of no annotation.

    It has the project's name, often that of a class, and would be a class without objects.
    """
    entries = content["categories"]
    if not all(isinstance(entry, dict) for entry in entries):
        return entries
    for root in entries:
        others = [entry for entry in entries if entry is not root]
        if others and all(entry.get("supercategory") == root.get("name") for entry in others):
            break
    else:
        return entries
    if root.get("supercategory") not in (None, "", "none", root.get("name")):
        return entries
    annotated = (a.get("category_id") for a in content["annotations"] if isinstance(a, dict))
    if root.get("name") is None or whole(root.get("id")) in set(map(whole, annotated)):
        return entries
    reason = (
        f"category {root.get('id')}, {root['name']!r}, is the supercategory of all others and has "
        "no annotation: it is left out, as the root that Roboflow's exports have"
    )
    faults.append(Fault(source, reason, FaultKind.CLASS_WITHOUT_OBJECTS, "warning"))
    return others


def _images(
    content: dict[str, list], folder: str, source: str, max_pixels: int, faults: list[Fault]
) -> tuple[dict[int | str, _Image], list[int | str]]:
    """Returns each usable image by its id, and the ids of those that are not usable."""
    entries_of: defaultdict[int | str, list[dict]] = defaultdict(list)
    for number, entry in enumerate(content["images"]):
        image_id = as_id(entry.get("id")) if isinstance(entry, dict) else None
        if image_id is None:
            faults.append(Fault(f"{source}: image {number}", "it has no 'id'", FaultKind.ENTRY))
        elif not any(_same_file(entry, other) for other in entries_of[image_id]):
            entries_of[image_id].append(entry)
    found: dict[int | str, _Image] = {}
    unusable = []

    @cache
    def objects() -> Counter:
        entries = (entry for entry in content["annotations"] if isinstance(entry, dict))
        return Counter(as_id(entry.get("image_id")) for entry in entries)

    for image_id, entries in entries_of.items():
        try:
            if len(entries) > 1:
                files = ", ".join(str(entry.get("file_name")) for entry in entries[:3])
                raise FaultError(
                    FaultKind.ID,
                    f"{len(entries)} images ({files}) have the same id; whose the annotations are "
                    "cannot be told, so none of them is used",
                )
            found[image_id] = _image(image_id, entries[0], folder, max_pixels)
        except (ValueError, OSError) as error:
            where, lost = f"{source}: image {image_id}", objects()[image_id]
            faults.append(fault_of(error, where, objects=lost))
            unusable.append(image_id)
    return found, unusable


def _same_file(entry: dict, other: dict) -> bool:
    return all(entry.get(key) == other.get(key) for key in ("file_name", "coco_url"))


def _image(image_id: int | str, entry: dict, folder: str, max_pixels: int) -> _Image:
    """Returns one image; ValueError or OSError says why it is unusable."""
    path = path_in(folder, _file_name(entry, folder))
    size = size_of(entry.get("height"), entry.get("width"))
    if size is None:
        size = image_size(path, max_pixels)
    height, width = size
    check_stated_size(height, width, max_pixels)
    return image_id, path, height, width


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
