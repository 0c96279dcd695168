"""Objects of one image pasted into another, as in Ghiasi et al., "Simple Copy-Paste is a Strong
Data Augmentation Method for Instance Segmentation" (CVPR 2021).

Pixels of the pasted objects replace those of the image, without blending. What lies beneath them
loses the covered part of its mask, and its box follows.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from maskrcnn_jax.data.input.example import Example
from maskrcnn_jax.data.masks.segmentation import mask_in_box


def paste(
    target: Example,
    target_mask: Callable[[int], np.ndarray],
    source: Example,
    source_mask: Callable[[int], np.ndarray],
    min_visible: float,
) -> Example:
    """Returns an image with all objects of another one in front of its own.

    Args:
        target: the image that is pasted into.
        target_mask: gives which pixels one of its objects covers, [h, w] uint8, 0 or 1.
        source: an image of the same size, with the objects to paste.
        source_mask: likewise; an object that covers no pixel is not pasted.
        min_visible: an object of which a smaller fraction of the pixels stays visible is dropped,
            or of which none does; the first does not hold for crowd regions.

    Returns:
        The image with what is left of its own objects, then the pasted ones.
    """
    cover, pasted = np.zeros(source.image.shape[:2], np.uint8), []
    for i in range(len(source.boxes)):
        mask = source_mask(i)
        if mask.any():
            cover |= mask
            pasted.append(i)
    if not pasted:
        return target
    left, kept = _uncovered(target, target_mask, cover, min_visible), []
    boxes, grids = target.boxes.copy(), target.masks.copy()
    for i, part in enumerate(left):
        if part is not None:
            boxes[i], grids[i] = part
            kept.append(i)
    return Example(
        image=np.where(cover[..., None] > 0, source.image, target.image),
        boxes=np.concatenate([boxes[kept], source.boxes[pasted]]),
        classes=np.concatenate([target.classes[kept], source.classes[pasted]]),
        crowd=np.concatenate([target.crowd[kept], source.crowd[pasted]]),
        masks=np.concatenate([grids[kept], source.masks[pasted]]),
        keypoints=_joined(target.keypoints, kept, source.keypoints, pasted),
    )


def chosen(example: Example, which: np.ndarray) -> Example:
    """Returns the example with some of its objects, given by their numbers or as [n] bool."""
    names = ("boxes", "classes", "crowd", "masks", "keypoints")
    columns = {name: getattr(example, name) for name in names}
    return replace(example, **{name: x[which] for name, x in columns.items() if x is not None})


def _joined(
    target: np.ndarray | None, kept: list[int], source: np.ndarray | None, pasted: list[int]
) -> np.ndarray | None:
    """Returns the keypoints of what is kept and pasted; what is covered stays known."""
    if target is None or source is None:
        return None
    return np.concatenate([target[kept], source[pasted]])


def _uncovered(
    target: Example, target_mask: Callable[[int], np.ndarray], cover: np.ndarray, min_visible: float
) -> list[tuple[np.ndarray, np.ndarray] | None]:
    """Returns box and grid of each object as far as it is not covered; None: it is to go."""
    found: list[tuple[np.ndarray, np.ndarray] | None] = []
    for i, box in enumerate(target.boxes):
        here = _pixels_of(box)
        if not cover[here].any():
            found.append((box, target.masks[i]))
            continue
        before = target_mask(i)[here]
        after = before & ~cover[here]
        least = max(1, 0 if target.crowd[i] else min_visible * np.count_nonzero(before))
        if np.count_nonzero(after) < least:
            found.append(None)
        elif np.array_equal(before, after):
            found.append((box, target.masks[i]))
        else:
            found.append(_part(box, after, target.masks.shape[-1]))
    return found


def _pixels_of(box: np.ndarray) -> tuple[slice, slice]:
    """Returns the rows and columns of all pixels that a box touches."""
    x1, y1 = np.floor(box[:2]).astype(int).clip(0)
    x2, y2 = np.ceil(box[2:]).astype(int)
    return slice(y1, y2), slice(x1, x2)


def _part(box: np.ndarray, mask: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the box tight around what is left of a mask, and the mask on a grid inside it.

    Args:
        box: [4], of the whole object; sides that are still bounded by it stay where they are.
        mask: [h, w], of the pixels that the box touches; not empty.
        side: M.
    """
    corner = np.floor(box[:2]).clip(0)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    low = np.maximum(box[:2], corner + (columns[0], rows[0]))
    high = np.minimum(box[2:], corner + (columns[-1] + 1, rows[-1] + 1))
    if np.any(high <= low):
        return None
    new = np.concatenate([low, high]).astype(np.float32)
    return new, mask_in_box(mask, tuple(new - np.tile(corner, 2)), side)
