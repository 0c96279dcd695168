"""Training batches made the way torchvision's detection reference makes them, to compare with.

Its steps, in numpy, Pillow and pycocotools: Pillow decodes, each object's polygons become a mask of
the whole image, image and masks are mirrored, and resized one by one as `GeneralizedRCNNTransform`
does (bilinear, and nearest for masks). What the reference does beyond that is left out, which makes
this one faster: pixels stay uint8 and unnormalised, and no worker process hands its arrays on.
"""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from maskrcnn_jax.images.sizes import Size, short_side_size

# (pixels [h, w, 3] or [h, w], wanted size, whether a mask) -> resized pixels
Resize = Callable[[np.ndarray, Size, bool], np.ndarray]


def read_entries(folder: Path) -> list[dict]:
    """Returns the images of `folder`/instances.json, each with its `annotations` and `path`."""
    content = json.loads((folder / "instances.json").read_text())
    entries = {
        image["id"]: {**image, "path": folder / "images" / image["file_name"], "annotations": []}
        for image in content["images"]
    }
    for annotation in content["annotations"]:
        entries[annotation["image_id"]]["annotations"].append(annotation)
    return list(entries.values())


def make_batch(
    entries: list[dict], shape: Size, sides: Size, resize: Resize, rng: np.random.Generator
) -> tuple[np.ndarray, list[dict]]:
    """Returns images [B, H, W, 3] uint8, padded, and for each its boxes, classes and masks.

    Args:
        entries: the B images, as `read_entries` gives them.
        shape: H and W.
        sides: wanted short side and highest long side, pixels.
        resize: `resize_pillow` or `resize_opencv`.
        rng: draws which images are mirrored.
    """
    images = np.zeros((len(entries), *shape, 3), np.uint8)
    targets = []
    for slot, entry in zip(images, entries, strict=True):
        image, target = _example(entry, bool(rng.random() < 0.5), sides, resize)
        slot[: image.shape[0], : image.shape[1]] = image
        targets.append(target)
    return images, targets


def resize_pillow(pixels: np.ndarray, size: Size, is_mask: bool) -> np.ndarray:
    how = Image.Resampling.NEAREST if is_mask else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(pixels).resize(size[::-1], how))


def resize_opencv(pixels: np.ndarray, size: Size, is_mask: bool) -> np.ndarray:
    how = cv2.INTER_NEAREST if is_mask else cv2.INTER_LINEAR
    return cv2.resize(pixels, size[::-1], interpolation=how)


def _example(
    entry: dict, flip: bool, sides: Size, resize: Resize
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    height, width = entry["height"], entry["width"]
    objects = [o for o in entry["annotations"] if not o["iscrowd"]]
    with Image.open(entry["path"]) as file:
        image = np.asarray(file.convert("RGB"))
    boxes = np.array([o["bbox"] for o in objects], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    boxes = boxes.clip(0, (width, height) * 2)
    masks = [_mask(o["segmentation"], height, width) for o in objects]
    if flip:
        image = np.ascontiguousarray(image[:, ::-1])
        masks = [np.ascontiguousarray(mask[:, ::-1]) for mask in masks]
        boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)
    size = short_side_size(height, width, *sides)
    resized = np.zeros((len(masks), *size), np.uint8)
    for target, mask in zip(resized, masks, strict=True):
        target[:] = resize(mask, size, True)
    scale = np.float32([size[1] / width, size[0] / height] * 2)
    classes = np.array([o["category_id"] for o in objects], np.int64)
    return resize(image, size, False), {
        "boxes": boxes * scale,
        "classes": classes,
        "masks": resized,
    }


def _mask(polygons: list[list[float]], height: int, width: int) -> np.ndarray:
    """Returns which pixels of the image any of the polygons covers, [height, width] uint8."""
    parts = coco_mask.decode(coco_mask.frPyObjects(polygons, height, width))
    return np.ascontiguousarray(parts.any(axis=2), np.uint8)
