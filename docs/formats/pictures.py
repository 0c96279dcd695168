"""Draws the pictures of the formats' pages: a small dataset in each format, and as it is read.

    python docs/formats/pictures.py [--nuclei=FOLDER] [--cst=FOLDER]

Run from the clone. The images are generated, but for two: a microscope image of the 2018 Data
Science Bowl (https://bbbc.broadinstitute.org/BBBC038, CC0), in a folder as mask_folders.md shows,
and one of CST (CC BY 4.0), as in cst.md. Without their folders these two pictures stay as they are.
"""

import argparse
import io
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from maskrcnn_jax.data.formats import (
    coco,
    cst,
    label_images,
    labelme,
    labelme_export,
    mask_folders,
    penn_fudan,
    shapes,
    via,
    voc,
    yolo,
)
from maskrcnn_jax.data.masks.segmentation import to_mask
from maskrcnn_jax.data.prepared import reader as tfds_reader
from maskrcnn_jax.data.read_options import ReadOptions
from maskrcnn_jax.data.records import Dataset, Record
from maskrcnn_jax.data.tools.convert import convert
from maskrcnn_jax.data.union import union
from maskrcnn_jax.images.read import read_image
from maskrcnn_jax.visualization.drawing import side_by_side
from maskrcnn_jax.visualization.examples import draw_objects
from maskrcnn_jax.visualization.style import color

OUT = Path(__file__).parent / "images"
SIZE = 320  # pixels, of an image and so of a column
VOID = 255

Column = tuple[str, np.ndarray]  # a title, and an RGB picture


class Scene:
    """One generated image: its pixels, and the outline and the class name of each object."""

    def __init__(self, seed: int):
        dataset = shapes.read(1, seed, SIZE)
        (self.record,) = dataset.records
        self.pixels = dataset.read_image(self.record)
        self.names = [dataset.class_names[c - 1] for c in self.record.classes]
        masks = [to_mask(s, SIZE, SIZE) for s in self.record.segmentations]
        self.outlines = [_outline(mask) for mask in masks]
        self.ids = sum(mask.astype(np.uint8) * number for number, mask in enumerate(masks, 1))

    def save(self, path: Path) -> None:
        """Writes the image."""
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(self.pixels).save(path)

    def with_corners(self) -> np.ndarray:
        """Returns the image with outlines and their corners, as an annotation tool shows them."""
        picture = self.pixels.copy()
        for outline in self.outlines:
            corners = np.rint(outline).astype(np.int32)
            cv2.polylines(picture, [corners], True, (0, 255, 0), 1, cv2.LINE_AA)
            for corner in corners.tolist():
                cv2.circle(picture, corner, 3, (255, 255, 255), cv2.FILLED, cv2.LINE_AA)
        return picture


def _outline(mask: np.ndarray) -> np.ndarray:
    """Returns a polygon around a mask, [k, 2] x and y, as few corners as a pixel's error allows."""
    found, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return cv2.approxPolyDP(max(found, key=cv2.contourArea), 1.0, True)[:, 0] + 0.5


def _drawn(dataset: Dataset, record: Record | None = None) -> np.ndarray:
    """Returns a record's image, the first one's by default, with its annotations."""
    if dataset.faults:
        raise ValueError(f"not all was read: {dataset.faults[0]}")
    record = record or dataset.records[0]
    masks = (to_mask(s, record.height, record.width) for s in record.segmentations)
    names = [dataset.class_names[c - 1] for c in record.classes]
    return draw_objects(dataset.read_image(record), record.boxes, masks, names, record.crowd)


def _coloured(ids: np.ndarray) -> np.ndarray:
    """Returns numbers as colours: 0 black, void white."""
    palette = np.array([(0, 0, 0), *(color(i) for i in range(254)), (255, 255, 255)], np.uint8)
    return palette[ids]


def _save_ids(ids: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids.astype(np.uint8)).save(path)


def coco_columns(folder: Path) -> list[Column]:
    """One object is a crowd region."""
    convert(shapes.read(1, 3, SIZE), folder / "a.json", folder)
    content = json.loads((folder / "a.json").read_text())
    content["annotations"][-1]["iscrowd"] = 1
    (folder / "a.json").write_text(json.dumps(content))
    return [
        ("file_name", Scene(3).pixels),
        ("as read; striped: iscrowd", _drawn(coco.read(folder, folder / "a.json"))),
    ]


def labelme_columns(folder: Path) -> list[Column]:
    scene = Scene(8)
    scene.save(folder / "0001.jpg")
    content = dict(
        shapes=[
            dict(label=name, points=outline.tolist(), shape_type="polygon")
            for name, outline in zip(scene.names, scene.outlines, strict=True)
        ],
        imagePath="0001.jpg",
        imageHeight=SIZE,
        imageWidth=SIZE,
    )
    (folder / "0001.json").write_text(json.dumps(content))
    return [("in labelme", scene.with_corners()), ("as read", _drawn(labelme.read(folder)))]


def labelme_export_columns(folder: Path) -> list[Column]:
    scene = Scene(45)
    scene.save(folder / "0001_json/img.png")
    _save_ids(scene.ids, folder / "0001_json/label.png")
    names = [f"{name}{number}" for number, name in enumerate(scene.names, 1)]
    (folder / "0001_json/label_names.txt").write_text("\n".join(["_background_", *names]))
    return [
        ("img.png", scene.pixels),
        ("label.png, coloured", _coloured(scene.ids)),
        ("as read", _drawn(labelme_export.read(folder))),
    ]


def label_images_columns(folder: Path) -> list[Column]:
    scene = Scene(52)
    scene.save(folder / "images/a.png")
    _save_ids(scene.ids, folder / "masks/a.png")
    return [
        ("images", scene.pixels),
        ("masks, coloured", _coloured(scene.ids)),
        ("as read", _drawn(label_images.read(folder, "shape"))),
    ]


def penn_fudan_columns(folder: Path) -> list[Column]:
    scene = Scene(50)
    scene.save(folder / "PNGImages/a.png")
    _save_ids(scene.ids, folder / "PedMasks/a_mask.png")
    return [
        ("PNGImages", scene.pixels),
        ("PedMasks, coloured", _coloured(scene.ids)),
        ("as read", _drawn(penn_fudan.read(folder, "shape"))),
    ]


def shapes_columns(folder: Path) -> list[Column]:
    dataset = shapes.read(3, 21, SIZE)
    return [(f"image {r.image_id}", _drawn(dataset, r)) for r in dataset.records]


def tfds_columns(folder: Path) -> list[Column]:
    from maskrcnn_jax.data.tools.prepare import prepare

    prepare({"train": shapes.read(3, 22, SIZE)}, folder)
    dataset = tfds_reader.read(folder)
    return [(f"as read: image {r.image_id}", _drawn(dataset, r)) for r in dataset.records]


def union_columns(folder: Path) -> list[Column]:
    """Two parts, in one of which a class has another name."""
    parts = {"first": shapes.read(1, 25, SIZE), "second": shapes.read(1, 28, SIZE)}
    parts["second"].class_names = ("disc", "rectangle", "triangle")
    whole = union(parts, ("circle", "rectangle"), {"disc": "circle"})
    return [
        *((f"{name}: {parts[name].class_names[0]}, ...", _drawn(parts[name])) for name in parts),
        *((f"as read: {r.image_id}", _drawn(whole, r)) for r in whole.records),
    ]


def via_columns(folder: Path) -> list[Column]:
    scene = Scene(31)
    scene.save(folder / "a.jpg")
    regions = [
        dict(
            shape_attributes=dict(
                name="polygon",
                all_points_x=outline[:, 0].tolist(),
                all_points_y=outline[:, 1].tolist(),
            ),
            region_attributes={},
        )
        for outline in scene.outlines
    ]
    content = {"a.jpg1": dict(filename="a.jpg", size=1, regions=regions, file_attributes={})}
    (folder / "via_region_data.json").write_text(json.dumps(content))
    return [
        ("in VIA", scene.with_corners()),
        ("as read: one class", _drawn(via.read(folder, class_name="shape"))),
    ]


def voc_columns(folder: Path) -> list[Column]:
    scene = Scene(33)
    scene.save(folder / "JPEGImages/a.jpg")
    edges = np.zeros((SIZE, SIZE), np.uint8)
    for outline in scene.outlines:
        cv2.polylines(edges, [np.rint(outline).astype(np.int32)], True, 1, 5)
    objects = np.where(edges, VOID, scene.ids)
    classes = np.array([0, *scene.record.classes, *[0] * 300], np.uint8)[scene.ids]
    classes = np.where(edges, VOID, classes)
    _save_ids(objects, folder / "SegmentationObject/a.png")
    _save_ids(classes, folder / "SegmentationClass/a.png")
    names = ["_background_", *shapes.CLASS_NAMES]
    (folder / "class_names.txt").write_text("\n".join(names))
    return [
        ("SegmentationObject", _coloured(objects)),
        ("SegmentationClass", _coloured(classes)),
        ("as read", _drawn(voc.read(folder))),
    ]


def yolo_columns(folder: Path) -> list[Column]:
    scene = Scene(58)
    scene.save(folder / "images/train/a.jpg")
    lines = [
        " ".join(map(str, [shapes.CLASS_NAMES.index(name), *(outline / SIZE).ravel()]))
        for name, outline in zip(scene.names, scene.outlines, strict=True)
    ]
    (folder / "labels/train").mkdir(parents=True)
    (folder / "labels/train/a.txt").write_text("\n".join(lines))
    (folder / "data.yaml").write_text(
        f"train: images/train\nval: images/train\nnames: [{', '.join(shapes.CLASS_NAMES)}]\n"
    )
    return [
        ("polygons of a.txt", scene.with_corners()),
        ("as read", _drawn(yolo.read(folder, options=ReadOptions(split="train")))),
    ]


def mask_folders_columns(folder: Path) -> list[Column]:
    """An image with few objects, and large ones, and two of its masks."""
    dataset = mask_folders.read(folder, "nucleus")
    few = [record for record in dataset.records if 5 <= len(record.boxes) <= 20]
    record = max(few, key=lambda record: np.median(record.areas))
    masks = sorted(Path(record.path).parents[1].glob("masks/*.png"))[:2]
    return [
        ("images", dataset.read_image(record)),
        *((f"masks: {i} of {len(record.boxes)}", read_image(m)) for i, m in enumerate(masks, 1)),
        ("as read", _drawn(dataset, record)),
    ]


def cst_columns(folder: Path) -> list[Column]:
    dataset = cst.read(folder, "val")
    record = dataset.records[3]
    masks = sorted(Path(record.path).parent.glob("masks/*.jpg"))[:1]
    return [
        ("the image", dataset.read_image(record)),
        *((f"masks: 1 of {len(record.boxes)}", read_image(mask)) for mask in masks),
        ("as read", _drawn(dataset, record)),
    ]


GENERATED: dict[str, Callable[[Path], list[Column]]] = {
    "coco": coco_columns,
    "label_images": label_images_columns,
    "labelme": labelme_columns,
    "labelme_export": labelme_export_columns,
    "penn_fudan": penn_fudan_columns,
    "shapes": shapes_columns,
    "tfds": tfds_columns,
    "union": union_columns,
    "via": via_columns,
    "voc": voc_columns,
    "yolo": yolo_columns,
}


def write(name: str, columns: Sequence[Column]) -> None:
    """Writes a format's picture, its columns of one size."""
    titles, pictures = zip(*columns, strict=True)
    pictures = [_column(picture) for picture in pictures]
    content = io.BytesIO()
    Image.fromarray(side_by_side(pictures, titles)).save(content, "JPEG", quality=80)
    OUT.mkdir(exist_ok=True)
    (OUT / f"{name}.jpg").write_bytes(content.getvalue())
    print(f"{name}: {len(content.getvalue()) // 1000} kB")


def _column(picture: np.ndarray) -> np.ndarray:
    """Returns a picture at the size of the others."""
    if picture.shape[:2] == (SIZE, SIZE):
        return picture
    return cv2.resize(picture, (SIZE, SIZE), interpolation=cv2.INTER_AREA)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nuclei", type=Path)
    parser.add_argument("--cst", type=Path)
    options = parser.parse_args()
    for name, columns in GENERATED.items():
        with tempfile.TemporaryDirectory() as folder:
            write(name, columns(Path(folder)))
    if options.nuclei:
        write("mask_folders", mask_folders_columns(options.nuclei))
    if options.cst:
        write("cst", cst_columns(options.cst))


if __name__ == "__main__":
    main()
