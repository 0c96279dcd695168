"""The recipe for a folder of one's own labelme files."""

import itertools
import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags
from PIL import Image

from configs.own import get_config
from maskrcnn_jax.cli.data import main
from maskrcnn_jax.config_json import to_json
from maskrcnn_jax.data import datasets
from maskrcnn_jax.data.input import pipeline

RECIPE = Path(__file__).resolve().parents[2] / "configs" / "own.py"


@pytest.fixture
def photos(tmp_path):
    """A folder of 20 photos with labelme files, of which each has one square."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(20):
        Image.fromarray(np.full((40, 60, 3), 10 * i, np.uint8)).save(folder / f"{i}.jpg")
        shape = dict(label=f"class {i % 2}", points=[[5, 5], [30, 25]], shape_type="rectangle")
        content = dict(
            shapes=[shape], imagePath=f"{i}.jpg", imageData=None, imageHeight=40, imageWidth=60
        )
        (folder / f"{i}.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("size", ["", ":small"])
def test_a_folder_is_divided_checked_and_made_into_batches(photos, size, capsys):
    assert main(["check", f"--config={RECIPE}:{photos}{size}"]) == 0
    report = capsys.readouterr().out
    assert "photos-train: " in report
    assert "photos-val: " in report
    config = get_config(f"{photos}{size}")
    config.validate()
    to_json(config)
    train, val = (datasets.load(config.data, split) for split in ("train", "val"))
    assert len(train.records) + len(val.records) == 20
    assert not {r.image_id for r in train.records} & {r.image_id for r in val.records}
    assert train.class_names == val.class_names == ("class 0", "class 1")
    ((side, _),) = config.data.buckets
    with closing(pipeline.train_batches(train, config, 0)) as stream:
        ((batch, info),) = itertools.islice(stream, 1)
    assert batch["image"].shape == (2, side, side, 3)
    assert not info["skipped"]
    assert batch["image_size"].tolist() == [[side * 2 // 3, side]] * 2  # the long side fits


def test_the_division_of_both_splits_changes_together(photos):
    values = flags.FlagValues()
    changes = ["--config.data.val.split_seed=7", "--config.data.train.val_fraction=0.5"]
    given = [f"--config={RECIPE}:{photos}:small", *changes]
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=given)
    values(["", *given])
    for split in ("train", "val"):
        assert getattr(values.config.data, split).split_seed == 7
        assert getattr(values.config.data, split).val_fraction == 0.5
    train, val = (datasets.load(values.config.data, split) for split in ("train", "val"))
    assert len(train.records) + len(val.records) == 20
    assert len(val.records) > len(datasets.load(get_config(f"{photos}").data, "val").records)


def configuration(*arguments):
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=arguments)
    values(["", *arguments])
    return values.config


@pytest.mark.parametrize(
    ("given", "folder", "buckets"),
    [
        ("C:\\photos:small", "C:\\photos", ((320, 320),)),
        ("C:\\photos", "C:\\photos", ((768, 768),)),
        ("a:b:small:small", "a:b:small", ((320, 320),)),
        ("small", "small", ((768, 768),)),
        ("photos:tiny", "photos:tiny", ((768, 768),)),
    ],
)
def test_a_folder_may_have_colons(given, folder, buckets):
    config = configuration(f"--config={RECIPE}:{given}")
    assert config.data.train.folder == config.data.val.folder == folder
    assert config.data.buckets == buckets


def test_arguments_of_readers_can_be_added(photos):
    added = ["--config.data.train.class_names=('class 1', 'class 0')"]
    config = configuration(f"--config={RECIPE}:{photos}", *added)
    for split in ("train", "val"):
        assert datasets.load(config.data, split).class_names == ("class 1", "class 0")
    to_json(config)
    config = configuration(
        f"--config={RECIPE}:{photos}", "--config.data.format=via", "--config.data.val.class_name=x"
    )
    assert config.data.train.class_name == "x"
    with pytest.raises(ValueError, match=r"via_region_data\.json"):
        datasets.load(config.data, "train")


def write_export(folder: Path, images: str, annotations: str, prefix: str = "") -> None:
    """Writes 12 images of one square each, marked as crowd regions, and their annotations."""
    (folder / images).mkdir(parents=True)
    content = dict(images=[], annotations=[], categories=[dict(id=1, name="cell")])
    for i in range(12):
        Image.new("L", (60, 40)).save(folder / images / f"{i}.png")
        content["images"].append(dict(id=i, file_name=f"{prefix}{i}.png", height=40, width=60))
        square = [[10, 5, 30, 5, 30, 25, 10, 25]]
        content["annotations"].append(
            dict(id=i, image_id=i, category_id=1, iscrowd=1, segmentation=square)
        )
    (folder / annotations).parent.mkdir(parents=True, exist_ok=True)
    (folder / annotations).write_text(json.dumps(content))


@pytest.mark.parametrize(
    "files",
    [
        [("train", "train/_annotations.coco.json"), ("valid", "valid/_annotations.coco.json")],
        [("train", "train/_annotations.coco.json"), ("test", "test/_annotations.coco.json")],
        [("train", "train/_annotations.coco.json")],
        [(".", "_annotations.coco.json")],
        [
            ("images/Train", "annotations/instances_Train.json"),
            ("images/Validation", "annotations/instances_Validation.json"),
        ],
        [("images/Train", "annotations/instances_Train.json")],
        [
            ("train2017", "annotations/instances_train2017.json"),
            ("val2017", "annotations/instances_val2017.json"),
        ],
        [("images/default", "annotations/instances_default.json")],
        [("images", "annotations/instances_default.json")],
        [("images", "result.json", "images\\")],
        [("images", "result_coco.json", "images/")],
    ],
)
def test_coco_exports_are_known_by_their_names(tmp_path, files):
    folder = tmp_path / "my: export"
    for file in files:
        write_export(folder, *file)
    config = configuration(
        f"--config={RECIPE}:{folder}:small", "--config.data.train.crowd_as_objects=True"
    )
    train, val = (datasets.load(config.data, split) for split in ("train", "val"))
    assert train.faults == val.faults == []
    assert len(train.records) + len(val.records) == 12 * len(files)
    assert train.records
    assert val.records
    paths = [{record.path for record in part.records} for part in (train, val)]
    assert not paths[0] & paths[1]
    assert not any(record.crowd.any() for record in train.records + val.records)
    assert all(Path(record.path).is_file() for record in train.records)


def test_splits_of_a_roboflow_export_are_told_apart(tmp_path):
    for split in ("train", "valid"):
        write_export(tmp_path, split, f"{split}/_annotations.coco.json")
    config = configuration(f"--config={RECIPE}:{tmp_path}")
    assert [datasets.load(config.data, split).name for split in ("train", "val")] == [
        "train",
        "valid",
    ]


def write_cells(folder: Path, image: str, mask: str) -> None:
    """Writes an image of one object and its label image."""
    ids = np.zeros((40, 60), np.uint16)
    ids[5:25, 10:30] = 3
    for name, pixels in ((image, ids * 1000), (mask, ids)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)


@pytest.mark.parametrize(
    ("image", "mask", "per_split"),
    [
        ("images/{}.tif", "masks/{}.tif", None),
        ("{}.tif", "{}_cp_masks.png", None),
        ("train/images/{}.tif", "train/masks/{}.tif", None),
        ("{split}/images/{}.tif", "{split}/masks/{}.tif", 6),
    ],
)
def test_label_images_are_known_by_their_pairs(tmp_path, image, mask, per_split):
    for split in ("train", "test"):
        for i in range(6):
            names = (name.format(i, split=split) for name in (image, mask))
            write_cells(tmp_path, *names)
    (tmp_path / "0_seg.npy").write_bytes(b"a pickle")
    config = configuration(
        f"--config={RECIPE}:{tmp_path}:small", "--config.data.train.class_name=cell"
    )
    assert config.data.format == "label_images"
    train, val = (datasets.load(config.data, split) for split in ("train", "val"))
    assert train.faults == val.faults == []
    assert train.class_names == val.class_names == ("cell",)
    assert len(train.records) + len(val.records) == 2 * (per_split or 3)
    assert per_split in (None, len(train.records))
    assert not {record.path for record in train.records} & {record.path for record in val.records}


def test_cellpose_masks_that_were_not_saved_are_asked_for(tmp_path):
    Image.new("L", (60, 40)).save(tmp_path / "a.png")
    (tmp_path / "a_seg.npy").write_bytes(b"a pickle")
    config = configuration(f"--config={RECIPE}:{tmp_path}")
    with pytest.raises(ValueError, match=r"1 images and 0 label.*save its masks as PNG"):
        datasets.load(config.data, "train")


def test_yolo_exports_are_known_by_their_list_of_names(tmp_path):
    for split in ("train", "valid"):
        for kind in ("images", "labels"):
            (tmp_path / split / kind).mkdir(parents=True)
        Image.new("L", (60, 40)).save(tmp_path / split / "images" / "a.png")
        (tmp_path / split / "labels" / "a.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5")
    (tmp_path / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\nnames: [cell]\n"
    )
    config = configuration(f"--config={RECIPE}:{tmp_path}")
    for split, folder in (("train", "train"), ("val", "valid")):
        (record,) = datasets.load(config.data, split).records
        assert Path(record.path).parts[-3:] == (folder, "images", "a.png")


def test_a_folder_of_nothing_known_leads_to_the_formats(tmp_path):
    Image.new("L", (60, 40)).save(tmp_path / "a.png")
    config = configuration(f"--config={RECIPE}:{tmp_path}")
    with pytest.raises(ValueError, match=r"no JSON file; expected .*config\.data\.format"):
        datasets.load(config.data, "train")
