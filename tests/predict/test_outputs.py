"""What is written of an image: in its format, and as others and our own readers take it."""

import csv
import json

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image
from pycocotools.coco import COCO

from maskrcnn_jax.data import datasets
from maskrcnn_jax.data.config import DataConfig
from maskrcnn_jax.images.paste import MaskCrop
from maskrcnn_jax.inference.result import Result
from maskrcnn_jax.predict.outputs import KINDS, Found, Outputs, kinds, overlay_path
from maskrcnn_jax.predict.sources import Source
from maskrcnn_jax.visualization.style import Style

_CLASSES = [(7, "cat"), (9, "big dog")]


@pytest.fixture
def found(tmp_path):
    """An image of 40 x 60 pixels with a square and, of two parts, a big dog."""
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    path = tmp_path / "given" / "a.png"
    path.parent.mkdir()
    Image.fromarray(image).save(path)
    parts = np.zeros((10, 20), bool)
    parts[2:8, 1:6] = parts[2:9, 12:19] = True
    result = Result(
        boxes=np.float32([[5, 10, 15, 20], [31, 22, 49, 29]]),
        scores=np.float32([0.9, 0.75]),
        classes=np.int32([1, 2]),
        class_names=("cat", "big dog"),
        crops=(MaskCrop(np.ones((10, 10), bool), 10, 5), MaskCrop(parts, 20, 30)),
        height=40,
        width=60,
        category_ids=(7, 9),
    )
    return Found(Source("image", str(path), "deep/a"), 1, image, result)


def _written(out, wanted, *several, scale=1.0):
    outputs = Outputs(out, wanted, Style(), scale, _CLASSES)
    pictures = []
    for found in several:
        pictures.append(outputs.write(found))
        outputs.add(found)
    outputs.finish()
    return pictures


def test_kinds():
    assert kinds("csv, json,csv") == ("csv", "json")
    with pytest.raises(ValueError, match=r"--outputs has 'xml'; expected some of overlays,json"):
        kinds("json,xml")


def test_nothing_is_written_but_what_is_wanted(found, tmp_path):
    for kind in KINDS:
        _written(tmp_path / kind, [kind], found)
    written = {
        kind: sorted(str(p.relative_to(tmp_path / kind)) for p in (tmp_path / kind).rglob("*.*"))
        for kind in KINDS
    }
    assert written == {
        "overlays": ["deep/a.png"],
        "json": ["predictions.json"],
        "labelme": ["labelme/deep/a.json", "labelme/deep/a.png"],
        "coco": ["coco.json"],
        "cutouts": ["cutouts/deep/a/001_cat.png", "cutouts/deep/a/002_big_dog.png"],
        "csv": ["objects.csv"],
    }


def test_an_overlay_has_the_format_and_size_of_its_image(found, tmp_path):
    for kind, place, expected in (
        ("image", "a.JPG", "JPEG"),
        ("image", "a.webp", "WEBP"),
        ("image", "a.gif", "PNG"),
        ("address", "https://host/a.jpeg?size=1.png#x.bmp", "JPEG"),
    ):
        source = Source(kind, place, "b")
        _written(tmp_path, ["overlays"], found._replace(source=source))
        with Image.open(overlay_path(source, tmp_path)) as picture:
            assert (picture.format, picture.size) == (expected, (60, 40))
    assert overlay_path(Source("camera", "0", "camera_0"), tmp_path) == tmp_path / "camera_0.mp4"


@pytest.mark.parametrize(
    ("scale", "size"), [(0.5, (30, 20)), (2.5, (150, 100)), (None, (840, 560))]
)
def test_the_scale_of_overlays(found, tmp_path, scale, size):
    _written(tmp_path, ["overlays"], found, scale=scale)
    assert Image.open(tmp_path / "deep" / "a.png").size == size


def test_a_frame_is_not_written_but_returned(found, tmp_path):
    frame = found._replace(source=Source("video", "v.mp4", "v"), frame=3, seconds=0.12)
    (picture,) = _written(tmp_path, ["overlays", "json", "labelme", "csv"], frame)
    assert picture.shape == (40, 60, 3)
    assert sorted(p.name for p in tmp_path.rglob("000003.*")) == ["000003.json", "000003.png"]
    entry = json.loads((tmp_path / "predictions.json").read_text())[0]
    assert (entry["file_name"], entry["frame"], entry["seconds"]) == ("v.mp4", 3, 0.12)


def test_coco_results_and_data_set_go_together(found, tmp_path):
    second = found._replace(source=Source("image", "b.png", "b"), image_id=2)
    _written(tmp_path, ["json", "coco"], second, found)  # batches may finish in another order
    entries = json.loads((tmp_path / "predictions.json").read_text())
    assert [(e["image_id"], e["class_name"]) for e in entries] == [
        (1, "cat"), (1, "big dog"), (2, "cat"), (2, "big dog")
    ]  # fmt: skip
    coco = COCO(tmp_path / "coco.json")
    results = coco.loadRes(str(tmp_path / "predictions.json"))
    for read in (coco, results):
        (annotation,) = read.loadAnns(read.getAnnIds(imgIds=[2], catIds=[9]))
        np.testing.assert_array_equal(read.annToMask(annotation), found.result.masks[1])
    assert [a["area"] for a in coco.loadAnns(coco.getAnnIds(imgIds=[1]))] == [100, 5 * 6 + 7 * 7]
    assert coco.loadCats([7]) == [{"id": 7, "name": "cat"}]
    assert coco.loadImgs([1])[0]["file_name"] == found.source.place


def test_labelme_files_are_read_back_as_a_data_set(found, tmp_path):
    _written(tmp_path, ["labelme"], found)
    data = DataConfig(format="labelme", train=ConfigDict({"folder": str(tmp_path / "labelme")}))
    dataset = datasets.load(data, "train")
    (record,) = dataset.records
    assert [dataset.class_names[k - 1] for k in record.classes] == ["cat", "big dog"]
    np.testing.assert_array_equal(dataset.read_image(record), found.image)
    np.testing.assert_allclose(record.boxes, found.result.boxes, atol=0.5)


def test_cutouts_are_transparent_around_the_object(found, tmp_path):
    _written(tmp_path, ["cutouts"], found)
    folder = tmp_path / "cutouts" / "deep" / "a"
    cat, dog = (np.array(Image.open(folder / name)) for name in ("001_cat.png", "002_big_dog.png"))
    np.testing.assert_array_equal(cat[..., :3], found.image[10:20, 5:15])
    assert (cat[..., 3] == 255).all()
    assert dog.shape == (7, 18, 4)
    np.testing.assert_array_equal(dog[..., 3] > 0, found.result.masks[1][22:29, 31:49])
    assert not dog[dog[..., 3] == 0].any()


def test_the_table(found, tmp_path):
    _written(tmp_path, ["csv"], found)
    with open(tmp_path / "objects.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[1] == {
        "file_name": found.source.place, "frame": "", "seconds": "", "object": "2",
        "class_name": "big dog", "category_id": "9", "score": "0.7500", "area": "79",
        "x1": "31.00", "y1": "22.00", "x2": "49.00", "y2": "29.00",
    }  # fmt: skip
