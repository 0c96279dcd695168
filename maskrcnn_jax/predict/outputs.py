"""What `predict.py` writes: of each image its files, and of all of them tables."""

import csv
import io
import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import cv2
import numpy as np

from maskrcnn_jax.files import write_atomically
from maskrcnn_jax.images.png import SUFFIXES, encode_picture, encode_png
from maskrcnn_jax.inference.result import Result
from maskrcnn_jax.keypoint_set import SHOWN
from maskrcnn_jax.predict.sources import Source
from maskrcnn_jax.visualization.drawing import as_rgb
from maskrcnn_jax.visualization.overlay import draw_result
from maskrcnn_jax.visualization.style import Style

KINDS = {
    "overlays": "pictures with what was found drawn on them, videos of videos",
    "json": "predictions.json, a list of all objects: COCO's results with names",
    "labelme": "labelme/, a JSON file beside each image, to correct by hand and train on",
    "coco": "coco.json, a COCO data set of all images and objects",
    "cutouts": "cutouts/, each object by itself on a transparent ground (PNG)",
    "csv": "objects.csv, a line of class, score, area and box for each object",
}
USUAL = ("overlays", "json")
_COLUMNS = (
    *("file_name", "frame", "seconds", "object", "class_name", "category_id", "score", "area"),
    *("x1", "y1", "x2", "y2"),
)


class Found(NamedTuple):
    """One image, or one frame of a video, and what was found in it.

    Attributes:
        source: where it is from.
        image_id: of the image or frame among all, from 1.
        image: `[h, w, C]` as the model takes it.
        result: the objects.
        frame: number of the frame from 0; None of an image.
        seconds: time of the frame.
    """

    source: Source
    image_id: int
    image: np.ndarray
    result: Result
    frame: int | None = None
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """Of its files, a relative path without suffix."""
        name = self.source.name
        return name if self.frame is None else f"{name}/{self.frame:06d}"

    def where(self) -> dict[str, Any]:
        """Returns the keys that say which image it is."""
        place = {"file_name": str(self.source)}
        if self.frame is None:
            return place
        return {**place, "frame": self.frame, "seconds": round(self.seconds, 4)}


def kinds(text: str) -> tuple[str, ...]:
    """Returns the kinds of outputs in a list such as "overlays,csv".

    Raises:
        ValueError: one is unknown.
    """
    wanted = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    unknown = [part for part in wanted if part not in KINDS]
    if unknown:
        raise ValueError(f"--outputs has {unknown[0]!r}; expected some of {','.join(KINDS)}")
    return wanted


def overlay_path(source: Source, out: Path) -> Path:
    """Returns the file of a source's picture or video, in its own format where that is written."""
    if not source.is_image:
        return out / f"{source.name}.mp4"
    place = urlsplit(source.place).path if source.kind == "address" else source.place
    suffix = Path(place).suffix
    return out / f"{source.name}{suffix if suffix.lower() in SUFFIXES else '.png'}"


class Outputs:
    """Writes the outputs that are wanted.

    `write` may be called by several threads; `add` and `finish` by one.
    """

    def __init__(
        self,
        out: Path,
        wanted: Sequence[str],
        style: Style,
        scale: float | None,
        classes: Sequence[tuple[int, str]],
    ):
        """Takes the folder, kinds of outputs, how to draw, and the classes' ids and names."""
        self.out, self.wanted = out, wanted
        self._style, self._scale, self._classes = style, scale, classes
        self._entries: list[tuple[int, list[str]]] = []
        self._rows: list[tuple] = []
        self._images: list[dict[str, Any]] = []
        self._keypoints: dict[str, list] = {}

    def write(self, found: Found) -> np.ndarray | None:
        """Writes the files of one image; returns the picture of a frame, for its video."""
        picture = None
        if "overlays" in self.wanted:
            picture = draw_result(found.image, found.result, style=self._style, scale=self._scale)
            if found.frame is None:
                path = overlay_path(found.source, self.out)
                write_atomically(path, encode_picture(picture, path.suffix.lower()))
        if "labelme" in self.wanted:
            _write_labelme(found, self.out / "labelme" / found.name)
        if "cutouts" in self.wanted:
            _write_cutouts(found, self.out / "cutouts" / found.name)
        return None if found.frame is None else picture

    def add(self, found: Found) -> None:
        """Notes what was found in an image for the tables."""
        result, where = found.result, found.where()
        if {"json", "coco"} & set(self.wanted):
            pairs = zip(result.to_coco(found.image_id), result.areas.tolist(), strict=True)
            entries = [{**entry, "area": area, **where} for entry, area in pairs]
            self._entries.append((found.image_id, [json.dumps(entry) for entry in entries]))
        if "coco" in self.wanted:
            size = {"height": result.height, "width": result.width}
            name = where["file_name"] if found.frame is None else f"{found.name}.png"
            if result.keypoint_set is not None:
                self._keypoints = result.keypoint_set.coco_entry()
            self._images.append({"id": found.image_id, "file_name": name, **size})
        if "csv" in self.wanted:
            self._rows += _rows(found)

    def finish(self) -> None:
        """Writes the tables of what was added.

        Raises:
            OSError: one cannot be written.
        """
        lines = [line for _, entries in sorted(self._entries) for line in entries]
        contents: dict[str, tuple[str, Callable[[], str]]] = {
            "json": ("predictions.json", lambda: "[" + ",\n".join(lines) + "]\n"),
            "coco": ("coco.json", lambda: json.dumps(self._data_set(lines))),
            "csv": ("objects.csv", lambda: _table(self._rows)),
        }
        for kind, (name, content) in contents.items():
            if kind in self.wanted:
                write_atomically(self.out / name, content())

    def _data_set(self, lines: list[str]) -> dict[str, Any]:
        """Returns a COCO data set, whose annotations have a score besides."""
        annotations = []
        for number, entry in enumerate(map(json.loads, lines), 1):
            keys = ("image_id", "category_id", "bbox", "area", "segmentation", "score")
            kept = {key: entry[key] for key in keys if key in entry}
            annotations.append({"id": number, "iscrowd": 0, **kept, **_known_keypoints(entry)})
        return {
            "images": sorted(self._images, key=lambda image: image["id"]),
            "categories": [
                {"id": number, "name": name, **self._keypoints} for number, name in self._classes
            ],
            "annotations": annotations,
        }


def _known_keypoints(entry: dict[str, Any]) -> dict[str, Any]:
    """Returns the keypoints of a result as those of an annotation, seen where one is to be."""
    if "keypoints" not in entry:
        return {}
    points = np.array(entry["keypoints"]).reshape(-1, 3)
    points = np.where(points[:, 2:] >= SHOWN, points, 0)
    points[:, 2] = 2 * (points[:, 2] > 0)
    return {"keypoints": points.ravel().tolist(), "num_keypoints": int((points[:, 2] > 0).sum())}


def _rows(found: Found) -> list[tuple]:
    """Returns the lines of one image's objects, in the order of `_COLUMNS`."""
    where, result = found.where(), found.result
    keys = where["file_name"], where.get("frame", ""), where.get("seconds", "")
    ids = result.category_ids or range(1, 1 + max(result.classes.tolist(), default=0))
    return [
        (found.image_id, (*keys, i, name, ids[k - 1], f"{score:.4f}", area, *map(_decimal, box)))
        for i, (name, k, score, area, box) in enumerate(
            zip(
                result.class_names,
                result.classes.tolist(),
                result.scores.tolist(),
                result.areas.tolist(),
                result.boxes.tolist(),
                strict=True,
            ),
            1,
        )
    ]


def _decimal(value: float) -> str:
    return f"{value:.2f}"


def _table(rows: list[tuple]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(row for _, row in sorted(rows, key=lambda pair: pair[0]))
    return text.getvalue()


def _write_labelme(found: Found, place: Path) -> None:
    """Writes labelme's file, and the image beside it: such a folder is a data set."""
    source = found.source
    if source.kind == "image" and Path(source.place).suffix:
        image = place.with_name(place.name + Path(source.place).suffix)
        image.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.place, image)
    else:
        image = place.with_name(place.name + ".png")
        write_atomically(image, encode_png(as_rgb(found.image)))
    content = json.dumps(found.result.to_labelme(image.name), indent=2)
    write_atomically(place.with_name(place.name + ".json"), content)


def _write_cutouts(found: Found, folder: Path) -> None:
    """Writes each object where its mask is, `NUMBER_CLASS.png`, transparent around it."""
    picture, result = as_rgb(found.image), found.result
    for number, (name, crop) in enumerate(zip(result.class_names, result.crops, strict=True), 1):
        y, x = np.nonzero(crop.mask)
        if not len(y):
            continue
        part = np.s_[y.min() : y.max() + 1, x.min() : x.max() + 1]
        mask = crop.mask[part]
        top, left = crop.y + int(y.min()), crop.x + int(x.min())
        pixels = picture[top : top + mask.shape[0], left : left + mask.shape[1]]
        cutout = np.dstack([pixels[..., ::-1], mask.astype(np.uint8) * 255])
        _, content = cv2.imencode(".png", np.where(mask[..., None], cutout, 0))
        plain = re.sub(r"[^\w.-]+", "_", name)[:80]
        write_atomically(folder / f"{number:03d}_{plain}.png", content.tobytes())
