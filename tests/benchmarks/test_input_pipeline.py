"""Both loaders of the benchmark make batches of the same images; CPU time counts every thread."""

import json
import threading
import time

import numpy as np
import pytest

from benchmarks import decoding, input_pipeline, measure, reference_loader
from maskrcnn_jax.config import get_config
from maskrcnn_jax.data.formats import coco
from maskrcnn_jax.data.input import pipeline


@pytest.fixture
def folder(tmp_path):
    input_pipeline.write_dataset(tmp_path, images=2, objects=3, height=48, width=64)
    return tmp_path


class NoFlip:
    """Stands for a generator whose draws never mirror an image."""

    def random(self) -> float:
        return 1.0


@pytest.mark.parametrize("resize", input_pipeline.PEERS.values())
def test_both_loaders_agree_on_an_image(folder, resize):
    config = get_config()
    config.train.batch_size = 2
    config.data.short_side, config.data.long_side = 64, 96
    config.data.buckets, config.data.mask_size = ((64, 96), (96, 64)), 28
    config.data.augment.flip = 0.0
    dataset = coco.read(images="images", annotations="instances.json", root=folder)
    batches = pipeline.train_batches(dataset, config)
    batch, info = next(batches)
    batches.close()

    entries = {entry["id"]: entry for entry in reference_loader.read_entries(folder)}
    chosen = [entries[image_id] for image_id in info["image_ids"]]
    images, targets = reference_loader.make_batch(chosen, (64, 96), (64, 96), resize, NoFlip())
    assert images.shape == batch["image"].shape
    # Pillow rounds the weights of its bilinear resize.
    assert np.abs(images.astype(int) - batch["image"]).max() <= 1
    for slot, target in enumerate(targets):
        count = len(target["boxes"])
        assert count == batch["gt_valid"][slot].sum() == 3
        np.testing.assert_allclose(target["boxes"], batch["gt_boxes"][slot, :count], atol=1e-3)
        np.testing.assert_array_equal(target["classes"], batch["gt_classes"][slot, :count])
        assert target["masks"].shape == (count, 64, 85)
        boxes = target["boxes"]
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        shares = batch["gt_masks"][slot, :count].mean(axis=(1, 2)) / 255
        # A border of about a pixel is all that tells a full mask from one inside its box.
        np.testing.assert_allclose(
            target["masks"].sum(axis=(1, 2)), shares * areas, rtol=0.15, atol=20
        )


def test_the_reference_mirrors_image_boxes_and_masks(folder):
    class Flip:
        def random(self) -> float:
            return 0.0

    entries = reference_loader.read_entries(folder)[:1]
    plain, flipped = (
        reference_loader.make_batch(
            entries, (48, 64), (48, 64), reference_loader.resize_opencv, rng
        )
        for rng in (NoFlip(), Flip())
    )
    np.testing.assert_array_equal(flipped[0], plain[0][:, :, ::-1])
    before, after = plain[1][0], flipped[1][0]
    np.testing.assert_array_equal(after["masks"], before["masks"][:, :, ::-1])
    np.testing.assert_allclose(after["boxes"][:, 0], 64 - before["boxes"][:, 2], atol=1e-4)


def test_files_are_as_heavy_as_they_are_said_to_be(tmp_path):
    input_pipeline.write_dataset(tmp_path, images=1, objects=7, height=480, width=640)
    size = (tmp_path / "images" / "000001.jpg").stat().st_size
    assert 115_000 < size < 135_000
    content = json.loads((tmp_path / "instances.json").read_text())
    assert len(content["annotations"]) == 7


def test_cpu_time_has_the_work_of_threads_that_outlast_the_call():
    def work(seconds):
        start = time.thread_time()
        while time.thread_time() - start < seconds:
            pass

    def side():
        threading.Thread(target=work, args=(0.3,)).start()
        return 0.0, {"objects": 1}

    spent, counts = input_pipeline._cpu_time(side)
    assert 0.3 <= spent < 0.6
    assert counts == {"objects": 1}


def test_memory_in_use_follows_what_is_held():
    before = measure.memory_in_use()
    if before is None:
        pytest.skip("this system has no /proc")
    held = np.ones(64 * 2**20, np.uint8)
    assert 55 <= measure.memory_in_use() - before <= 80
    assert held[-1] == 1


def test_alone_it_has_the_memory_after_each_round_and_no_peer(capsys):
    lines = input_pipeline.main(["--tiny", "--rounds", "2", "--alone"])
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == lines
    cases = [line["case"] for line in lines]
    assert cases == ["batches for training, tfdata", "batches for training, threads"]
    for line in lines:
        assert line["side"] == measure.OURS
        assert len(line["rss_mib"]) == 3  # the first round is not timed
    (line,) = input_pipeline.main(["--tiny", "--rounds", "1", "--alone", "--engine=threads"])
    assert line["case"] == "batches for training, threads"


@pytest.mark.parametrize("decode", decoding.WAYS.values())
def test_the_ways_to_decode_give_one_picture(folder, decode):
    path, size = folder / "images" / "000001.jpg", (60, 80)
    found = decode(path, size)
    assert found.dtype == np.uint8
    # The decoders' colours differ by up to some levels where these change.
    assert np.abs(found.astype(int) - decoding.ours(path, size)).mean() < 1.5
