"""The annotations of COCO's format as instances, and what becomes of those that are faulty.

An object of which only the box or only the mask is sound is not left out, since its pixels would be
taught as background: its mask gives the box, or its box becomes a crowd region, which is ignored.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import numpy as np
from pycocotools import mask as coco_mask

from maskrcnn_jax.class_names import NO_CLASS
from maskrcnn_jax.data.faults import Fault, fault_of
from maskrcnn_jax.data.files.json_values import Ids, as_id, number, whole
from maskrcnn_jax.data.formats.keypoints import coco_keypoints
from maskrcnn_jax.data.masks import rle
from maskrcnn_jax.data.masks.outlines import rectangle
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

_MOST_OUTSIDE = 10  # image sides from the origin to a polygon's corner

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Meaning:
    """How annotations are understood.

    Attributes:
        class_of: the class 1..K of each category id.
        crowd_as_objects: whether those marked as crowd regions are objects.
        boxes_as_masks: whether the box of an object without a mask is its mask.
        keypoints: P, the number of keypoints that are read; 0: none.
        columns: which of a category's keypoints these are, of those that name them.
    """

    class_of: Mapping[int, int]
    crowd_as_objects: bool
    boxes_as_masks: bool
    keypoints: int = 0
    columns: Mapping[int, Sequence[int]] = field(default_factory=dict)


def read_instances(
    entries: list,
    sizes: Mapping[int | str, tuple[int, int] | None],
    meaning: Meaning,
    source: str,
    faults: list[Fault],
) -> dict[int | str, list[Instance]]:
    """Returns the usable annotations of each image, by image id.

    Args:
        entries: `annotations` of the file.
        sizes: (height, width) of each image by its id; None of images whose annotations are passed
            over without a word.
        meaning: how they are understood.
        source: the file, for faults.
        faults: gets those found.
    """
    ids, instances = Ids(sizes), defaultdict(list)
    numbers = _numbers(entries, source, faults)
    for number_, entry in zip(numbers, entries, strict=True):
        warnings: list[FaultError] = []
        problem: FaultError | None = None
        try:
            if not isinstance(entry, dict):
                raise FaultError(FaultKind.ENTRY, f"it is {entry!r:.80}; expected an object")
            image_id = ids.find(entry.get("image_id"))
            if image_id is None:
                reason = f"its image_id {entry.get('image_id')!r:.80} is not that of a usable image"
                raise FaultError(FaultKind.UNKNOWN_IMAGE, reason)
            size = sizes[image_id]
            if size is not None:
                found = _instance(entry, number_, size, meaning, warnings)
                instances[image_id].append(found)
        except FaultError as error:
            problem = error
        if problem is not None or warnings:
            where = f"{source}: annotation {_name(entry, number_)}"
            faults += [fault_of(problem, where, objects=1)] if problem is not None else []
            faults += [fault_of(warning, where, "warning") for warning in warnings]
    return instances


def _name(entry: Any, number_: int) -> object:
    given = as_id(entry.get("id")) if isinstance(entry, dict) else None
    return number_ if given is None else given


def _numbers(entries: list, source: str, faults: list[Fault]) -> list[int]:
    """Returns the number of each annotation: its id, or where that is not its own a free one.

    Ids serve messages alone, and many programs start from 1 in each image.
    """
    given = [whole(entry.get("id")) if isinstance(entry, dict) else None for entry in entries]
    seen: set[int] = set()
    odd = []
    for place, number_ in enumerate(given):
        if number_ is None or abs(number_) >= 2**62 or number_ in seen:
            odd.append(place)
        else:
            seen.add(number_)
    free = max(seen, default=0) + 1
    numbers: list[int] = list(given)  # type: ignore[arg-type]
    for offset, place in enumerate(odd):
        numbers[place] = free + offset
    if odd:
        reason = (
            "its 'id' is missing, not a whole number, or that of an earlier one; such annotations "
            f"are used, numbered from {free} on"
        )
        first = f"{source}: annotation {_name(entries[odd[0]], odd[0] + 1)}"
        more = f" (and {len(odd) - 1} more)" if len(odd) > 1 else ""
        faults.append(Fault(first, reason + more, FaultKind.ID, "warning", count=len(odd)))
    return numbers


def _instance(
    entry: dict,
    annotation_id: int,
    size: tuple[int, int],
    meaning: Meaning,
    warnings: list[FaultError],
) -> Instance:
    """Returns one annotation as an instance; FaultError says why nothing of it can be used."""
    problems: list[FaultError] = []  # each makes it a crowd region
    class_number, crowd = _class(entry, meaning, problems), _crowd(entry, meaning, problems)
    mask = _tried(problems, _segmentation, entry.get("segmentation"), *size, warnings)
    box_problems: list[FaultError] = []
    box = _tried(box_problems, _box, entry.get("bbox"), *size, warnings)
    if mask is None:
        if box is None:
            raise [*box_problems, *problems][0]
        mask = Polygons([rectangle(*map(float, box))])
        if meaning.boxes_as_masks:
            problems.pop()  # of the mask, the last
    if box is None:
        box = _box_of_mask(mask, *size)
        reasons = (f"{problem}; the box of its mask is taken" for problem in box_problems)
        warnings.extend(FaultError(FaultKind.BOX, reason) for reason in reasons)
    if problems:
        warnings.append(Ignored(problems[0]))
    area = number(entry.get("area"))
    if area is None or not area > 0:
        if entry.get("area") is not None:
            reason = f"area is {entry['area']!r:.80}; that of the mask is taken"
            warnings.append(FaultError(FaultKind.AREA, reason))
        area = float(coco_mask.area(to_rle(mask, *size)))
    is_crowd = crowd or bool(problems)
    points = _keypoints(entry, meaning, warnings) if meaning.keypoints and not is_crowd else None
    return Instance(box, class_number, is_crowd, mask, annotation_id, area, points)


def _keypoints(entry: dict, meaning: Meaning, warnings: list[FaultError]) -> np.ndarray | None:
    columns = meaning.columns.get(whole(entry.get("category_id")) or 0)
    return _tried(warnings, coco_keypoints, entry.get("keypoints"), columns, meaning.keypoints)


def _tried(problems: list[FaultError], function: Callable[..., T], *arguments: Any) -> T | None:
    """Returns what a function gives; None, and the problem in the list, where it raises one."""
    try:
        return function(*arguments)
    except FaultError as error:
        problems.append(error)
        return None


def _class(entry: dict, meaning: Meaning, problems: list[FaultError]) -> int:
    """Returns the class of an annotation; none, for a crowd region, where it is unknown."""
    category = whole(entry.get("category_id"))
    if category is not None and category in meaning.class_of:
        return meaning.class_of[category]
    reason = f"category_id {entry.get('category_id')!r:.80} is not in the list of categories"
    problems.append(FaultError(FaultKind.CLASS, reason))
    return NO_CLASS


def _crowd(entry: dict, meaning: Meaning, problems: list[FaultError]) -> bool:
    """Returns whether an annotation is to be a crowd region."""
    given = entry.get("iscrowd")
    crowd = int(given) if isinstance(given, bool) else 0 if given is None else whole(given)
    if crowd not in (0, 1):
        problems.append(FaultError(FaultKind.CROWD, f"iscrowd is {given!r:.80}; expected 0 or 1"))
    return bool(crowd) and not meaning.crowd_as_objects


def _box(bbox: Any, height: int, width: int, warnings: list[FaultError]) -> np.ndarray | None:
    """Returns the box clipped to its image, [4] float32 xyxy; None where there is none."""
    if bbox is None or bbox == []:
        return None
    numbers = [number(value) for value in bbox] if isinstance(bbox, list) else []
    if len(numbers) != 4 or None in numbers:
        reason = f"bbox is {bbox!r:.80}; expected four finite numbers [x, y, width, height]"
        raise FaultError(FaultKind.BOX, reason)
    x, y, w, h = cast(list[float], numbers)
    if not (w > 0 and h > 0):
        reason = f"bbox {bbox} has no area; expected a width and height above 0"
        raise FaultError(FaultKind.BOX, reason)
    # In float32, as records keep them: a sliver may vanish there.
    right, bottom = x + w, y + h
    x1, y1, x2, y2 = box = np.array(
        (
            0.0 if x < 0 else width if x > width else x,
            0.0 if y < 0 else height if y > height else y,
            0.0 if right < 0 else width if right > width else right,
            0.0 if bottom < 0 else height if bottom > height else bottom,
        ),
        np.float32,
    )
    if not (x2 > x1 and y2 > y1):
        reason = f"bbox {bbox} lies outside its image of {height} x {width}"
        raise FaultError(FaultKind.BOX_OUTSIDE, reason)
    if x < -1 or y < -1 or right > width + 1 or bottom > height + 1:
        reason = f"bbox {bbox} leaves its image of {height} x {width}; it is clipped"
        warnings.append(FaultError(FaultKind.BOX_OUTSIDE, reason))
    return box


def _box_of_mask(mask: Segmentation, height: int, width: int) -> np.ndarray:
    """Returns the part in the image of the box tight around a mask, [4] float32 xyxy."""
    found = box_of(mask)
    assert found is not None  # a mask in a JSON file is no file
    box = np.clip(found, 0, [width, height] * 2).astype(np.float32)
    if not (box[2] > box[0] and box[3] > box[1]):
        reason = f"its mask, within {found.tolist()}, lies outside its image of {height} x {width}"
        raise FaultError(FaultKind.BOX_OUTSIDE, reason)
    return box


def _segmentation(given: Any, height: int, width: int, warnings: list[FaultError]) -> Segmentation:
    """Returns the mask in whichever of COCO's three forms it is given, or as one flat polygon."""
    if isinstance(given, dict):
        return _runs(given, height, width)
    if not isinstance(given, list) or not given:
        reason = f"segmentation is {given!r:.80}; expected polygons or run lengths"
        raise FaultError(FaultKind.MASK, reason)
    if not any(isinstance(part, list) for part in given):
        given = [given]  # as VIA exports a polygon
    elif len(given) > 2 and all(isinstance(part, list) and len(part) == 2 for part in given):
        given = [[value for point in given for value in point]]  # [[x, y], ...]
    try:  # nearly all are sound, and looked at once
        parts = [_corners(polygon) for polygon in given]
        check_outline(parts, height, width)
        return Polygons(parts)
    except FaultError:
        return _sound_polygons(given, height, width, warnings)


def _sound_polygons(given: list, height: int, width: int, warnings: list[FaultError]) -> Polygons:
    """Returns those of the polygons that can be used; a warning tells of each of the others."""
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
    check_outline(parts, height, width)
    return Polygons(parts)


def _runs(given: dict, height: int, width: int) -> RLE:
    """Returns a run-length mask."""
    size = given.get("size")
    size = [whole(side) for side in size] if isinstance(size, list) else size
    if size != [height, width]:
        raise FaultError(
            FaultKind.MASK_SIZE,
            f"its run-length mask is of size {given.get('size')!r:.80}; expected [height, width] "
            f"of the image, [{height}, {width}]",
        )
    counts = given.get("counts")
    if isinstance(counts, list):
        lengths = [whole(count) for count in counts]
        counts = counts if None in lengths else lengths
    text = rle.compress(counts, height, width)
    if not rle.run_lengths(text)[1::2].any():
        raise FaultError(FaultKind.EMPTY_MASK, "its run-length mask is empty")
    return RLE((height, width), text)


def _polygon(given: Any, most: float) -> np.ndarray:
    """Returns a polygon's corners, [k, 2] float64 (x, y), none of them further out than `most`."""
    corners = _corners(given)
    furthest = np.abs(corners).max()
    if not math.isfinite(furthest):
        reason = "a polygon is not a list of finite numbers [x1, y1, x2, y2, ...]"
        raise FaultError(FaultKind.OUTLINE, reason)
    if furthest > most:
        reason = f"a polygon reaches {furthest:g}, far out of its image"
        raise FaultError(FaultKind.BOX_OUTSIDE, reason)
    return corners


def _corners(given: Any) -> np.ndarray:
    """Returns a polygon's corners, [k, 2] float64 (x, y), wherever they are."""
    if not isinstance(given, list) or len(given) < 6 or len(given) % 2:
        length = f"{len(given)} numbers" if isinstance(given, list) else f"{given!r:.80}"
        reason = f"a polygon has {length}; expected x, y of at least three corners"
        raise FaultError(FaultKind.OUTLINE, reason)
    try:
        corners = np.array(given, np.float64)
    except (TypeError, ValueError, OverflowError):
        corners = np.empty((0, 0))
    if corners.ndim != 1:
        reason = "a polygon is not a list of finite numbers [x1, y1, x2, y2, ...]"
        raise FaultError(FaultKind.OUTLINE, reason)
    return corners.reshape(-1, 2)
