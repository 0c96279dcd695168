"""Instances made of their masks alone, box and area measured, and the numbers of classes."""

from collections.abc import Iterable, Sequence

import numpy as np
from pycocotools import mask as coco_mask

from maskrcnn_jax.class_names import NO_CLASS
from maskrcnn_jax.data.masks.segmentation import (
    RLE,
    Polygons,
    Segmentation,
    box_of,
    check_outline,
    to_rle,
)
from maskrcnn_jax.data.records import Instance
from maskrcnn_jax.faults import FaultError, FaultKind, Ignored

_MOST_OUTSIDE = 10  # image sides; outlines that go further are not of this image


def class_numbers(given: Sequence[str], found: Iterable[str] = ()) -> dict[str, int]:
    """Returns the number, 1..K, of each class by its name.

    Args:
        given: all names in the order wanted; or none.
        found: the names that the annotations use: they are sorted where none are given.

    Raises:
        ValueError: there is no name, one is empty, or two are equal.
    """
    if isinstance(given, str):
        raise ValueError(f"class_names is the text {given!r}; expected a list, ({given!r},)")
    names = list(given) or sorted(set(found))
    if not names:
        raise ValueError("no class: no annotation names one, and class_names is not given")
    faulty = [n for n in names if not isinstance(n, str) or not n or names.count(n) > 1]
    if faulty:
        raise ValueError(f"class_names {names} has {faulty[0]!r}; expected names, each once")
    return {name: number for number, name in enumerate(names, 1)}


def class_number(name: object, numbers: dict[str, int]) -> int:
    """Returns the number of a class; ValueError lists the known names if it is not one."""
    if not isinstance(name, str) or name not in numbers:
        shown = ", ".join(list(numbers)[:20]) + (", ..." if len(numbers) > 20 else "")
        raise FaultError(FaultKind.CLASS, f"its class {name!r:.80} is not in class_names ({shown})")
    return numbers[name]


def class_or_ignored(
    name: object, numbers: dict[str, int], warnings: list[FaultError]
) -> tuple[int, bool]:
    """Returns the class of an object, and whether it is ignored, as a crowd region of any class.

    What an object of an unknown class shows must not be taught as background.

    Args:
        name: of the class.
        numbers: of the known ones.
        warnings: gets an entry where the class is unknown.
    """
    try:
        return class_number(name, numbers), False
    except FaultError as error:
        warnings.append(Ignored(error))
        return NO_CLASS, True


def instance(
    segmentation: Segmentation,
    class_number: int,
    height: int,
    width: int,
    crowd: bool = False,
    warnings: list[FaultError] | None = None,
) -> Instance:
    """Returns the instance of a mask; its annotation id is 0.

    Args:
        segmentation: its mask.
        class_number: 1..K.
        height: of the image, in pixels.
        width: of the image, in pixels.
        crowd: whether it is a crowd region.
        warnings: gets an entry where polygons leave the image by more than a pixel.

    Raises:
        ValueError: the mask is empty, of another size, or far outside the image.
    """
    size = np.array([width, height] * 2)
    if isinstance(segmentation, Polygons):
        measured: Polygons | RLE = segmentation
    else:  # a mask file, say, which is read here
        measured = RLE((height, width), to_rle(segmentation, height, width)["counts"])
    extent = box_of(measured)
    # Filling takes time and memory by the length of the outline.
    if np.any(extent < -_MOST_OUTSIDE * size) or np.any(extent > (1 + _MOST_OUTSIDE) * size):
        raise FaultError(
            FaultKind.BOX_OUTSIDE,
            f"its box {extent.tolist()} (xyxy) is far out of its image of {height} x {width}",
        )
    if isinstance(measured, Polygons):
        check_outline(measured.parts, height, width)
    encoded = to_rle(measured, height, width)
    area = coco_mask.area(encoded)
    x1, y1, x2, y2 = np.clip(extent, 0, size).astype(np.float32)
    if not (area and x2 > x1 and y2 > y1):
        raise FaultError(
            FaultKind.EMPTY_MASK, f"its mask covers no pixel of the image of {height} x {width}"
        )
    if warnings is not None and np.any((extent < -1) | (extent > size + 1)):
        shown = np.round(extent, 1).tolist()
        reason = f"its box {shown} (xyxy) leaves its image of {height} x {width}: clipped"
        warnings.append(FaultError(FaultKind.BOX_OUTSIDE, reason))
    return Instance((x1, y1, x2, y2), class_number, crowd, segmentation, 0, float(area))


def mask_instance(mask: np.ndarray, class_number: int, height: int, width: int) -> Instance:
    """Returns the instance whose mask is an array.

    Args:
        mask: [height, width] of the image, 0 or 1.
        class_number: 1..K.
        height: of the image, in pixels.
        width: of the image, in pixels.

    Raises:
        ValueError: the mask is of another size, or empty.
    """
    check_mask_size(mask, height, width)
    if not mask.any():
        raise FaultError(FaultKind.EMPTY_MASK, "the mask is empty")
    return instance(encode(mask), class_number, height, width)


def check_mask_size(mask: np.ndarray, height: int, width: int) -> None:
    """Raises ValueError if a mask has not the size of its image."""
    if mask.shape != (height, width):
        raise FaultError(
            FaultKind.MASK_SIZE,
            f"the mask is {mask.shape[0]} x {mask.shape[1]} (height x width); its image is "
            f"{height} x {width}",
        )


def encode(mask: np.ndarray) -> RLE:
    """Returns a mask [height, width], 0 or 1, as run lengths."""
    encoded = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return RLE(mask.shape, encoded["counts"])


def union(parts: list[np.ndarray | RLE], height: int, width: int) -> Segmentation:
    """Returns the mask of an instance that is drawn in parts.

    Args:
        parts: polygons [k, 2], run lengths of whole images, or some of both.
        height: of the image, in pixels.
        width: of the image, in pixels.
    """
    polygons = [part for part in parts if isinstance(part, np.ndarray)]
    if len(polygons) == len(parts):
        return Polygons(polygons)
    masks = [part if isinstance(part, RLE) else Polygons([part]) for part in parts]
    merged = coco_mask.merge([to_rle(mask, height, width) for mask in masks])
    return RLE((height, width), merged["counts"])
