"""The objects of overlapping tiles as those of the whole image: an object seen twice is one.

Two masks of neighbouring tiles are compared where both tiles look, so that what only one of them
can see counts for nothing. An object that no tile's border cuts is taken from one tile as it is;
only an object that every tile cuts is joined of its parts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from maskrcnn_jax.images.paste import MaskCrop
from maskrcnn_jax.images.tiles import Window
from maskrcnn_jax.inference.result import Result

_SAME = 0.5  # overlap of two masks of one object
_BORDER = 2.0  # pixels from a tile's border within which a box is cut by it


def merge_tiles(
    results: Sequence[Result], windows: Sequence[Window], height: int, width: int
) -> Result:
    """Returns what tiles of an image show as the result of the image.

    Objects of one class and of different tiles are one object where their masks, within what both
    tiles show, overlap by half: of their union, or, where a tile's border cuts one of them, of the
    smaller one. The object that no border cuts is kept, the best where there are several; parts of
    one that all are cut become one mask with the highest of their scores.

    Args:
        results: of each tile, at least one, in pixels of the tile.
        windows: where each tile lies in the image.
        height: of the image, pixels.
        width: of the image, pixels.

    Returns:
        The result, best first.
    """
    together = _joined([_moved(*pair) for pair in zip(results, windows, strict=True)])
    together = replace(together, height=height, width=width)
    tiles = np.repeat(np.arange(len(results)), [len(result) for result in results])
    seen = np.array(windows)[tiles]
    is_cut = _cut(together.boxes, seen, height, width)
    kept: list[int] = []
    groups = _Groups(len(together))
    # Whole objects first, the best of them first.
    for i in np.lexsort((-together.scores, is_cut)):
        twins = list(_twins(int(i), together, tiles, seen, is_cut, kept))
        if any(not is_cut[j] for j in twins):
            continue  # it is there already, and better seen
        kept.append(int(i))
        for j in twins:
            groups.join(j, int(i))
    merged = [_union(together.chosen(members)) for members in groups.of(kept)]
    found = _joined(merged or [together])
    return found.chosen(np.argsort(-found.scores, kind="stable"))


def _moved(result: Result, window: Window) -> Result:
    """Returns the result of a tile in pixels of the image."""
    x, y = window[:2]
    return replace(
        result,
        boxes=result.boxes + np.array([x, y, x, y], np.float32),
        crops=tuple(MaskCrop(crop.mask, crop.y + y, crop.x + x) for crop in result.crops),
        keypoints=(
            None if result.keypoints is None else result.keypoints + np.array([x, y, 0], np.float32)
        ),
    )


def _joined(results: Sequence[Result]) -> Result:
    """Returns the objects of several results of one image, one after the other."""
    arrays = ("boxes", "scores", "classes", "keypoints", "mask_scores")
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(result, name) for result in results])
        for name in arrays
        if getattr(results[0], name) is not None
    }
    return replace(
        results[0],
        class_names=tuple(name for result in results for name in result.class_names),
        crops=tuple(crop for result in results for crop in result.crops),
        **joined,
    )


def _cut(boxes: np.ndarray, windows: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns which boxes end at a border of their tile that is none of the image, `[n]` bool."""
    image = np.array([0, 0, width, height])
    at_border = np.abs(boxes - windows) <= _BORDER
    return (at_border & (windows != image)).any(-1)


def _twins(
    i: int,
    result: Result,
    tiles: np.ndarray,
    windows: np.ndarray,
    is_cut: np.ndarray,
    kept: Sequence[int],
) -> Iterator[int]:
    """Yields those of the kept objects that are object i, seen in another tile."""
    others = np.array(kept, int)
    low = np.maximum(result.boxes[others, :2], result.boxes[i, :2])
    high = np.minimum(result.boxes[others, 2:], result.boxes[i, 2:])
    is_near = (low < high).all(1) & (tiles[others] != tiles[i])
    is_near &= result.classes[others] == result.classes[i]
    for j in others[is_near]:
        shared = (*np.maximum(windows[i, :2], windows[j, :2]),
                  *np.minimum(windows[i, 2:], windows[j, 2:]))  # fmt: skip
        first, second = (_within(result.crops[k], shared) for k in (i, j))
        common = _intersection(first, second)
        areas = first.mask.sum(), second.mask.sum()
        whole = sum(areas) - common
        if common > 0 and common >= _SAME * (min(areas) if is_cut[i] or is_cut[j] else whole):
            yield int(j)


def _within(crop: MaskCrop, window: Sequence[int]) -> MaskCrop:
    """Returns the part of a mask that lies in a window."""
    x1, y1, x2, y2 = window
    top, left = max(y1 - crop.y, 0), max(x1 - crop.x, 0)
    part = crop.mask[top : max(y2 - crop.y, 0), left : max(x2 - crop.x, 0)]
    return MaskCrop(part, crop.y + top, crop.x + left)


def _intersection(first: MaskCrop, second: MaskCrop) -> int:
    """Returns the number of pixels that are in both masks."""
    height, width = second.mask.shape
    window = second.x, second.y, second.x + width, second.y + height
    common = _within(first, window)
    height, width = common.mask.shape
    window = common.x, common.y, common.x + width, common.y + height
    return int((common.mask & _within(second, window).mask).sum()) if common.mask.size else 0


def _union(parts: Result) -> Result:
    """Returns one object of its parts, with the score of the best; so for each keypoint."""
    best = parts.chosen([int(parts.scores.argmax())])
    if len(parts) == 1:
        return best
    ends = np.array([(c.x + c.mask.shape[1], c.y + c.mask.shape[0]) for c in parts.crops])
    x, y = (min(getattr(crop, name) for crop in parts.crops) for name in ("x", "y"))
    mask = np.zeros((ends[:, 1].max() - y, ends[:, 0].max() - x), bool)
    for crop in parts.crops:
        height, width = crop.mask.shape
        mask[crop.y - y : crop.y - y + height, crop.x - x : crop.x - x + width] |= crop.mask
    box = np.concatenate([parts.boxes[:, :2].min(0), parts.boxes[:, 2:].max(0)])
    points = parts.keypoints
    if points is not None:
        points = points[points[..., 2].argmax(0), np.arange(points.shape[1])][None]
    return replace(best, boxes=box[None], crops=(MaskCrop(mask, y, x),), keypoints=points)


class _Groups:
    """Objects that belong together (union-find)."""

    def __init__(self, number: int):
        self._leader = list(range(number))

    def join(self, first: int, second: int) -> None:
        """Makes one group of those of two objects."""
        self._leader[self._find(first)] = self._find(second)

    def of(self, members: Sequence[int]) -> list[list[int]]:
        """Returns the groups of some objects."""
        groups: dict[int, list[int]] = {}
        for member in members:
            groups.setdefault(self._find(member), []).append(member)
        return list(groups.values())

    def _find(self, member: int) -> int:
        while self._leader[member] != member:
            member = self._leader[member]
        return member
