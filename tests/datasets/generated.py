"""Small data sets in the layouts of COCO, CST, labelme and VOC, drawn from random numbers.

Tests take them where no folder with the real ones is given (--datasets): they have what the tests
look at (crowds, parts, ids with gaps, boxes that say something else than the masks), in few files.
"""

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

# COCO's numbers of categories: 80 of 1..90.
CATEGORIES = sorted(set(range(1, 91)) - {12, 26, 29, 30, 45, 66, 68, 69, 71, 83})


class Thing(NamedTuple):
    """An object: the number of its class, and the outlines [k, 2] of its parts, (x, y)."""

    category: int
    parts: list[np.ndarray]

    def mask(self, height: int, width: int) -> np.ndarray:
        """Returns [height, width] uint8, as COCO rasterises polygons."""
        flat = [part.ravel().tolist() for part in self.parts]
        return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(flat, height, width)))


def coco(root: Path) -> Path:
    """Writes train2017, val2017 and annotations, and returns the folder."""
    rng = np.random.default_rng(0)
    (root / "annotations").mkdir(parents=True)
    for split, count, first in (("train2017", 56, 100), ("val2017", 12, 900)):
        (root / split).mkdir()
        images, annotations = [], []
        for number in range(count):
            height, width = (480, 640) if number % 12 else (427, 500)
            # Every 15th has no object.
            things = list(_things(rng, height, width, 0 if number % 15 == 14 else 9))
            image = {"id": first + 7 * number, "height": height, "width": width}
            image["file_name"] = f"{image['id']:012}.jpg"
            images.append(image)
            _write(root / split / image["file_name"], _picture(rng, height, width, things))
            for i, thing in enumerate(things):
                is_crowd = number % 11 == 5 and i == 0
                entry = _coco_annotation(thing, height, width, is_crowd)
                entry |= {"id": 10_000 * first + 10 * number + i, "image_id": image["id"]}
                annotations.append(entry)
        categories = [{"id": c, "name": f"thing {c}", "supercategory": "thing"} for c in CATEGORIES]
        content = {"images": images, "annotations": annotations, "categories": categories}
        path = root / "annotations" / f"instances_{split}.json"
        path.write_text(json.dumps(content))
    return root


def cst(root: Path) -> Path:
    """Writes train: eight images of ten circles, squares and triangles; returns the folder."""
    rng = np.random.default_rng(1)
    (root / "annotation").mkdir(parents=True)
    rows, side = [], 512
    for number in range(8):
        folder = root / "train" / f"cst-{number}"
        (folder / "masks").mkdir(parents=True)
        things = []
        for i, (x, y, radius) in enumerate(_places(rng, side, side, 10)):
            kind, turn = "cst"[i % 3], rng.uniform(0, 6)
            corners = {"c": 64, "s": 4, "t": 3}[kind]
            # A square lies straight, so that it fills its box.
            turn = math.pi / 4 if kind == "s" else math.pi / 2 if kind == "t" else turn
            angles = turn + 2 * math.pi * np.arange(corners) / corners
            outline = np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], 1)
            things.append(Thing(i % 3, [outline]))
            name = f"cst-{number}/masks/cst-{number}-{i}.jpg"
            # JPEG's blur goes beyond the edge; readers take a threshold.
            _write(root / "train" / name, 255 * things[-1].mask(side, side))
            low, high = outline.min(0) - 5, outline.max(0) + 5
            box = " ".join(f"{value:.0f}" for value in (*low, *high))
            rows.append((f"cst-{number}", f"cst-{number}-{i}", kind, box, name))
        _write(folder / f"cst-{number}.jpg", _picture(rng, side, side, things))
    with open(root / "annotation" / "anno-train.csv", "w", newline="") as file:
        csv.writer(file).writerows([("image_id", "object_id", "class", "bbox", "mask_path"), *rows])
    return root


def labelme_voc(root: Path) -> Path:
    """Writes three pictures with twelve instances in 18 parts, as labelme, voc and coco."""
    rng = np.random.default_rng(2)
    names = ["_background_", "boat", "bottle", "person", "sofa"]
    folders = ("labelme", "voc/JPEGImages", "voc/SegmentationObject", "voc/SegmentationClass")
    for folder in (*folders, "coco/JPEGImages"):
        (root / folder).mkdir(parents=True)
    (root / "voc" / "class_names.txt").write_text("\n".join(names))
    images, annotations = [], []
    for number in range(3):
        name, height, width = f"picture{number}", 360, 480
        things = list(_things(rng, height, width, 4, range(1, len(names)), smallest=0.6))
        picture = _picture(rng, height, width, things)
        size = {"height": height, "width": width}
        file = {"id": number, "file_name": f"JPEGImages/{name}.jpg", **size}
        images.append(file)
        for folder in ("labelme", "voc/JPEGImages", "coco/JPEGImages"):
            _write(root / folder / f"{name}.jpg", picture)
        shapes = []
        canvas = Image.new("L", (width, height))
        for i, thing in enumerate(things, 1):
            group = {"group_id": i if len(thing.parts) > 1 else None, "shape_type": "polygon"}
            for part in thing.parts:
                shapes.append({"label": names[thing.category], "points": part.tolist(), **group})
                # As labelme's export to VOC draws: what an outline touches is inside.
                corners = [tuple(corner) for corner in part]
                ImageDraw.Draw(canvas).polygon(corners, outline=i, fill=i)
            annotation = _coco_annotation(thing, height, width, is_crowd=False)
            annotations.append({**annotation, "id": len(annotations) + 1, "image_id": number})
        ids = np.asarray(canvas)
        classes = np.array([0, *(thing.category for thing in things)], np.uint8)[ids]
        content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"{name}.jpg"}
        content |= {"imageData": None, "imageHeight": height, "imageWidth": width}
        (root / "labelme" / f"{name}.json").write_text(json.dumps(content))
        cv2.imwrite(str(root / "voc" / "SegmentationObject" / f"{name}.png"), ids)
        cv2.imwrite(str(root / "voc" / "SegmentationClass" / f"{name}.png"), classes)
    categories = [{"id": i, "name": name} for i, name in enumerate(names) if i]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "coco" / "annotations.json").write_text(json.dumps(content))
    return root


def _things(rng, height, width, count, classes=CATEGORIES, smallest=0.25) -> Iterator[Thing]:
    """Yields objects that do not overlap; every other one has two parts."""
    for i, (x, y, radius) in enumerate(_places(rng, height, width, count, smallest)):
        of_two = i % 2 == 1
        offsets = (-0.5, 0.5) if of_two else (0.0,)
        radii = radius * (0.4 if of_two else 1.0)
        outlines = [_outline(rng, x + radius * offset, y, radii) for offset in offsets]
        yield Thing(int(rng.choice(list(classes))), outlines)


def _outline(rng, x, y, radius) -> np.ndarray:
    angles = np.sort(rng.uniform(0, 2 * math.pi, 24))
    distance = radius * (0.85 + 0.15 * np.sin(angles * rng.integers(2, 5) + rng.uniform(0, 6)))
    outline = np.stack([x + distance * np.cos(angles), y + distance * np.sin(angles)], 1)
    return outline.round(2)


def _places(rng, height, width, count, smallest=0.25) -> Iterator[tuple[float, float, float]]:
    """Yields x, y and radius of circles that do not touch: one in each cell of a grid."""
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / max(columns, 1))
    for cell in rng.permutation(rows * columns)[:count]:
        size = np.array([width / columns, height / rows])
        most = size.min() / 2 - 2
        radius = most * math.exp(rng.uniform(math.log(smallest), 0))
        spare = size / 2 - radius - 1
        centre = size * (np.array([cell % columns, cell // columns]) + 0.5)
        yield (*(centre + rng.uniform(-1, 1, 2) * spare), radius)


def _picture(rng, height, width, things: list[Thing]) -> np.ndarray:
    coarse = rng.integers(60, 200, (6, 8, 3), dtype=np.uint8)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    for thing in things:
        colour = [(37 * thing.category + 80 * i) % 256 for i in range(3)]
        picture[thing.mask(height, width) > 0] = colour
    return picture


def _coco_annotation(thing: Thing, height: int, width: int, is_crowd: bool) -> dict:
    mask = thing.mask(height, width)
    points = np.concatenate(thing.parts).clip(0, [width, height])
    low, high = points.min(0), points.max(0)
    entry = {
        "category_id": thing.category,
        "segmentation": [part.ravel().tolist() for part in thing.parts],
        "bbox": [*low.tolist(), *(high - low).round(2).tolist()],
        "area": int(mask.sum()),
        "iscrowd": int(is_crowd),
    }
    if is_crowd:  # runs of 0 and 1, column by column
        flat = mask.ravel(order="F")
        ends = np.flatnonzero(np.diff(flat)) + 1
        runs = np.diff([0, *ends, flat.size]).tolist()
        entry["segmentation"] = {"size": [height, width], "counts": ([0] if flat[0] else []) + runs}
        rle = coco_mask.encode(np.asfortranarray(mask))
        entry["bbox"] = coco_mask.toBbox(rle).tolist()
    return entry


def _write(path: Path, picture: np.ndarray) -> None:
    cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 92])
