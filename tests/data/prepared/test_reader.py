"""Datasets prepared for tensorflow-datasets, and read back as the same records and batches."""

import itertools
import os
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import tensorflow_datasets as tfds
from pycocotools import mask as coco_mask
from tensorflow_datasets.core import shuffle

from maskrcnn_jax.config import get_config
from maskrcnn_jax.data import datasets
from maskrcnn_jax.data.formats import coco, mask_folders, shapes
from maskrcnn_jax.data.input import pipeline
from maskrcnn_jax.data.masks.segmentation import Polygons, to_mask
from maskrcnn_jax.data.prepared import reader as tfds_reader

pytest.importorskip("array_record", reason="prepared datasets need the package array_record")

from maskrcnn_jax.cli.data import main
from maskrcnn_jax.data.tools.prepare import prepare


@pytest.fixture(scope="module")
def generated():
    return shapes.read(count=9, seed=3, size=64)


@pytest.fixture(scope="module")
def prepared(generated, tmp_path_factory):
    """The folder of a prepared dataset, for reading alone."""
    out = tmp_path_factory.mktemp("prepared")
    prepare({"train": generated, "val": replace(generated, records=generated.records[:2])}, out)
    return out


@pytest.fixture
def broken(prepared, tmp_path):
    """Returns a function that gives a copy of the prepared dataset and a file in it."""

    def copy(name):
        folder = tmp_path / tfds_reader.NAME / tfds_reader.VERSION
        folder.mkdir(parents=True)
        for file in (prepared / tfds_reader.NAME / tfds_reader.VERSION).iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        return tmp_path, next(folder.glob(name))

    return copy


def assert_same_records(dataset, copy) -> None:
    for name in ("name", "class_names", "category_ids"):
        assert getattr(copy, name) == getattr(dataset, name)
    assert len(copy.records) == len(dataset.records)
    for record, again in zip(dataset.records, copy.records, strict=True):
        for name in ("image_id", "height", "width"):
            assert getattr(again, name) == getattr(record, name)
            assert type(getattr(again, name)) is type(getattr(record, name))
        for name in ("boxes", "classes", "crowd", "areas", "annotation_ids"):
            array, other = getattr(record, name), getattr(again, name)
            assert other.dtype == array.dtype
            np.testing.assert_array_equal(other, array, name)
        size = record.height, record.width
        for mask, other in zip(record.segmentations, again.segmentations, strict=True):
            assert isinstance(other, Polygons) == isinstance(mask, Polygons)
            np.testing.assert_array_equal(to_mask(other, *size), to_mask(mask, *size))
        np.testing.assert_array_equal(copy.read_image(again), dataset.read_image(record))


def test_photos_of_coco_come_back(coco_dir, tmp_path):
    dataset = coco.read("val2017", "annotations/instances_val2017.json", coco_dir, max_images=60)
    crowded = [record for record in dataset.records if record.crowd.any()]
    others = [record for record in dataset.records if not record.crowd.any()]
    assert crowded
    dataset = replace(dataset, records=crowded[:2] + others[:8])
    prepare({"val": dataset}, tmp_path)
    copy = tfds_reader.read(tmp_path, "val")
    assert_same_records(dataset, copy)
    for record, again in zip(dataset.records, copy.records, strict=True):
        for mask, other in zip(record.segmentations, again.segmentations, strict=True):
            if isinstance(mask, Polygons):  # to the bit, not in their pixels alone
                for part, other_part in zip(mask.parts, other.parts, strict=True):
                    np.testing.assert_array_equal(other_part, part)


def test_folders_of_masks_come_back(write_mask_folder, tmp_path):
    mask, other = np.zeros((2, 20, 30), np.uint8)
    mask[2:5, 3:10] = other[:, 29] = 255
    write_mask_folder("b", [])
    dataset = mask_folders.read(write_mask_folder("a", [mask, other]), class_name="cell")
    assert [len(record.classes) for record in dataset.records] == [2, 0]
    prepare({"train": dataset}, tmp_path / "out")
    assert_same_records(dataset, tfds_reader.read(tmp_path / "out"))


def test_generated_images_and_both_splits_come_back(generated, prepared):
    assert_same_records(generated, tfds_reader.read(prepared))
    val = tfds_reader.read(prepared, "val")
    assert_same_records(replace(generated, records=generated.records[:2]), val)


def test_images_keep_their_order_over_several_files(generated, tmp_path):
    folder = prepare({"train": generated}, tmp_path, num_shards=4)
    shards = [name for name in os.listdir(folder) if name.endswith("-of-00004")]
    assert len(shards) == 8
    assert_same_records(generated, tfds_reader.read(tmp_path))
    os.truncate(f"{folder}/instances-train.array_record-00002-of-00004", 100)
    with pytest.raises(ValueError, match="cut short"):
        tfds_reader.read(tmp_path)


def test_what_is_too_much_for_memory_is_sorted_in_parts(generated, tmp_path, monkeypatch):
    lengths = []
    iterate = shuffle.Shuffler._iter_buckets

    def spy(shuffler):
        lengths.append(max(shuffler.bucket_lengths))
        return iterate(shuffler)

    monkeypatch.setattr(shuffle, "MAX_MEM_BUFFER_SIZE", 0)
    monkeypatch.setattr(shuffle.Shuffler, "_iter_buckets", spy)
    prepare({"train": generated}, tmp_path)
    assert lengths == [1, 1]  # for the images, and for the annotations alone
    assert_same_records(generated, tfds_reader.read(tmp_path))


def test_without_this_project_it_is_an_ordinary_dataset_of_image_files(write_coco, tmp_path):
    paths = write_coco([{}])
    content = (paths["images"] / "a.png").read_bytes()
    folder = prepare({"train": coco.read(**paths)}, tmp_path / "out")
    example = tfds.builder_from_directory(folder).as_data_source("train")[0]
    assert example["image"] == content
    np.testing.assert_array_equal(example["objects"]["box"], [[10, 5, 30, 25]])
    assert coco_mask.area({"size": [40, 60], "counts": example["objects"]["mask"][0]}) == 400


def test_two_processes_make_the_batches_of_one(generated, prepared):
    config = get_config()
    config.data.short_side, config.data.long_side = 64, 64
    config.data.buckets = ((64, 64),)
    config.data.max_instances, config.data.mask_size = 5, 16
    config.train.batch_size = 4

    def batches(dataset, *process):
        with closing(pipeline.train_batches(dataset, config, 2, *process)) as stream:
            return list(itertools.islice(stream, 3))

    copy = tfds_reader.read(prepared)
    whole, halves = batches(generated), (batches(copy, 0, 2), batches(copy, 1, 2))
    for (batch, info), *parts in zip(whole, *halves, strict=True):
        assert info["skipped"] == []
        for key, array in batch.items():
            joined = np.concatenate([part[key] for part, _ in parts])
            np.testing.assert_array_equal(joined, array, key)
        ids = [image_id for _, part_info in parts for image_id in part_info["image_ids"]]
        assert ids == info["image_ids"]


def test_what_is_not_there_is_named(prepared, tmp_path):
    with pytest.raises(ValueError, match=r"folder is '.*none', which does not exist"):
        tfds_reader.read(tmp_path / "none")
    with pytest.raises(ValueError, match=r"not a prepared dataset.*instances/1\.0\.0/dataset_info"):
        tfds_reader.read(tmp_path)
    with pytest.raises(ValueError, match=r"split is 'test'.*\['train', 'val'\]"):
        tfds_reader.read(prepared, "test")
    with pytest.raises(ValueError, match="split is 'train_annotations'"):
        tfds_reader.read(prepared, "train_annotations")


@pytest.mark.parametrize("split", ["train", "train_annotations"])
def test_a_shard_that_is_cut_short_is_found_when_opened(broken, split):
    folder, shard = broken(f"*-{split}.array_record*")
    os.truncate(shard, shard.stat().st_size * 2 // 3)
    with pytest.raises(ValueError, match=f"split '{split}' of .* a shard is missing, cut short"):
        tfds_reader.read(folder)
    tfds_reader.read(folder, "val")
    shard.unlink()
    with pytest.raises(ValueError, match=f"split '{split}' of .* a shard is missing"):
        tfds_reader.read(folder)


def test_changed_bytes_are_found_when_the_image_is_read(broken):
    folder, shard = broken("*-train.array_record*")
    content = bytearray(shard.read_bytes())
    content[200:210] = bytes(10)  # in the first image
    shard.write_bytes(content)
    dataset = tfds_reader.read(folder)
    with pytest.raises(ValueError, match=r"split 'train' of .* changed"):
        dataset.read_image(dataset.records[0])
    assert dataset.read_image(dataset.records[-1]).shape == (64, 64, 3)


def test_a_broken_description_is_named(broken):
    folder, file = broken("dataset_info.json")
    file.write_text("{")
    with pytest.raises(ValueError, match=r"dataset_info\.json is not a JSON file"):
        tfds_reader.read(folder)


def test_no_module_that_the_folder_names_is_imported(broken, tmp_path, monkeypatch):
    folder, features = broken("features.json")
    features.write_text('{"pythonClassName": "trap.Feature"}')
    (tmp_path / "trap.py").write_text("raise SystemExit")
    monkeypatch.syspath_prepend(tmp_path)
    assert len(tfds_reader.read(folder).records) == 9


def test_what_cannot_be_one_dataset_is_refused(generated, prepared, tmp_path):
    with pytest.raises(ValueError, match="is prepared already"):
        prepare({"train": generated}, prepared)
    other = replace(generated, class_names=("a", "b", "c"))
    with pytest.raises(ValueError, match=r"split 'val' has the classes \('a', 'b', 'c'\)"):
        prepare({"train": generated, "val": other}, tmp_path)
    twice = replace(generated, records=generated.records[:1] * 2)
    with pytest.raises(ValueError, match="two images of the same id"):
        prepare({"train": twice}, tmp_path)
    with pytest.raises(ValueError, match="no usable image"):
        prepare({"train": replace(generated, records=[])}, tmp_path)
    with pytest.raises(ValueError, match="num_shards is 0"):
        prepare({"train": generated}, tmp_path, num_shards=0)
    with pytest.raises(ValueError, match="called 'a-b'"):
        prepare({"a-b": generated}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_command_prepares_and_a_missing_image_leaves_nothing(write_coco, tmp_path, capsys):
    paths = write_coco([{}, dict(image_id=5)])
    given = [f"--{name}={path}" for name, path in paths.items()]
    arguments = ["prepare", "--format=coco", *given, f"--out={tmp_path / 'out'}"]
    image = paths["images"] / "a.png"
    content = image.read_bytes()
    image.unlink()
    assert main(arguments) == 2
    assert "a.png" in capsys.readouterr().err
    image.write_bytes(content)
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert "image_id 5" in captured.err
    assert captured.out.endswith(f"{tmp_path}/out/instances/1.0.0\n")
    config = get_config()
    config.data.format = "tfds"
    config.data.train = dict(folder=str(tmp_path / "out"), split="train")
    assert_same_records(coco.read(**paths), datasets.load(config.data, "train"))
