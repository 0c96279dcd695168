"""Forty different faults planted in copies of images: found, named, skipped or refused."""

import itertools
import json
import shutil
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from ml_collections import ConfigDict

from maskrcnn_jax.cli.data import main
from maskrcnn_jax.config import Config, get_config
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.data import check, datasets
from maskrcnn_jax.data.files import annotation_files
from maskrcnn_jax.data.input.pipeline import train_batches

NAN, INFINITY = float("nan"), float("inf")


class Image(NamedTuple):
    """What a fault is planted in: an image of its own, with at least one annotation.

    folder: of the image files; content: the JSON; entry, annotation: of the image, in it; other:
    another image's entry, itself without a fault.
    """

    folder: Path
    content: dict
    entry: dict
    annotation: dict
    other: dict

    @property
    def file(self) -> Path:
        return self.folder / self.entry["file_name"]


class Planted(NamedTuple):
    """plant: makes the fault; where: {file}, {image} or {annotation} that must be named."""

    plant: Callable[[Image], object]
    where: str
    kind: str
    words: str
    severity: str = "error"


def header_of_png(width: int, height: int) -> bytes:
    """Returns the beginning of a PNG file of that size: a few bytes that promise gigabytes."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(header))
    data = struct.pack(">I", 1_000) + b"IDAT"
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + crc + data


def _file(change: Callable[[Path], object]) -> Callable[[Image], object]:
    return lambda image: change(image.file)


def _entry(**values: object) -> Callable[[Image], object]:
    return lambda image: image.entry.update(values)


def _annotation(**values: object) -> Callable[[Image], object]:
    return lambda image: image.annotation.update(values)


def _box(change: Callable[[float, float, float, float, dict], list]) -> Callable[[Image], object]:
    def plant(image: Image) -> None:
        image.annotation["bbox"] = change(*image.annotation["bbox"], image.entry)

    return plant


def _runs(change: Callable[[int], object]) -> Callable[[Image], object]:
    """Gives a run-length mask of the image's size, its counts made of the number of pixels."""

    def plant(image: Image) -> None:
        size = [image.entry["height"], image.entry["width"]]
        counts = change(size[0] * size[1])
        image.annotation["segmentation"] = dict(size=size, counts=counts)

    return plant


def _add_image(**values: object) -> Callable[[Image], object]:
    return lambda image: image.content["images"].append(image.entry | values)


def _add_annotation(**values: object) -> Callable[[Image], object]:
    return lambda image: image.content["annotations"].append(image.annotation | values)


def _larger_mask(image: Image) -> None:
    size = [image.entry["height"] + 10, image.entry["width"]]
    counts = [0, size[0] * size[1]]
    image.annotation["segmentation"] = dict(size=size, counts=counts)


def _bow_tie(image: Image) -> None:
    x, y, w, h = image.annotation["bbox"]
    image.annotation["segmentation"] = [[x, y, x + w, y + h, x + w, y, x, y + h]]


def _line(image: Image) -> None:
    x, y, w, h = image.annotation["bbox"]
    image.annotation["segmentation"] = [[x, y, x + w, y + h, x + w / 2, y + h / 2]]


def _far_box(image: Image) -> None:
    """Gives a box in the corner that the mask is furthest from."""
    x, y, w, h = image.annotation["bbox"]
    width, height = image.entry["width"], image.entry["height"]
    corner = [
        0 if x + w / 2 > width / 2 else width - 3,
        0 if y + h / 2 > height / 2 else height - 3,
    ]
    image.annotation["bbox"] = [*corner, 3, 3]


FILE, IMAGE, ANNOTATION = "{file}", "image {image}", "annotation {annotation}"
W = "warning"
FAULTS = {
    "no file": Planted(_file(Path.unlink), FILE, "missing file", "No such file"),
    "empty file": Planted(
        _file(lambda path: path.write_bytes(b"")), FILE, "unreadable file", "not a readable image"
    ),
    "truncated file": Planted(
        _file(lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])),
        FILE,
        "unreadable file",
        "truncated",
    ),
    "text": Planted(
        _file(lambda path: path.write_text("no image")), FILE, "unreadable file", "not a readable"
    ),
    "huge header": Planted(
        _file(lambda path: path.write_bytes(header_of_png(30_000, 30_000))),
        FILE,
        "file too large",
        "refused unread",
    ),
    "another size": Planted(
        lambda image: image.entry.update(width=image.entry["width"] + 1),
        FILE,
        "size of the image",
        "its annotations are for",
    ),
    "no height": Planted(_entry(height=0), IMAGE, "size of the image", "height and width are"),
    "width as text": Planted(_entry(width="6x0"), IMAGE, "size of the image", "'6x0'"),
    "no file name": Planted(
        _entry(file_name=None, coco_url=None), IMAGE, "missing file", "no 'file_name'"
    ),
    "climbing path": Planted(
        _entry(file_name="../secret.jpg"), IMAGE, "file outside the folder", "'../secret.jpg' leads"
    ),
    "absolute path": Planted(
        _entry(file_name="/etc/passwd"), IMAGE, "file outside the folder", "'/etc/passwd' leads"
    ),
    "image id twice": Planted(
        _add_image(file_name="other.jpg"), IMAGE, "id used twice", "have the same id"
    ),
    "file twice": Planted(
        lambda image: image.entry.update(
            {key: image.other[key] for key in ("file_name", "height", "width")}
        ),
        IMAGE,
        "image or annotation twice",
        "is the same file as image",
        W,
    ),
    "same bytes": Planted(
        lambda image: (
            shutil.copy(image.folder / image.other["file_name"], image.file),
            image.entry.update({key: image.other[key] for key in ("height", "width")}),
        ),
        IMAGE,
        "image or annotation twice",
        "has the same bytes as image",
        W,
    ),
    "NaN in box": Planted(
        _box(lambda x, y, w, h, image: [x, NAN, w, h]), ANNOTATION, "box", "four finite numbers", W
    ),
    "endless box": Planted(
        _box(lambda x, y, w, h, image: [x, y, INFINITY, h]), ANNOTATION, "box", "inf", W
    ),
    "reversed box": Planted(
        _box(lambda x, y, w, h, image: [x + w, y, -w, h]),
        ANNOTATION,
        "box",
        "width and height above",
        W,
    ),
    "flat box": Planted(
        _box(lambda x, y, w, h, image: [x, y, w, 0]), ANNOTATION, "box", "has no area", W
    ),
    "box outside": Planted(
        _box(lambda x, y, w, h, image: [x + image["width"], y, w, h]),
        ANNOTATION,
        "box",
        "lies outside its image",
        W,
    ),
    "box that leaves": Planted(
        _box(lambda x, y, w, h, image: [x, y, image["width"] - x + 20, h]),
        ANNOTATION,
        "box outside the image",
        "leaves its image",
        W,
    ),
    "box of three": Planted(
        _box(lambda x, y, w, h, image: [x, y, w]), ANNOTATION, "box", "four finite numbers", W
    ),
    "nothing but a class": Planted(
        _annotation(bbox=None, segmentation=[]), ANNOTATION, "mask", "segmentation is []"
    ),
    "box elsewhere": Planted(_far_box, ANNOTATION, "box and mask disagree", "hardly agree", W),
    "unknown class": Planted(
        _annotation(category_id=12), ANNOTATION, "unknown class", "category_id 12 is not in", W
    ),
    "unknown image": Planted(
        _annotation(image_id=123), ANNOTATION, "unknown image", "image_id 123 is not"
    ),
    "annotation id twice": Planted(
        lambda image: image.content["annotations"].append(
            image.annotation | dict(bbox=[1, 1, 9, 9])
        ),
        ANNOTATION,
        "id used twice",
        "that of an earlier one",
        W,
    ),
    "mask as text": Planted(
        _annotation(segmentation="none"), ANNOTATION, "mask", "segmentation is 'none'", W
    ),
    "crowd of two": Planted(_annotation(iscrowd=2), ANNOTATION, "crowd region", "iscrowd is 2", W),
    "two points": Planted(
        _annotation(segmentation=[[5, 5, 9, 9]]), ANNOTATION, "outline", "4 numbers; expected", W
    ),
    "NaN in outline": Planted(
        _annotation(segmentation=[[5, 5, 9, NAN, 9, 9]]), ANNOTATION, "outline", "finite numbers", W
    ),
    "far outline": Planted(
        _annotation(segmentation=[[5, 5, 9e5, 5, 9, 9]]),
        ANNOTATION,
        "box outside the image",
        "far out of its image",
        W,
    ),
    "crossed outline": Planted(
        _bow_tie, ANNOTATION, "outline crosses itself", "crosses itself near", W
    ),
    "outline of a line": Planted(_line, ANNOTATION, "outline", "lies on one line", W),
    "no mask": Planted(
        _annotation(segmentation=[]), ANNOTATION, "mask", "polygons or run lengths", W
    ),
    "empty runs": Planted(
        _runs(lambda pixels: [pixels]), ANNOTATION, "empty mask", "run-length mask is empty", W
    ),
    "mask larger than image": Planted(
        _larger_mask, ANNOTATION, "mask of another size", "expected [height, width] of the image", W
    ),
    "short runs": Planted(
        _runs(lambda pixels: [10, pixels - 11]), ANNOTATION, "mask of another size", "add up to", W
    ),
    "runs of no code": Planted(
        _runs(lambda pixels: "\x01\x02"), ANNOTATION, "mask", "COCO's code", W
    ),
    "object twice": Planted(
        _add_annotation(id=7_000_001),
        "annotation 7000001",
        "image or annotation twice",
        "class, box and mask of annotation {annotation}",
        W,
    ),
    "negative area": Planted(_annotation(area=-4), ANNOTATION, "area", "area is -4", W),
}


@pytest.fixture(scope="module")
def planted(coco_dir, tmp_path_factory) -> SimpleNamespace:
    """Copies of images of 480 x 640 with one fault in each but the first, and what to expect."""
    content = json.loads((coco_dir / "annotations" / "instances_train2017.json").read_text())
    by_image: dict[int, list] = {}
    for annotation in content["annotations"]:
        by_image.setdefault(annotation["image_id"], []).append(annotation)
    folder = tmp_path_factory.mktemp("planted") / "images"
    folder.mkdir()
    content["images"] = [
        entry
        for entry in content["images"]
        if (entry["height"], entry["width"]) == (480, 640)
        and all(not a["iscrowd"] for a in by_image.get(entry["id"], [dict(iscrowd=1)]))
    ][: len(FAULTS) + 1]
    assert len(content["images"]) == len(FAULTS) + 1
    entries = list(content["images"])
    whole, *others = entries
    content["annotations"] = [a for entry in entries for a in by_image[entry["id"]]]
    for entry in entries:
        shutil.copy(coco_dir / "train2017" / entry["file_name"], folder)
    expected = {}
    for (name, fault), entry in zip(FAULTS.items(), others, strict=True):
        annotation = max(by_image[entry["id"]], key=lambda a: a["area"])
        expected[name] = {"file": entry["file_name"], "image": entry["id"]}
        expected[name] |= {"annotation": annotation["id"]}
        fault.plant(Image(folder, content, entry, annotation, whole))
    path = folder.parent / "instances.json"
    path.write_text(json.dumps(content))
    return SimpleNamespace(images=folder, annotations=path, expected=expected)


def run_check(planted, out: Path, *arguments: str) -> tuple[int, dict]:
    paths = (f"--images={planted.images}", f"--annotations={planted.annotations}")
    status = main(["check", "--format=coco", *paths, f"--out={out}", *arguments])
    return status, json.loads(out.read_text())["splits"]["train"]


def test_every_fault_is_found_and_named(planted, tmp_path, capsys):
    assert len(FAULTS) == 40
    status, result = run_check(planted, tmp_path / "faults.json")
    assert status == 1
    text = capsys.readouterr().out
    unexplained = [f"{f['file']}: {f['part']}" for f in result["faults"]]
    for name, fault in FAULTS.items():
        names = planted.expected[name]
        where, words = fault.where.format(**names), fault.words.format(**names)
        found = [
            f
            for f in result["faults"]
            if f"{f['file']}: {f['part']}".removesuffix(": None").endswith(where)
            and words in f["reason"]
        ]
        assert len(found) == 1, (name, where, words, found)
        assert (found[0]["kind"], found[0]["severity"]) == (fault.kind, fault.severity), name
        assert found[0]["reason"] in text
        unexplained.remove(f"{found[0]['file']}: {found[0]['part']}")
    left = [f for f in result["faults"] if f"{f['file']}: {f['part']}" in unexplained]
    reasons = {
        "is not that of a usable image",
        "no instance of",
        "hardly agree",
        "leaves its image",
        "covers no pixel",  # of the planted outline of a line, which may have two faults
        "lies on one line",
    }
    other = [f for f in left if not any(reason in f["reason"] for reason in reasons)]
    assert other == []
    counts = Counter(f["kind"] for f in result["faults"])
    assert result["kinds"] == counts
    assert all(f"{count} {kind}" in text for kind, count in counts.items())


def test_headers_alone_leave_the_truncated_file_to_be_found(planted, tmp_path):
    _, result = run_check(planted, tmp_path / "faults.json", "--no-decode")
    truncated = planted.expected["truncated file"]["file"]
    assert not any(f["file"].endswith(truncated) for f in result["faults"])


@pytest.fixture
def config(planted) -> Config:
    config = get_config()
    set_values(config.data, dict(format="coco", mask_size=14, resize="square", buckets=((64, 64),)))
    config.data.train = ConfigDict(
        dict(images=str(planted.images), annotations=str(planted.annotations))
    )
    config.train.batch_size = 5
    return config


def test_training_data_without_the_faults(planted, config):
    lines = []
    dataset = check.checked(datasets.load(config.data, "train"), config.data, log=lines.append)
    assert len(planted.expected) > len(dataset.records) > 20
    assert "errors" in lines[0]
    batches = train_batches(dataset, config)
    skipped, used = [], set()
    for batch, info in batches:
        if info["epoch"] > 0:
            break
        skipped += info["skipped"]
        used |= {i for i, ok in zip(info["image_ids"], batch["image_valid"], strict=True) if ok}
    batches.close()
    truncated = planted.expected["truncated file"]
    assert len(skipped) == 1
    assert truncated["file"] in skipped[0]
    assert truncated["image"] not in used
    assert len(used) >= len(dataset.records) - config.train.batch_size


def test_raise_stops_at_the_first_with_its_file(planted, config):
    config.data.on_error = "raise"
    with pytest.raises(ValueError, match=r"(?s)faults in the dataset.*instances\.json: image "):
        datasets.load(config.data, "train")
    config.data.on_error = "skip"
    dataset = check.checked(datasets.load(config.data, "train"), config.data, log=str)
    config.data.on_error = "raise"
    truncated = planted.expected["truncated file"]["file"]
    batches = train_batches(dataset, config)
    with pytest.raises(ValueError, match=f"{truncated} is not a readable image, or is truncated"):
        list(itertools.takewhile(lambda item: item[1]["epoch"] == 0, batches))


def test_too_large_a_file_of_annotations_is_refused(planted, monkeypatch, capsys):
    monkeypatch.setattr(annotation_files, "MAX_JSON_BYTES", 10_000)
    paths = (f"--images={planted.images}", f"--annotations={planted.annotations}")
    assert main(["check", "--format=coco", *paths]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: config.data.train: {planted.annotations} has")
    assert "more than the 10,000 that are read" in line
