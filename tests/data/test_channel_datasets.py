"""Datasets of other images than RGB of 8 bits: checked, measured, drawn, prepared, as batches."""

import json
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from maskrcnn_jax.cli.data import main
from maskrcnn_jax.config import Config
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.data import datasets
from maskrcnn_jax.data.input import pipeline
from maskrcnn_jax.images.pixels import PixelFormat
from maskrcnn_jax.images.read import read_image
from tests.data.deep_images import deep_image, write_deep_set
from tests.end_to_end.tiny import get_config


@pytest.fixture(scope="module", params=[1, 5])
def stored(request, tmp_path_factory):
    """The channels and the reader's arguments of a dataset of 16 bits."""
    folder = tmp_path_factory.mktemp("images")
    return request.param, write_deep_set(folder, request.param)


def configured(stored) -> Config:
    channels, arguments = stored
    config = get_config()
    config.data.format = "coco"
    config.data.channels, config.data.depth = channels, 16
    config.data.train = config.data.val = ConfigDict(arguments)
    return config


def arguments_of(stored, *wanted) -> list[str]:
    channels, arguments = stored
    return [
        "--format=coco",
        *(f"--{name}={value}" for name, value in arguments.items()),
        f"--config.data.channels={channels}",
        "--config.data.depth=16",
        *wanted,
    ]


def test_a_dataset_gives_all_channels_and_bits(stored):
    channels, _ = stored
    dataset = datasets.load(configured(stored).data, "train")
    for number, record in enumerate(dataset.records):
        expected, _ = deep_image(channels, number)
        found = dataset.read_image(record)
        assert found.dtype == np.uint16
        np.testing.assert_array_equal(found, expected)


def test_batches_hold_them(stored):
    channels, _ = stored
    config = configured(stored)
    set_values(config.data.augment, dict(rotate=10.0, brightness=0.2, noise=50.0, fill=(400,)))
    set_values(config.data.augment, dict(copy_paste=0.5, blur=0.5, crop=0.5))
    dataset = datasets.load(config.data, "train")
    with closing(pipeline.train_batches(dataset, config)) as batches:
        first, info = next(batches)
        second, _ = next(batches)
    assert info["skipped"] == []
    with closing(pipeline.train_batches(dataset, config, start_step=1)) as batches:
        np.testing.assert_array_equal(next(batches)[0]["image"], second["image"])
    assert (first["image"].shape, first["image"].dtype) == ((2, 64, 64, channels), np.uint16)
    config.eval.batch_size = 4  # of 6 images: the last batch has empty slots
    *_, (last, _) = pipeline.eval_batches(dataset, config)
    assert last["image_valid"].tolist() == [True, True, False, False]
    np.testing.assert_array_equal(last["image"][0], deep_image(channels, 4)[0])
    assert not last["image"][2:].any()


def test_a_broken_image_among_them_is_skipped(stored, tmp_path):
    config = configured(stored)
    dataset = datasets.load(config.data, "val")
    broken = tmp_path / "broken.tif"
    broken.write_bytes(b"II*\0 no more")
    records = [replace(dataset.records[0], path=str(broken)), *dataset.records[1:2]]
    batch, info = next(pipeline.eval_batches(replace(dataset, records=records), config))
    assert batch["image_valid"].tolist() == [False, True]
    assert batch["image"].dtype == np.uint16
    assert "broken.tif" in info["skipped"][0]


def test_check_names_depth_and_channels(stored, tmp_path, capsys):
    channels, _ = stored
    assert main(["check", *arguments_of(stored)]) == 0
    assert "0 errors, 0 warnings" in capsys.readouterr().out
    other = {1: 2, 5: 3}[channels]
    out = tmp_path / "faults.json"
    command = [f"--config.data.channels={other}", f"--out={out}"]
    assert main(["check", *arguments_of(stored), *command]) == 1
    text = capsys.readouterr().out
    assert f"0.{'png' if channels == 1 else 'tif'}: it has {channels} channels" in text
    assert f"data.channels is {other}" in text
    assert "by kind: 6 channels or depth of the image" in text
    assert json.loads(out.read_text())["splits"]["train"]["errors"] == 6


def test_images_of_8_bits_are_no_images_of_16(write_coco, capsys):
    arguments = [f"--{name}={value}" for name, value in write_coco([{}]).items()]
    arguments += ["--format=coco", "--config.data.depth=16"]
    assert main(["check", *arguments]) == 1
    assert "has 8 bits per value, config.data.depth is 16" in capsys.readouterr().out
    # Generated images are no files; the first tells what they are.
    shapes = ["--format=shapes", "--count=3", "--seed=0", "--config.data.depth=16"]
    assert main(["check", *shapes, "--no-decode"]) == 1
    assert "a generated image has 8 bits per value" in capsys.readouterr().out


def test_statistics_are_of_each_channel(stored, tmp_path, capsys):
    channels, _ = stored
    assert main(["stats", *arguments_of(stored, f"--out={tmp_path}")]) == 0
    pixels = json.loads((tmp_path / "stats_train.json").read_text())["pixels"]
    images = np.stack([deep_image(channels, number)[0] for number in range(6)]).astype(float)
    np.testing.assert_allclose(pixels["mean"], images.mean((0, 1, 2)), rtol=1e-9)
    np.testing.assert_allclose(pixels["std"], images.std((0, 1, 2)), rtol=1e-9)
    names = {1: "grey", 5: "5 channels"}[channels]
    assert f"pixels of 6 images, {names}, 16 bits: mean ({pixels['mean'][0]:.2f}" in (
        capsys.readouterr().out
    )


def test_pictures_are_drawn_of_them(stored, tmp_path):
    options = [f"--out={tmp_path}", "--max=2", "--raw", "--config.data.resize=square"]
    options += ["--config.data.buckets=((64, 64),)"]
    assert main(["browse", *arguments_of(stored, *options)]) == 0
    pictures = sorted(tmp_path.glob("*.png"))
    assert len(pictures) == 2
    # 12 of 16 bits would be black as they are: the rectangle has to be bright, the ground dark.
    picture = np.asarray(Image.open(pictures[0]))
    assert np.percentile(picture, 95) > 200
    assert np.percentile(picture, 10) < 60


def test_prepared_for_tensorflow_datasets_they_are_the_same(stored, tmp_path):
    pytest.importorskip("array_record", reason="prepared datasets need the package array_record")
    from maskrcnn_jax.data.tools.prepare import prepare

    channels, _ = stored
    config = configured(stored)
    prepare({"train": datasets.load(config.data, "train")}, tmp_path)
    config.data.format = "tfds"
    config.data.train = ConfigDict(dict(folder=str(tmp_path)))
    dataset = datasets.load(config.data, "train")
    for number, record in enumerate(dataset.records):
        np.testing.assert_array_equal(dataset.read_image(record), deep_image(channels, number)[0])
    with closing(pipeline.train_batches(dataset, config)) as batches:
        batch, info = next(batches)
    assert info["skipped"] == []
    assert batch["image"].shape == (2, 64, 64, channels)
    assert batch["image"].any((0, 1, 2)).all()


def test_images_that_are_no_files_are_written_without_loss(tmp_path):
    """A dataset whose images are generated, of one channel."""
    options = ["--format=shapes", "--count=2", "--seed=0", "--size=64", "--config.data.channels=1"]
    out = tmp_path / "a.json"
    assert main(["convert", *options, f"--out={out}", f"--images-root={tmp_path}"]) == 0
    names = [image["file_name"] for image in json.loads(out.read_text())["images"]]
    assert [name[-4:] for name in names] == [".npy", ".npy"]
    config = get_config()
    config.data.channels = 1
    config.data.train = ConfigDict(dict(count=2, seed=0, size=64))
    dataset = datasets.load(config.data, "train")
    for name, record in zip(names, dataset.records, strict=True):
        found = read_image(tmp_path / name, wanted=PixelFormat(1))
        np.testing.assert_array_equal(found, dataset.read_image(record))


def test_a_union_has_them_too(stored):
    channels, arguments = stored
    config = configured(stored)
    config.data.format = "union"
    part = dict(format="coco", **arguments)
    config.data.train = ConfigDict(dict(parts=dict(a=part, b=part)))
    dataset = datasets.load(config.data, "train")
    assert len(dataset.records) == 12
    np.testing.assert_array_equal(
        dataset.read_image(dataset.records[7]), deep_image(channels, 1)[0]
    )
