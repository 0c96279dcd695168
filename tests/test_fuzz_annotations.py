"""Damaged annotations of every format, and damaged checkpoints: nothing but errors for users.

Slow; `MASKRCNN_JAX_MUTATIONS=10000` sets how many mutations each kind gets.
"""

import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from maskrcnn_jax.checkpoints import load
from maskrcnn_jax.checkpoints.format import save_weights
from maskrcnn_jax.config_json import to_json
from maskrcnn_jax.data.check import check
from maskrcnn_jax.data.formats import (
    coco,
    cst,
    label_images,
    labelme,
    labelme_export,
    via,
    voc,
    yolo,
)
from maskrcnn_jax.data.masks.segmentation import to_rle
from maskrcnn_jax.data.prepared.examples import record_of
from maskrcnn_jax.data.records import Dataset
from tests.data.prepared.test_hostile_examples import example
from tests.end_to_end.tiny import get_config
from tests.test_fuzz_files import MUTATIONS, mutated

pytestmark = pytest.mark.slow

OUTLINE = [[10, 5], [30, 5], [30, 25], [10, 25]]
FLAT = [float(value) for point in OUTLINE for value in point]
ODD = (None, True, -1, 0, 1.5, 1e308, 10**30, "", "x", "1", "\ud800")
ODD += ([], {}, [[]], [None], {"a": 1})


def masked() -> np.ndarray:
    mask = np.zeros((40, 60), np.uint8)
    mask[5:25, 10:30] = 1
    return mask


def picture(path: Path, pixels: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((40, 60, 3), 99, np.uint8) if pixels is None else pixels).save(path)


def changed_json(content: Any, rng: np.random.Generator) -> Any:
    """Returns a copy in which a value somewhere is another, is missing, or is there twice."""
    content = json.loads(json.dumps(content))
    places = list(_places(content))
    for _ in range(rng.integers(1, 4)):
        holder, key = places[rng.integers(len(places))]
        try:
            match rng.integers(4):
                case 0:
                    del holder[key]
                case 1 if isinstance(holder, list):
                    holder.append(holder[key])
                case _:
                    holder[key] = ODD[rng.integers(len(ODD))]
        except (KeyError, IndexError):  # it has gone with another change
            continue
    return content


def _places(content: Any) -> Iterator[tuple[Any, Any]]:
    keys = content if isinstance(content, dict) else range(len(content))
    for key in list(keys):
        yield content, key
        if isinstance(content[key], dict | list):
            yield from _places(content[key])


def damaged_json(content: Any) -> Iterator[bytes]:
    """Yields half of the mutations of its values, and half of its bytes."""
    rng = np.random.default_rng(0)
    for _ in range(MUTATIONS // 2):
        yield json.dumps(changed_json(content, rng)).encode("utf-8", "surrogatepass")
    yield from mutated(json.dumps(content).encode(), MUTATIONS - MUTATIONS // 2)


def of_coco(folder: Path) -> tuple[Path, Iterator[bytes], Callable[[], Dataset]]:
    picture(folder / "a.png")
    runs = coco_mask.encode(np.asfortranarray(masked()))
    box = [10, 5, 20, 20]
    masks = ([FLAT], dict(size=[40, 60], counts=runs["counts"].decode()),
             dict(size=[40, 60], counts=[410, 20, 1970]))  # fmt: skip
    content = dict(
        images=[dict(id=1, file_name="a.png", height=40, width=60)],
        annotations=[
            dict(id=i, image_id=1, category_id=1, bbox=box, area=400, iscrowd=0, segmentation=mask)
            for i, mask in enumerate(masks, 1)
        ],
        categories=[dict(id=1, name="cat", supercategory="animal"), dict(id=2, name="dog")],
    )
    path = folder / "a.json"
    return path, damaged_json(content), lambda: coco.read(folder, path)


def of_labelme(folder: Path) -> tuple[Path, Iterator[bytes], Callable[[], Dataset]]:
    picture(folder / "a.png")
    shapes = [
        dict(label="cat", points=OUTLINE, shape_type="polygon", group_id=None, flags={}),
        dict(label="dog", points=[[40, 20], [44, 20]], shape_type="circle", group_id=1),
        dict(label="dog", points=[[1, 1], [9, 9]], shape_type="rectangle", group_id=2),
    ]
    content = dict(imagePath="a.png", imageData=None, imageHeight=40, imageWidth=60, shapes=shapes)
    return folder / "a.json", damaged_json(content), lambda: labelme.read(folder)


def of_via(folder: Path) -> tuple[Path, Iterator[bytes], Callable[[], Dataset]]:
    picture(folder / "a.png")
    xs, ys = zip(*OUTLINE, strict=True)
    regions = [
        dict(shape_attributes=dict(name="polygon", all_points_x=xs, all_points_y=ys),
             region_attributes=dict(kind="cat")),
        dict(shape_attributes=dict(name="ellipse", cx=40, cy=20, rx=8, ry=5, theta=0.2),
             region_attributes=dict(kind="dog")),
        dict(shape_attributes=dict(name="rect", x=1, y=2, width=8, height=5),
             region_attributes=dict(kind={"dog": True})),
    ]  # fmt: skip
    content = {"a.png9": dict(filename="a.png", size=9, regions=regions, file_attributes={})}
    path = folder / "via_region_data.json"
    return path, damaged_json(content), lambda: via.read(folder, class_attribute="kind")


def of_voc(folder: Path) -> tuple[Path, Iterator[bytes], Callable[[], Dataset]]:
    picture(folder / "JPEGImages" / "a.png")
    for part in ("SegmentationClass", "SegmentationObject"):
        picture(folder / part / "a.png", masked())
    box = "<bndbox><xmin>11</xmin><ymin>6</ymin><xmax>30</xmax><ymax>25</ymax></bndbox>"
    thing = f"<object><name>aeroplane</name><difficult>0</difficult>{box}</object>"
    size = "<size><width>60</width><height>40</height><depth>3</depth></size>"
    content = f"<annotation><filename>a.png</filename>{size}{thing}{thing}</annotation>".encode()
    path = folder / "Annotations" / "a.xml"
    path.parent.mkdir()
    return path, mutated(content, MUTATIONS), lambda: voc.read(folder)


def of_yolo(folder: Path) -> tuple[Path, Iterator[bytes], Callable[[], Dataset]]:
    picture(folder / "images" / "a.png")
    (folder / "labels").mkdir()
    (folder / "data.yaml").write_text("path: .\ntrain: images\nval: images\nnames: [cat, dog]\n")
    content = b"0 0.1 0.1 0.5 0.1 0.5 0.6 0.1 0.6\n1 0.5 0.5 0.2 0.2\n0 0.2 0.2 0.3 0.3 0.2 0.3\n"
    read = lambda: yolo.read(folder / "data.yaml", "train")  # noqa: E731
    return folder / "labels" / "a.txt", mutated(content, MUTATIONS), read


def of_yolo_names(folder: Path) -> tuple[Path, Iterator[bytes], Callable[[], Dataset]]:
    of_yolo(folder)
    (folder / "labels" / "a.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.6 0.1 0.6\n")
    content = b"path: .\ntrain: images\nval: images\nnames:\n  0: cat\n  1: dog\n"
    path = folder / "data.yaml"
    return path, mutated(content, MUTATIONS), lambda: yolo.read(path, "train")


def of_cst(folder: Path) -> tuple[Path, Iterator[bytes], Callable[[], Dataset]]:
    picture(folder / "train" / "a" / "a.jpg")
    picture(folder / "train" / "a" / "masks" / "0.png", masked() * 255)
    (folder / "annotation").mkdir()
    content = b"image_id,object_id,class,bbox,mask_path\na,a-0,c,1 2 3 4,a/masks/0.png\n"
    path = folder / "annotation" / "anno-train.csv"
    return path, mutated(content, MUTATIONS), lambda: cst.read(folder)


def of_labelme_export(folder: Path) -> tuple[Path, Iterator[bytes], Callable[[], Dataset]]:
    picture(folder / "a_json" / "img.png")
    picture(folder / "a_json" / "label.png", masked())
    content = b"label_names:\n- _background_\n- tank1\n"
    path = folder / "a_json" / "info.yaml"
    return path, mutated(content, MUTATIONS), lambda: labelme_export.read(folder)


def of_label_images(folder: Path) -> tuple[Path, Iterator[bytes], Callable[[], Dataset]]:
    picture(folder / "images" / "a.png")
    picture(folder / "masks" / "a.png", masked())
    path = folder / "masks" / "a.png"
    return path, mutated(path.read_bytes(), MUTATIONS), lambda: label_images.read(folder)


FORMATS = {
    function.__name__.removeprefix("of_"): function
    for function in (of_coco, of_labelme, of_via, of_voc, of_yolo, of_yolo_names, of_cst,
                     of_labelme_export, of_label_images)
}  # fmt: skip


def unexpected_of(read: Callable[[], object]) -> list[str]:
    try:
        read()
    except (ValueError, OSError):
        return []
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]
    return []


@pytest.mark.parametrize("form", FORMATS)
def test_annotations(tmp_path, form):
    """What is read of damaged annotations is checked, and its masks are filled."""
    path, contents, read = FORMATS[form](tmp_path)

    def use() -> None:
        dataset = read()
        check(dataset)
        for record in dataset.records:
            for segmentation in record.segmentations:
                to_rle(segmentation, record.height, record.width)

    unexpected, whole = [], 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for content in contents:
            path.write_bytes(content)
            unexpected += unexpected_of(use)
            whole += 1
    assert whole == MUTATIONS
    assert unexpected == []


def test_examples_of_prepared_datasets():
    from tensorflow_datasets.proto import tf_example_pb2

    unexpected = []
    for content in mutated(example().SerializeToString(), MUTATIONS):
        message = tf_example_pb2.Example()
        try:
            message.ParseFromString(content)
        except Exception:  # the reader's `_faults_named` turns these into ValueError
            continue
        unexpected += unexpected_of(lambda m=message: record_of(m, 1, 10_000))
    assert unexpected == []


@pytest.mark.parametrize("part", ["metadata", "arrays"])
def test_checkpoints(tmp_path, monkeypatch, part):
    """Each file of a checkpoint, with the model's shapes made once: tracing it takes a second."""
    variables = {"params": {"a": np.arange(6.0, dtype=np.float32).reshape(2, 3)}}
    metadata = {"config": to_json(get_config()), "class_names": ["a"], "category_ids": [1]}
    sound = tmp_path / "sound"
    save_weights(sound / "checkpoints", variables, metadata)
    monkeypatch.setattr(load, "abstract_variables", lambda model: variables)
    assert set(load.load_for_inference(sound)[0]) == {"params"}
    files = sorted(path for path in (sound / "checkpoints").rglob("*") if path.is_file())
    files = [path for path in files if ("metadata" in path.parts) == (part == "metadata")]
    unexpected = []
    share = -(-MUTATIONS // len(files))
    for file in files:
        content = file.read_bytes()
        is_json = file.name == "metadata" and file.parent.name == "metadata"
        rng = np.random.default_rng(1)
        for number, damaged in enumerate(mutated(content, share)):
            if is_json and number % 2:
                damaged = json.dumps(changed_json(json.loads(content), rng)).encode(
                    "utf-8", "surrogatepass"
                )
            file.write_bytes(damaged)
            unexpected += unexpected_of(lambda: load.load_for_inference(sound))
        file.write_bytes(content)
    shutil.rmtree(sound)
    assert unexpected == []
