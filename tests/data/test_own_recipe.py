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
from maskrcnn_jax.config_json import to_json
from maskrcnn_jax.data import datasets
from maskrcnn_jax.data.__main__ import main
from maskrcnn_jax.data.augment.augmentation import check_settings
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
    check_settings(config.data)
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
        assert values.config.data[split].split_seed == 7
        assert values.config.data[split].val_fraction == 0.5
    train, val = (datasets.load(values.config.data, split) for split in ("train", "val"))
    assert len(train.records) + len(val.records) == 20
    assert len(val.records) > len(datasets.load(get_config(f"{photos}").data, "val").records)


def test_another_word_than_small_is_refused():
    with pytest.raises(ValueError, match="expected FOLDER or FOLDER:small"):
        get_config("photos:tiny")
