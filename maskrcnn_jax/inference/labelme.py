"""Results as labelme's JSON files, to be corrected by hand and trained on.

Written by the format that `data.formats.labelme` reads. An object is the polygons of its outlines,
in half pixels; several parts share a `group_id`. Polygons have no holes: those are filled. Of a
model of boxes alone an object is a rectangle. Keypoints are points in the group of their object.
"""

import itertools
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from maskrcnn_jax.images.paste import MaskCrop
from maskrcnn_jax.keypoint_set import SHOWN

if TYPE_CHECKING:
    from maskrcnn_jax.inference.result import Result

_VERSION = "5.5.0"  # of labelme, whose keys these are
_TOLERANCE = 0.25  # pixels between an outline and its polygon


def labelme_content(result: "Result", image_path: str) -> dict[str, Any]:
    """Returns the content of the JSON file of one image, ready for `json.dump`.

    Args:
        result: what was found in it.
        image_path: of the image, relative to the JSON file.
    """
    numbers = itertools.count(1)
    shapes: list[dict[str, Any]] = []
    kind = "polygon" if result.has_masks else "rectangle"
    for i, (name, score) in enumerate(zip(result.class_names, result.scores, strict=True)):
        box = result.boxes[i].astype(float)
        parts = outlines(result.crops[i]) if result.has_masks else [box.reshape(2, 2)]
        points = _points(result, i)
        group = next(numbers) if len(parts) > 1 or points else None
        shapes += [_shape(name, float(score), part, group, kind) for part in parts]
        shapes += [_shape(*point, group, "point") for point in points]
    return {
        "version": _VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": image_path,
        "imageData": None,
        "imageHeight": result.height,
        "imageWidth": result.width,
    }


def _points(result: "Result", i: int) -> list[tuple[str, float, np.ndarray]]:
    """Returns name, score and place `[1, 2]` of the keypoints of an object that are to be seen."""
    if result.keypoints is None or result.keypoint_set is None:
        return []
    named = zip(result.keypoint_set.names, result.keypoints[i].astype(float), strict=True)
    return [(name, point[2], point[None, :2]) for name, point in named if point[2] >= SHOWN]


def _shape(
    name: str, score: float, part: np.ndarray, group: int | None, kind: str
) -> dict[str, Any]:
    return {
        "label": name,
        "points": part.tolist(),
        "group_id": group,
        "shape_type": kind,
        "flags": {},
        "description": f"score {score:.3f}",
    }


def outlines(crop: MaskCrop) -> list[np.ndarray]:
    """Returns the outer outline of each part of a mask, `[k, 2]` float64 (x, y), image pixels.

    The outline runs along the edges of pixels, not through their centres, which would take half a
    pixel off all around: it is traced on the mask enlarged twice.

    Args:
        crop: the mask.
    """
    twice = crop.mask.astype(np.uint8).repeat(2, 0).repeat(2, 1)
    found, _ = cv2.findContours(twice, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    smooth = (cv2.approxPolyDP(outline, 2 * _TOLERANCE, True)[:, 0] for outline in found)
    return [(part + 0.5) / 2 + (crop.x, crop.y) for part in smooth if len(part) >= 3]
