"""Made truths and detections: squares in images of 200 x 200 pixels."""

import numpy as np
from pycocotools import mask as coco_mask

SIDE = 200


def square(x, y=0, side=20, image=1, category=1, **others):
    """An annotation or, with `score=`, a detection."""
    return rectangle(x, y, side, side, image, category, **others)


def rectangle(x, y, width, height, image=1, category=1, **others):
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[y : y + height, x : x + width] = 1
    return {
        "image_id": image,
        "category_id": category,
        "bbox": [x, y, width, height],
        "area": width * height,
        "iscrowd": 0,
        "segmentation": coco_mask.encode(np.asfortranarray(mask)),
        **others,
    }


def truth(objects, images=1, names=("cat", "dog")):
    return {
        "images": [{"id": i + 1, "height": SIDE, "width": SIDE} for i in range(images)],
        "annotations": [{**o, "id": i} for i, o in enumerate(objects, start=1)],
        "categories": [{"id": k, "name": name} for k, name in enumerate(names, start=1)],
    }


def random_set(seed, images=12, objects=8, crowds=1):
    """Squares, and detections that are moved, renamed, repeated, left out or made up."""
    rng = np.random.default_rng(seed)
    true, found = [], []

    def anywhere(image, **others):
        x, y = (int(v) for v in rng.integers(0, SIDE - 50, 2))
        width, height = (int(v) for v in rng.integers(8, 50, 2))
        category = int(rng.integers(1, 3))
        return rectangle(x, y, width, height, image, category, **others)

    for image in range(1, images + 1):
        own = [anywhere(image) for _ in range(objects)]
        true += own + [anywhere(image, iscrowd=1) for _ in range(crowds)]
        found += [anywhere(image, score=float(rng.random())) for _ in range(3)]
        for entry in own:
            for _ in range(rng.integers(0, 3)):
                x, y, width, height = entry["bbox"]
                x, y = (int(v) for v in np.clip([x, y] + rng.integers(-5, 6, 2), 0, SIDE - 50))
                category = int(rng.integers(1, 3)) if rng.random() < 0.3 else entry["category_id"]
                score = float(rng.random())
                found.append(rectangle(x, y, width, height, image, category, score=score))
    return truth(true, images), found
