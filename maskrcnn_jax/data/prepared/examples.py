"""The record of an example of a prepared dataset, checked as an annotation file is.

No array of it reaches pycocotools unchecked: that reads and writes beyond its memory where corners
are far away or run lengths are wrong.
"""

import json
from typing import Any

import numpy as np

from maskrcnn_jax.class_names import NO_CLASS
from maskrcnn_jax.data.masks import rle
from maskrcnn_jax.data.masks.outlines import rectangle
from maskrcnn_jax.data.masks.segmentation import RLE, Polygons, Segmentation, check_outline
from maskrcnn_jax.data.prepared.tfrecords import column
from maskrcnn_jax.data.records import Record
from maskrcnn_jax.faults import FaultError, FaultKind
from maskrcnn_jax.images.read import check_stated_size

_MOST_ID = 2**63


def record_of(
    example: Any, num_classes: int, max_pixels: int
) -> tuple[Record, list[tuple[int, FaultError]]]:
    """Returns the record of an example, of which the image is not looked at.

    An object whose mask cannot be used becomes a crowd region of its box, so that it is not taken
    for background.

    Args:
        example: a tf.train.Example message.
        num_classes: K.
        max_pixels: an image of more pixels is refused.

    Returns:
        The record, whose path is empty; and what is odd about it, with the annotation's id.

    Raises:
        ValueError: nothing of the example can be used.
    """
    height, width = _one(example, "height", "int64"), _one(example, "width", "int64")
    check_stated_size(height, width, max_pixels)
    image_id = json.loads(_one(example, "image_id", "bytes"))
    if type(image_id) not in (int, str) or (type(image_id) is int and abs(image_id) >= _MOST_ID):
        raise ValueError(f"its image_id is {image_id!r:.80}; expected a whole number or text")
    masks = column(example, "objects/mask", "bytes")
    polygons = column(example, "objects/polygons", "bytes")
    boxes, classes, crowd, areas, ids = _columns(example, len(masks), num_classes)
    if not np.all((boxes >= 0) & (boxes <= [width, height] * 2)):
        raise FaultError(FaultKind.BOX, f"a box in it leaves the image of {height} x {width}")
    segmentations: list[Segmentation] = []
    odd: list[tuple[int, FaultError]] = []
    for i, (mask, parts) in enumerate(zip(masks, polygons, strict=True)):
        try:
            segmentations.append(_segmentation(mask, parts, height, width))
        except ValueError as error:
            kind = error.kind if isinstance(error, FaultError) else FaultKind.MASK
            reason = f"{error}; it is ignored as a crowd region, so as not to become background"
            odd.append((int(ids[i]), FaultError(kind, reason)))
            segmentations.append(Polygons([rectangle(*map(float, boxes[i]))]))
            crowd[i] = True
    return Record(
        image_id, "", height, width, boxes, classes, crowd, segmentations, ids, areas
    ), odd


def _one(example: Any, name: str, kind: str) -> Any:
    given = column(example, name, kind)
    if len(given) != 1:
        raise ValueError(f"it has {len(given)} values {name}; expected one")
    return given[0]


def _columns(
    example: Any, count: int, num_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns boxes, classes, crowd, areas and annotation ids of an example's objects."""
    names = ("polygons", "class", "crowd", "area", "annotation_id", "box")
    kinds = ("bytes", "int64", "int64", "float", "int64", "float")
    given = [column(example, f"objects/{n}", k) for n, k in zip(names, kinds, strict=True)]
    lengths = [len(values) for values in given]
    if lengths != [count] * 5 + [4 * count]:
        shown = ", ".join(f"{n}: {length}" for n, length in zip(names, lengths, strict=True))
        raise ValueError(f"it has {count} masks, but {shown}; expected as many of each")
    _, classes, crowd, areas, ids, corners = given
    boxes = np.array(corners, np.float32).reshape(-1, 4)
    unknown = [
        number
        for number, is_crowd in zip(classes, crowd, strict=True)
        if not 1 <= number <= num_classes and not (number == NO_CLASS and is_crowd)
    ]
    if unknown:
        raise FaultError(
            FaultKind.CLASS, f"it has the class {unknown[0]}; expected 1 to {num_classes}"
        )
    if not (np.isfinite(boxes).all() and np.isfinite(areas).all()):
        raise FaultError(FaultKind.BOX, "a box or an area in it is not a finite number")
    if not np.all(boxes[:, 2:] > boxes[:, :2]):
        raise FaultError(FaultKind.BOX, "a box in it has no area; expected x1 < x2 and y1 < y2")
    return (
        boxes,
        np.array(classes, np.int32),
        np.array(crowd, bool),
        np.array(areas, np.float32),
        np.array(ids, np.int64),
    )


def _segmentation(mask: bytes, polygons: bytes, height: int, width: int) -> Segmentation:
    """Returns the polygons of an instance that has some, and else its run lengths."""
    if not polygons:
        return RLE((height, width), rle.compress(mask, height, width))
    content, parts = json.loads(polygons), []
    if not isinstance(content, list) or not content:
        raise FaultError(FaultKind.OUTLINE, f"its polygons are {content!r:.80}; expected a list")
    for given in content:
        if not isinstance(given, list) or len(given) < 6 or len(given) % 2:
            reason = f"a polygon is {given!r:.80}; expected x, y of at least three corners"
            raise FaultError(FaultKind.OUTLINE, reason)
        if not all(type(value) in (int, float) for value in given):
            raise FaultError(FaultKind.OUTLINE, "a polygon is not a list of numbers")
        parts.append(np.array(given, np.float64).reshape(-1, 2))
    check_outline(parts, height, width)
    return Polygons(parts)
