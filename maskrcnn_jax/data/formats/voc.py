"""The reader of Pascal VOC's layout of 2007 to 2012: objects with masks, or boxes alone.

    JPEGImages/<id>.jpg           the image
    SegmentationObject/<id>.png   the number of the object in each pixel: 0 none, 255 void
    SegmentationClass/<id>.png    the number of its class, likewise
    ImageSets/Segmentation/*.txt  the ids of a set of images, one a line; if wanted. Of boxes
                                  alone ImageSets/Main
    Annotations/<id>.xml          boxes and more of objects, also of those without a mask; if there
    class_names.txt               _background_ and the classes, one a line; if not VOC's twenty

Source: Everingham et al., "The PASCAL Visual Object Classes Challenge 2012 Development Kit".
"""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from maskrcnn_jax.class_names import NO_CLASS
from maskrcnn_jax.data.faults import fault_of
from maskrcnn_jax.data.files.annotation_files import read_lines
from maskrcnn_jax.data.files.paths import by_stem, existing, files_in, path_in, pictures, stem
from maskrcnn_jax.data.formats.voc_objects import add_objects, read_objects
from maskrcnn_jax.data.masks.instances import check_mask_size, class_numbers, mask_instance
from maskrcnn_jax.data.read_options import DEFAULTS, ReadOptions
from maskrcnn_jax.data.records import Dataset, OneRead, make_dataset, make_record, read_each
from maskrcnn_jax.faults import FaultError, FaultKind, Ignored
from maskrcnn_jax.images.read import image_size
from maskrcnn_jax.images.read_masks import read_ids

CLASS_NAMES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
_OBJECTS, _XML = "SegmentationObject", "Annotations"
_BACKGROUND = ("_background_", "__background__", "background")
_VOID = 255  # the borders of objects, and whatever could not be told
_MIN_SHARE = 0.5  # of an object's pixels that are of one class


def read(
    folder: str | Path,
    image_set: str = "",
    class_names: Sequence[str] = (),
    options: ReadOptions = DEFAULTS,
) -> Dataset:
    """Returns a dataset in the layout of Pascal VOC; class c is index c of its class images.

    Every mask is read once, here; boxes are tight around them. Void pixels belong to no object.
    Objects that only the XML file has, since no mask was drawn, become crowd regions of their
    boxes (with `boxes_as_masks` objects), and those that it calls difficult crowd regions of their
    masks: neither is learned, nor is a detection there held to be wrong.

    With `boxes_as_masks` a folder without SegmentationObject, as LabelImg writes it, has boxes
    alone, those of its XML files.

    Args:
        folder: that has the folders above, VOC2012 say.
        image_set: train, val, trainval, or another file of ImageSets/Segmentation; "" takes every
            image of SegmentationObject. Of boxes alone: of ImageSets/Main, and of Annotations.
        class_names: of the indices from 1 on; by default those of class_names.txt in the folder,
            or VOC's twenty.
        options: see `ReadOptions`.

    Raises:
        ValueError: a folder or the image set is missing, or, with on_error="raise", there are
            faults.
    """
    folder = existing(folder, "folder", is_folder=True)
    of_boxes = options.boxes_as_masks and not os.path.isdir(os.path.join(folder, _OBJECTS))
    for part in ("JPEGImages", *((_XML,) if of_boxes else (_OBJECTS, "SegmentationClass"))):
        existing(os.path.join(folder, part), part, is_folder=True)
    images = by_stem(os.path.join(folder, "JPEGImages"))
    numbers = class_numbers(class_names or _class_names(folder))
    places = ("Main", _XML) if of_boxes else ("Segmentation", _OBJECTS)
    names = options.chosen(_ids(folder, image_set, *places))
    read_one = partial(
        _read_boxes if of_boxes else _read_one, folder, images, numbers, options=options
    )
    records, faults = read_each(read_one, names)
    name = folder, image_set, options.split
    return make_dataset(name, list(numbers), records, faults, options)


def _class_names(folder: str) -> Sequence[str]:
    path = os.path.join(folder, "class_names.txt")
    if not os.path.isfile(path):
        return CLASS_NAMES
    names = [name for name in read_lines(path) if name != "__ignore__"]
    if not names or names[0] not in _BACKGROUND:
        raise ValueError(
            f"{path} begins with {names[:1]}; expected {_BACKGROUND[0]}, the name of index 0"
        )
    return names[1:]


def _ids(folder: str, image_set: str, sets: str, part: str) -> list[str]:
    """Returns the ids of a set of images in ImageSets/`sets`, or of all files of the part."""
    if not image_set:
        source = os.path.join(folder, part)
        if part == _XML:
            ids = [os.path.splitext(name)[0] for name in files_in(source, ".xml")]
        else:
            ids = list(by_stem(source))
    else:
        source = path_in(os.path.join(folder, "ImageSets", sets), f"{image_set}.txt")
        ids = list(dict.fromkeys(read_lines(existing(source, "image_set", is_folder=False))))
    if not ids:
        suffix = "xml" if part == _XML else "png"
        raise ValueError(f"{source} has no image; expected files <id>.{suffix}, or one id a line")
    return ids


def _read_boxes(
    folder: str, images: dict[str, str], numbers: dict[str, int], name: str, options: ReadOptions
) -> OneRead:
    """Reads one image's size and the boxes of its XML file."""
    xml = os.path.join(folder, _XML, f"{name}.xml")
    try:
        image = _image_of(folder, images, name)
        height, width = image_size(image, options.max_pixels)
        objects = read_objects(xml, height, width)
    except (ValueError, OSError) as error:
        return None, [fault_of(error, f"{folder}: image {name}", image_id=name)]
    instances, faults = add_objects([], objects, numbers, height, width, xml, boxes_as_masks=True)
    return make_record(name, image, height, width, instances), faults


def _image_of(folder: str, images: dict[str, str], name: str) -> str:
    """Returns the path of an image."""
    if stem(name) not in images:
        raise FaultError(FaultKind.MISSING_FILE, f"there is no JPEGImages/{name}.jpg")
    return os.path.join(folder, "JPEGImages", images[stem(name)])


def _read_one(
    folder: str, images: dict[str, str], numbers: dict[str, int], name: str, options: ReadOptions
) -> OneRead:
    """Reads one image's size, masks and XML file."""
    where = f"{folder}: image {name}"
    xml = os.path.join(folder, _XML, f"{name}.xml")
    try:
        image = _image_of(folder, images, name)
        ids, classes = (
            read_ids(_mask_file(folder, part, name), options.max_pixels)
            for part in (_OBJECTS, "SegmentationClass")
        )
        # The size of the upright photograph, or as the camera stored it.
        height, width = image_size(image, options.max_pixels, ids.shape)
        check_mask_size(ids, height, width)
        check_mask_size(classes, height, width)
        objects = read_objects(xml, height, width) if os.path.isfile(xml) else []
    except (ValueError, OSError) as error:
        return None, [fault_of(error, where, image_id=name)]
    instances, faults = [], []
    for number in np.unique(ids):
        mask = ids == number
        if number == 0 or _is_void(number, ids.dtype, classes[mask]):
            continue
        where_object, problem = f"{where}: object {number}", None
        try:
            class_number = _class_of(classes[mask], len(numbers))
        except FaultError as error:
            class_number, problem = NO_CLASS, Ignored(error)
            faults.append(fault_of(problem, where_object, "warning"))
        try:
            found = mask_instance(mask, class_number, height, width)
            instances.append(found._replace(crowd=problem is not None))
        except ValueError as error:
            faults.append(fault_of(error, where_object, objects=1))
    instances, added = add_objects(
        instances, objects, numbers, height, width, xml, options.boxes_as_masks
    )
    return make_record(name, image, height, width, instances), faults + added


def _mask_file(folder: str, part: str, name: str) -> str:
    """Returns the path of an image's masks, PNG or else of any suffix."""
    base = os.path.join(folder, part)
    path = path_in(base, f"{name}.png")
    others = [] if os.path.isfile(path) else [n for n in pictures(base) if stem(n) == stem(name)]
    return os.path.join(base, others[0]) if others else path


def _is_void(number: int, depth: np.dtype, classes: np.ndarray) -> bool:
    """Returns whether a number stands for void pixels: 255 of 8 bits.

    Of 16 bits it may as well be the 255th object; there, the class of its pixels tells.
    """
    if depth.itemsize == 1:
        return number == _VOID
    return (
        number in (_VOID, np.iinfo(depth).max)
        and np.mean((classes == 0) | (classes == _VOID)) > 0.5
    )


def _class_of(indices: np.ndarray, count: int) -> int:
    """Returns the class of an object, given the class indices of its pixels."""
    present = dict(zip(*(a.tolist() for a in np.unique(indices, return_counts=True)), strict=True))
    most = max(present, key=present.__getitem__)
    if not 1 <= most <= count or present[most] < _MIN_SHARE * len(indices):
        raise FaultError(
            FaultKind.CLASS,
            f"its {len(indices)} pixels have the class indices {present} (index: pixels) in "
            f"SegmentationClass; expected one from 1 to {count} in most of them",
        )
    return most
