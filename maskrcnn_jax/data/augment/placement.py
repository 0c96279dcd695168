"""What becomes of an image's objects under a geometry: boxes and masks in the frame.

An object that the frame shows whole keeps its annotated box, moved, and its mask is rasterised from
the annotation inside that box. Where the frame cuts an object, or a rotation turns its box out of
the upright, the box is computed again, tight around what is visible of the mask. In either case the
mask goes from the annotation to its grid in one step.
"""

from typing import NamedTuple

import cv2
import numpy as np

from maskrcnn_jax.data.augment.geometry import (
    Geometry,
    map_boxes,
    map_pixels,
    map_points,
    turn_grids,
    visible_box,
    visible_region,
)
from maskrcnn_jax.data.config import DataConfig
from maskrcnn_jax.data.masks.segmentation import (
    RLE,
    MaskFile,
    Polygons,
    Segmentation,
    clip_polygon,
    mask_columns,
    rasterize_in_box,
    to_mask,
    to_rle,
)
from maskrcnn_jax.data.masks.tight_box import (
    Outline,
    extreme_points,
    outline_of_pixels,
    outline_of_polygons,
)
from maskrcnn_jax.data.records import Record
from maskrcnn_jax.images.sizes import resized_size
from maskrcnn_jax.keypoint_set import KeypointSet, empty_keypoints

_SAMPLES = 224  # along each side of a rotated mask's box, as polygons have (see segmentation.py)
_LEAST = 1.0  # square pixel of the frame: of an object with less, nothing is there to be seen


class Objects(NamedTuple):
    """The n objects that a frame shows.

    indices: [n] int64, which of the record's they are, ascending.
    boxes: [n, 4] float32, xyxy, pixels of the frame.
    masks: [n, M, M] uint8, coverage 0..255 of each cell of a grid inside the box.
    num_cut: how many more there are than were asked for.
    """

    indices: np.ndarray
    boxes: np.ndarray
    masks: np.ndarray
    num_cut: int


def place_objects(record: Record, geometry: Geometry, data: DataConfig) -> Objects:
    """Returns the objects of an image as a frame shows them.

    Objects of which less than `data.augment.min_visible` of the area, or less than a pixel, is left
    are dropped; a crowd region stays as long as a pixel of it does. Images at the size and in the
    frame that predictions use keep all their objects.

    Args:
        record: the image.
        geometry: from the image to the frame.
        data: the configuration's `data` section.
    """
    size = record.height, record.width
    whole = _shown_whole(record, geometry)
    boxes, grids = record.boxes.copy(), {}
    kept = whole.copy()
    for i in np.flatnonzero(~whole).tolist():
        seen = _visible_part(record, i, geometry, data)
        if seen is not None:
            boxes[i], grids[i], kept[i] = *seen, True
    if geometry.size != resized_size(*geometry.turned_size, data):
        kept &= ~whole | (_areas(boxes) * geometry.area_scale >= _LEAST)
    kept = np.flatnonzero(kept)
    index = kept[largest(boxes[kept], data.max_instances)]
    masks = np.zeros((len(index), data.mask_size, data.mask_size), np.uint8)
    for slot, i in enumerate(index):
        masks[slot] = (
            grids[i]
            if i in grids
            else rasterize_in_box(record.segmentations[i], record.boxes[i], *size, data.mask_size)
        )
    boxes = boxes[index]
    if not geometry.angle:
        boxes, masks = _moved(boxes, whole[index], geometry), turn_grids(masks, geometry)
    return Objects(index, boxes, masks, len(kept) - len(index))


def place_keypoints(
    record: Record, indices: np.ndarray, geometry: Geometry, keypoints: KeypointSet
) -> np.ndarray:
    """Returns the keypoints of an image's objects as a frame shows them, [n, P, 3] float32.

    What lies outside of the window or the frame is not known. In a mirror, left and right change
    places.

    Args:
        record: the image.
        indices: [n] int64, of the objects.
        geometry: from the image to the frame.
        keypoints: what they are.
    """
    number = len(keypoints.names)
    if record.keypoints is None:
        return empty_keypoints(len(indices), number)
    known = record.keypoints[indices]
    given = known[..., :2].reshape(-1, 2).astype(np.float64)
    placed = map_points(given - keypoints.shift, geometry)
    low, high, (height, width) = geometry.window[:2], geometry.window[2:], geometry.frame
    seen = np.all((given >= low) & (given <= high), 1)
    seen &= np.all((placed >= 0) & (placed <= (width, height)), 1)
    seen &= known[..., 2].ravel() > 0
    points = np.concatenate([placed, known[..., 2].reshape(-1, 1)], axis=1)
    points = np.where(seen[:, None], points, 0).astype(np.float32).reshape(-1, number, 3)
    return points[:, list(keypoints.mirrored)] if geometry.is_mirror else points


def largest(boxes: np.ndarray, count: int) -> np.ndarray:
    """Returns the indices, ascending, of the `count` boxes [n, 4] of largest area.

    Small objects are those that a detector can least learn from; ties go to the lower index.
    """
    if len(boxes) <= count:
        return np.arange(len(boxes))
    return np.sort(np.argsort(-_areas(boxes), kind="stable")[:count])


def pixel_mask(segmentation: Segmentation, record: Record, geometry: Geometry) -> np.ndarray:
    """Returns which pixels of the frame a mask covers, [*frame] uint8, 0 or 1.

    Args:
        segmentation: one of the record's.
        record: the image.
        geometry: from the image to the frame.
    """
    if isinstance(segmentation, Polygons):
        parts = _mapped_parts(segmentation, geometry)
        height, width = geometry.frame
        return to_mask(Polygons(parts), height, width) if parts else np.zeros((height, width), "u1")
    mask = _window_mask(segmentation, record, geometry)
    return (map_pixels(mask * np.uint8(255), geometry) > 127).astype(np.uint8)


def _shown_whole(record: Record, geometry: Geometry) -> np.ndarray:
    """Returns whose box the frame shows upright and uncut, [n] bool."""
    if geometry.angle:
        return np.zeros(len(record.boxes), bool)
    border = np.array([0, 0, record.width, record.height])
    visible = visible_box(geometry)
    # Where the frame ends with the image, nothing is cut, wherever an annotation ends.
    low = np.where(visible[:2] > border[:2], visible[:2], -np.inf)
    high = np.where(visible[2:] < border[2:], visible[2:], np.inf)
    return np.all((record.boxes[:, :2] >= low) & (record.boxes[:, 2:] <= high), 1)


def _visible_part(
    record: Record, i: int, geometry: Geometry, data: DataConfig
) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the box [4] and the grid [M, M] of what is visible of an object, or None.

    Both are of the frame under a rotation; else of the image, not turned over.
    """
    region, box = visible_region(geometry), record.boxes[i]
    if not len(region) or np.any(box[:2] >= region.max(0)) or np.any(box[2:] <= region.min(0)):
        return None
    size = record.height, record.width
    segmentation = record.segmentations[i]
    if isinstance(segmentation, MaskFile):
        segmentation = RLE(size, to_rle(segmentation, *size)["counts"])  # read once
    points = extreme_points(_outline(segmentation, record, geometry), region)
    if geometry.angle:
        points = map_points(points, geometry)
    if not len(points) or np.any(np.ptp(points, 0) <= 0):
        return None
    box = np.concatenate([points.min(0), points.max(0)])
    if geometry.angle:
        height, width = geometry.frame
        box = box.clip(0, (width, height, width, height))
        grid = _rotated_grid(segmentation, record, box, geometry, data.mask_size)
        pixels = _covered(box, grid)
    else:
        grid = rasterize_in_box(segmentation, box, *size, data.mask_size)
        pixels = _covered(box, grid) * geometry.area_scale
    least = _LEAST
    if not record.crowd[i]:
        own_grid = rasterize_in_box(segmentation, record.boxes[i], *size, data.mask_size)
        own = _covered(record.boxes[i], own_grid) * geometry.area_scale
        least = max(_LEAST, data.augment.min_visible * own)
    return (box, grid) if pixels >= least else None


def _outline(segmentation: Segmentation, record: Record, geometry: Geometry) -> Outline:
    """Returns the outline of a mask, of pixels only as far as the window goes."""
    if isinstance(segmentation, Polygons):
        return outline_of_polygons(segmentation.parts)
    x, y, _, _ = geometry.window
    return outline_of_pixels(_window_mask(segmentation, record, geometry), x, y)


def _window_mask(segmentation: RLE | MaskFile, record: Record, geometry: Geometry) -> np.ndarray:
    """Returns the window's part of a mask of pixels, uint8, 0 or 1."""
    x1, y1, x2, y2 = geometry.window
    return mask_columns(segmentation, record.height, record.width, x1, x2)[y1:y2]


def _rotated_grid(
    segmentation: Segmentation, record: Record, box: np.ndarray, geometry: Geometry, side: int
) -> np.ndarray:
    """Returns the grid [M, M] of a mask inside a box of the frame, under a rotation.

    Polygons are rotated; of a mask of pixels, each cell is the mean of several pixels looked up.
    """
    if isinstance(segmentation, Polygons):
        parts = _mapped_parts(segmentation, geometry)
        return rasterize_in_box(Polygons(parts), box, *geometry.frame, side)
    mask = _window_mask(segmentation, record, geometry) * np.uint8(255)
    fine = side * -(-_SAMPLES // side)
    into_box = geometry.matrix
    into_box[:, 2] += into_box[:, :2] @ geometry.window[:2] - box[:2]
    into_box *= (fine / (box[2:] - box[:2]))[:, None]
    into_box[:, 2] += into_box[:, :2] @ (0.5, 0.5) - 0.5  # OpenCV counts from centres of pixels
    samples = cv2.warpAffine(mask, into_box, (fine, fine), flags=cv2.INTER_NEAREST)
    return cv2.resize(samples, (side, side), interpolation=cv2.INTER_AREA)


def _mapped_parts(polygons: Polygons, geometry: Geometry) -> list[np.ndarray]:
    """Returns the polygons in the frame, first cut to the window, beyond which no image is."""
    low, high = geometry.window[:2], geometry.window[2:]
    parts = (clip_polygon(part, low, high) for part in polygons.parts)
    return [map_points(part, geometry) for part in parts if len(part) >= 3]


def _moved(boxes: np.ndarray, whole: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Returns boxes of the image in the frame; those that were cut end within it to the bit."""
    boxes = map_boxes(boxes, geometry)
    height, width = geometry.frame
    inside = boxes.clip(0, np.array([width, height, width, height], np.float32))
    return np.where(whole[:, None], boxes, inside)


def _covered(box: np.ndarray, grid: np.ndarray) -> float:
    """Returns the area of a mask from the grid inside its box, in square pixels of the box."""
    width, height = (box[2:] - box[:2]).astype(float)
    return width * height * grid.mean() / 255


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
