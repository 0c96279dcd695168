"""Batches end to end: the same to the bit from any start, by any engine, of any images."""

import itertools
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrcnn_jax.config import get_config
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.data.formats import coco, shapes
from maskrcnn_jax.data.input import pipeline, thread_pool
from maskrcnn_jax.data.masks.segmentation import Polygons
from maskrcnn_jax.data.records import Dataset, Instance, make_record

ROOT = Path(__file__).resolve().parents[3]


ENGINES = ("tfdata", "threads")


@pytest.fixture(params=ENGINES)
def config(request):
    config = get_config()
    config.data.engine = request.param
    config.data.short_side, config.data.long_side = 64, 96
    config.data.buckets = ((64, 96), (96, 64))
    config.data.max_instances, config.data.mask_size = 5, 16
    config.data.workers = 2
    config.train.batch_size = config.eval.batch_size = 4
    return config


def noise_dataset(count: int, broken: tuple[int, ...] = (), objects: int = 1) -> Dataset:
    """Noise with squares on it; every third image upright; those in `broken` cannot be read."""
    corners = np.array([[4, 6], [24, 6], [24, 26], [4, 26]], float)
    square = Instance(np.array([4, 6, 24, 26]), 1, False, Polygons([corners]), 1, 400)

    def read_image(record):
        number = int(record.image_id[5:])
        if number in broken:
            raise ValueError(f"{record.path} is truncated")
        rng = np.random.default_rng(number)
        return rng.integers(0, 256, (record.height, record.width, 3), dtype=np.uint8)

    records = [
        make_record(
            f"image{i}", f"{i}.png", *((40, 30) if i % 3 == 0 else (30, 40)), [square] * objects
        )
        for i in range(count)
    ]
    return Dataset("noise", ("square",), (1,), records, read_image)


def take(batches, count: int) -> list:
    with closing(batches):
        return list(itertools.islice(batches, count))


def assert_same(one: list, other: list) -> None:
    assert len(one) == len(other) > 0
    for (batch, info), (other_batch, other_info) in zip(one, other, strict=True):
        assert batch.keys() == other_batch.keys()
        for name in batch:
            np.testing.assert_array_equal(batch[name], other_batch[name], err_msg=name)
        assert info["step"] == other_info["step"]
        assert info["image_ids"] == other_info["image_ids"]
        np.testing.assert_array_equal(info["original_size"], other_info["original_size"])


def test_batches_have_their_shapes_in_every_bucket(config):
    batches = take(pipeline.train_batches(noise_dataset(12), config), 6)
    assert {info["bucket"] for _, info in batches} == {(64, 96), (96, 64)}
    for batch, info in batches:
        expected = {
            "image": ((4, *info["bucket"], 3), np.uint8),
            "image_size": ((4, 2), np.float32),
            "gt_boxes": ((4, 5, 4), np.float32),
            "gt_classes": ((4, 5), np.int32),
            "gt_masks": ((4, 5, 16, 16), np.uint8),
            "gt_crowd": ((4, 5), np.bool_),
            "gt_valid": ((4, 5), np.bool_),
            "image_valid": ((4,), np.bool_),
        }
        assert {k: (v.shape, v.dtype.type) for k, v in batch.items()} == expected
        assert batch["image_valid"].all()
        upright = info["bucket"] == (96, 64)
        np.testing.assert_array_equal(
            info["original_size"], [(40, 30) if upright else (30, 40)] * 4
        )
        np.testing.assert_array_equal(batch["image_size"], [(85, 64) if upright else (64, 85)] * 4)
        assert info["image_ids"] == [f"image{i}" for i in info["indices"]]
        assert (info["num_cut"], info["skipped"]) == (0, [])


def test_an_epoch_holds_every_image_once(config):
    batches = take(pipeline.train_batches(noise_dataset(24), config), 12)
    for epoch in (0, 1):
        of_epoch = [info["image_ids"] for _, info in batches if info["epoch"] == epoch]
        ids = itertools.chain(*of_epoch)
        assert sorted(ids) == sorted(f"image{i}" for i in range(24))


def test_the_same_seed_gives_the_same_batches_and_another_others(config):
    dataset = noise_dataset(12)
    config.data.workers = 1
    first = take(pipeline.train_batches(dataset, config), 7)
    config.data.workers = 4
    assert_same(first, take(pipeline.train_batches(dataset, config), 7))
    config.seed = 1
    other = take(pipeline.train_batches(dataset, config), 7)
    assert any(a[1]["image_ids"] != b[1]["image_ids"] for a, b in zip(first, other, strict=True))


def test_a_later_start_gives_the_tail_of_the_run(config):
    dataset = noise_dataset(14)
    whole = take(pipeline.train_batches(dataset, config), 9)
    for start in (1, 6):
        tail = take(pipeline.train_batches(dataset, config, start_step=start), 9 - start)
        assert_same(whole[start:], tail)


def test_an_image_is_augmented_differently_in_each_epoch(config):
    config.train.batch_size = 1
    batches = take(pipeline.train_batches(noise_dataset(1), config), 16)
    assert len({batch["image"].tobytes() for batch, _ in batches}) == 2  # flipped and not


EVERYTHING = dict(
    vertical_flip=0.5,
    quarter_turns=0.5,
    rotate=20.0,
    crop=0.5,
    scale_range=(0.5, 2.0),
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
    hue=0.1,
    grey=0.2,
    blur=0.5,
    noise=5.0,
    copy_paste=0.7,
    tile=24,
    tile_overlap=6,
)


def test_every_augmentation_at_once_is_a_function_of_seed_and_step(config):
    """From any start, on any number of threads and processes, to the bit."""
    dataset = noise_dataset(9)
    set_values(config.data.augment, EVERYTHING)
    whole = take(pipeline.train_batches(dataset, config), 8)
    assert any(info["epoch"] == 0 for _, info in whole)
    assert_same(whole, take(pipeline.train_batches(dataset, config), 8))
    config.data.workers = 1
    assert_same(whole[5:], take(pipeline.train_batches(dataset, config, start_step=5), 3))
    for count in (2, 4):
        parts = [
            take(pipeline.train_batches(dataset, config, 0, p, count), 8) for p in range(count)
        ]
        for step, (batch, _) in enumerate(whole):
            for name in batch:
                joined = np.concatenate([part[step][0][name] for part in parts])
                np.testing.assert_array_equal(joined, batch[name], err_msg=name)
    config.seed = 1
    other = take(pipeline.train_batches(dataset, config), 8)
    assert any(
        not np.array_equal(a[0]["image"], b[0]["image"]) for a, b in zip(whole, other, strict=True)
    )


@pytest.mark.parametrize("config", ["tfdata"], indirect=True)
def test_both_engines_make_the_same_batches(config):
    """With every augmentation, a repeated class, images that fail, buckets, several processes."""
    dataset = with_a_rare_class(noise_dataset(14, broken=(3, 5), objects=9), (1, 2, 6))
    set_values(config.data.augment, EVERYTHING)
    config.data.repeat_threshold = 0.6
    makers = (
        lambda process: pipeline.train_batches(dataset, config, 3, process, 2),
        lambda process: pipeline.eval_batches(dataset, config, process, 2),
    )
    for make in makers:
        for process in (0, 1):
            config.data.engine = "tfdata"
            one = take(make(process), 8)
            config.data.engine = "threads"
            two = take(make(process), 8)
            assert_same(one, two)
            for (batch, info), (other_batch, other_info) in zip(one, two, strict=True):
                assert [(v.dtype, v.shape) for v in batch.values()] == [
                    (v.dtype, v.shape) for v in other_batch.values()
                ]
                assert not any(v.flags.writeable for v in (*batch.values(), *other_batch.values()))
                for key in ("epoch", "bucket", "num_cut", "skipped"):
                    assert info[key] == other_info[key]
    assert any(info["skipped"] for _, info in one)
    assert any(info["num_cut"] for _, info in one)


def test_an_epoch_holds_every_tile_once(config):
    dataset = noise_dataset(8)  # 30 x 40 or 40 x 30: four tiles each
    config.data.augment.tile, config.data.augment.tile_overlap = 24, 8
    assert pipeline.num_samples(dataset, config.data) == 32
    batches = take(pipeline.train_batches(dataset, config), 8)
    assert {info["epoch"] for _, info in batches} == {0}
    ids = itertools.chain(*(info["image_ids"] for _, info in batches))
    assert sorted(ids) == sorted(f"image{i}" for i in range(8) for _ in range(4))
    indices = itertools.chain(*(info["indices"].tolist() for _, info in batches))
    assert sorted(indices) == list(range(32))
    for batch, info in batches:
        np.testing.assert_array_equal(info["original_size"], [(24, 24)] * 4)
        np.testing.assert_array_equal(batch["image_size"], [(64, 64)] * 4)
    # Half of the tiles show at most half of the square.
    config.data.augment.empty_tiles, config.data.augment.min_visible = False, 0.6
    assert pipeline.num_samples(dataset, config.data) == 16
    for batch, _ in take(pipeline.train_batches(dataset, config), 4):
        np.testing.assert_array_equal(batch["gt_valid"].sum(1), [1] * 4)
    # Evaluation sees whole images.
    assert len(take(pipeline.eval_batches(dataset, config), 10)) == 3


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_make_their_slices_of_the_same_global_batch(config, processes):
    dataset = noise_dataset(14)
    kinds = (
        lambda **process: take(pipeline.train_batches(dataset, config, 2, **process), 4),
        lambda **process: take(pipeline.eval_batches(dataset, config, **process), 100),
    )
    for make in kinds:
        whole = make()
        parts = [make(process_index=p, process_count=processes) for p in range(processes)]
        assert all(len(part) == len(whole) for part in parts)
        for step, (batch, info) in enumerate(whole):
            for name in batch:
                joined = np.concatenate([part[step][0][name] for part in parts])
                np.testing.assert_array_equal(joined, batch[name], err_msg=name)
            ids = itertools.chain(*(part[step][1]["image_ids"] for part in parts))
            assert list(ids) == info["image_ids"]


def with_a_rare_class(dataset: Dataset, images: tuple[int, ...]) -> Dataset:
    """The same images, the objects of some being of class 2."""
    for i in images:
        dataset.records[i].classes[:] = 2
    return dataset


def test_images_of_rare_classes_are_repeated(config):
    dataset = with_a_rare_class(noise_dataset(16), (2, 4))
    config.data.repeat_threshold = 0.5  # sqrt(0.5 / (2/16)): twice
    assert pipeline.num_samples(dataset, config.data) == 18
    config.train.batch_size, config.data.augment.flip = 1, 0.5
    batches = take(pipeline.train_batches(dataset, config), 36)
    assert [info["epoch"] for _, info in batches] == [0] * 18 + [1] * 18
    once = {f"image{i}": 1 for i in range(16)}
    for epoch in (batches[:18], batches[18:]):
        ids = [info["image_ids"][0] for _, info in epoch]
        assert {i: ids.count(i) for i in ids} == once | {"image2": 2, "image4": 2}


def test_tiles_are_repeated_by_what_they_show(config):
    dataset = with_a_rare_class(noise_dataset(8), (1,))  # 30 x 40: four tiles each
    set_values(config.data.augment, dict(tile=24, tile_overlap=8, min_visible=0.6))
    config.data.repeat_threshold = 0.25  # two tiles of 32 show class 2: sqrt(0.25 / (2/32)) = 2
    assert pipeline.num_samples(dataset, config.data) == 34


def test_crowd_regions_repeat_nothing(config):
    dataset = with_a_rare_class(noise_dataset(16), (2,))
    config.data.repeat_threshold = 0.5
    assert pipeline.num_samples(dataset, config.data) > 16
    dataset.records[2].crowd[:] = True
    assert pipeline.num_samples(dataset, config.data) == 16


def test_the_number_of_hosts_may_change_at_any_step(config):
    """Four hosts, stopped, then one, stopped, then two: as if one had run through."""
    dataset = with_a_rare_class(noise_dataset(14), (1, 2, 6))
    config.data.repeat_threshold = 0.6
    whole = take(pipeline.train_batches(dataset, config), 9)
    for first, count, hosts in ((0, 3, 4), (3, 2, 1), (5, 4, 2)):
        parts = [
            take(pipeline.train_batches(dataset, config, first, host, hosts), count)
            for host in range(hosts)
        ]
        for i, (batch, info) in enumerate(whole[first : first + count]):
            ids = itertools.chain(*(part[i][1]["image_ids"] for part in parts))
            assert list(ids) == info["image_ids"]
            for name in batch:
                joined = np.concatenate([part[i][0][name] for part in parts])
                np.testing.assert_array_equal(joined, batch[name], err_msg=name)


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_a_senseless_repeat_threshold_is_refused(config, threshold):
    config.data.repeat_threshold = threshold
    with pytest.raises(ValueError, match=r"data\.repeat_threshold is .*expected within \[0, 1\]"):
        pipeline.train_batches(noise_dataset(3), config)


def test_evaluation_passes_over_every_image_once_unaugmented(config):
    dataset = noise_dataset(11)
    config.data.augment.flip = 1.0
    batches = take(pipeline.eval_batches(dataset, config), 100)
    assert [info["bucket"] for _, info in batches] == [(64, 96)] * 2 + [(96, 64)]
    ids = []
    for batch, info in batches:
        assert len(batch["image"]) == 4
        for slot, index in enumerate(info["indices"]):
            assert batch["image_valid"][slot] == (index >= 0)
            if index < 0:
                assert info["image_ids"][slot] is None
                continue
            ids.append(info["image_ids"][slot])
            record = dataset.records[index]
            np.testing.assert_array_equal(
                info["original_size"][slot], (record.height, record.width)
            )
            # The top left corner is the image's: nothing was mirrored.
            scale = batch["image_size"][slot, ::-1] / info["original_size"][slot, ::-1]
            expected = record.boxes[0] * np.tile(scale, 2)
            np.testing.assert_allclose(batch["gt_boxes"][slot, 0], expected, rtol=1e-5)
    assert sorted(ids) == sorted(f"image{i}" for i in range(11))


def test_a_broken_image_leaves_an_invalid_slot_and_its_name(config):
    dataset, good = noise_dataset(12, broken=(4,)), noise_dataset(12)
    batches = take(pipeline.train_batches(dataset, config), 3)
    reference = take(pipeline.train_batches(good, config), 3)
    skipped = itertools.chain(*(info["skipped"] for _, info in batches))
    assert list(skipped) == ["image image4: 4.png is truncated"]
    for (batch, info), (expected, expected_info) in zip(batches, reference, strict=True):
        assert info["image_ids"] == expected_info["image_ids"]  # the order is kept
        for slot, index in enumerate(info["indices"]):
            assert batch["image_valid"][slot] == (index != 4)
            if index == 4:
                assert not batch["gt_valid"][slot].any()
                assert not batch["image"][slot].any()
            else:
                np.testing.assert_array_equal(batch["image"][slot], expected["image"][slot])


def test_a_broken_image_stops_the_run_when_told_so(config):
    config.data.on_error = "raise"
    batches = pipeline.eval_batches(noise_dataset(12, broken=(7,)), config)
    next(batches)  # images 1, 2, 4 and 5: not reached yet
    with pytest.raises(ValueError, match=r"7\.png is truncated\n.*data\.on_error"):
        next(batches)


def test_a_data_set_that_has_vanished_stops_the_run(config):
    batches = pipeline.train_batches(noise_dataset(120, broken=tuple(range(120))), config)
    with pytest.raises(ValueError, match=r"none of the last 100 .*truncated"):
        take(batches, 30)
    # While some images can be read, it continues.
    broken = tuple(i for i in range(120) if i % 10)
    batches = pipeline.train_batches(noise_dataset(120, broken=broken), config)
    assert len(take(batches, 40)) == 40


def test_objects_beyond_the_slots_are_cut_and_counted(config):
    batch, info = take(pipeline.eval_batches(noise_dataset(2, objects=400), config), 1)[0]
    assert info["num_cut"] == 395
    assert batch["gt_valid"].sum() == 5


def test_images_without_objects_come_as_any_other(config):
    for batch, _ in take(pipeline.train_batches(noise_dataset(12, objects=0), config), 3):
        assert batch["image_valid"].all()
        assert batch["image"].any()
        assert not batch["gt_valid"].any()


def test_shapes_arrive_with_masks_over_their_pixels(config):
    config.data.buckets = ((64, 64),)
    config.data.max_instances, config.data.augment.flip = 10, 0.0
    dataset = shapes.read(count=8, seed=0, size=64)
    for batch, info in take(pipeline.train_batches(dataset, config), 2):
        for slot, index in enumerate(info["indices"]):
            record = dataset.records[index]
            np.testing.assert_array_equal(batch["image"][slot], dataset.read_image(record))
            count = len(record.boxes)
            assert batch["gt_valid"][slot].sum() == count
            np.testing.assert_allclose(batch["gt_boxes"][slot, :count], record.boxes)
            np.testing.assert_array_equal(batch["gt_classes"][slot, :count], record.classes)
            # A mask covers the same area in its box as in the image.
            sides = record.boxes[:, 2:] - record.boxes[:, :2]
            area = batch["gt_masks"][slot, :count].mean((1, 2)) / 255 * sides.prod(1)
            np.testing.assert_allclose(area, record.areas, rtol=0.01)


def test_a_coco_set_arrives_whole(config, tmp_path, write_coco):
    folder = tmp_path / "images"
    folder.mkdir()
    sizes = {"a.png": (60, 40), "b.jpg": (40, 60), "c.png": (48, 48), "broken.jpg": (60, 40)}
    images = []
    for number, (name, (width, height)) in enumerate(sizes.items()):
        Image.new("RGB", (width, height), (200, 100, 50)).save(folder / name)
        images.append(dict(id=number, file_name=name, width=width, height=height))
    whole = (folder / "broken.jpg").read_bytes()
    (folder / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    annotations = [dict(image_id=0), dict(image_id=1, category_id=90), dict(image_id=1)]
    dataset = coco.read(**write_coco(annotations, images))
    batches = take(pipeline.eval_batches(dataset, config), 10)
    assert len(batches) == 2
    wide, upright = (batch for batch, _ in batches)
    assert batches[0][1]["image_ids"] == [0, 2, 3, None]
    assert batches[1][1]["image_ids"] == [1, None, None, None]
    np.testing.assert_array_equal(wide["image_valid"], [True, True, False, False])
    assert len(batches[0][1]["skipped"]) == 1
    assert "broken.jpg" in batches[0][1]["skipped"][0]
    np.testing.assert_array_equal(wide["image"][0, 10, 10], [200, 100, 50])
    np.testing.assert_array_equal(wide["image_size"][:2], [[64, 96], [64, 64]])
    np.testing.assert_allclose(wide["gt_boxes"][0, 0], [16, 8, 48, 40])  # 1.6 times 10 5 30 25
    np.testing.assert_array_equal(upright["gt_classes"][0], [2, 1, 0, 0, 0])
    assert np.all(upright["gt_masks"][0, :2] == 255)


def test_senseless_arguments_are_refused_at_once(config):
    dataset = noise_dataset(3)
    with pytest.raises(ValueError, match="4 images cannot be split evenly over 3"):
        pipeline.train_batches(dataset, config, process_count=3)
    with pytest.raises(ValueError, match="process 2 of 2"):
        pipeline.eval_batches(dataset, config, process_index=2, process_count=2)
    with pytest.raises(ValueError, match="no images"):
        pipeline.train_batches(noise_dataset(0), config)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("on_error", "ignore", "'ignore'; expected skip"),
        ("augment.flip", 1.5, "augment.flip is 1.5"),
        ("max_instances", 0, "max_instances is 0; expected at least 1"),
        ("workers", -1, "workers is -1; expected at least 0"),
    ],
)
def test_a_senseless_configuration_is_refused_at_once(config, key, value, message):
    set_values(config.data, {key: value})
    with pytest.raises(ValueError, match=message):
        pipeline.train_batches(noise_dataset(3), config)


def test_nothing_need_be_prepared_ahead(config):
    config.data.prefetch = 0
    assert len(take(pipeline.eval_batches(noise_dataset(9), config), 10)) == 3


def test_a_mistake_in_the_code_is_no_broken_image(config):
    dataset = noise_dataset(4)
    dataset.read_image = lambda record: record.no_such_attribute
    with pytest.raises(Exception, match="no_such_attribute"):
        next(pipeline.eval_batches(dataset, config))


def test_without_tensorflow_a_pool_of_threads_is_the_engine(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # importing it raises
    monkeypatch.delitem(sys.modules, "maskrcnn_jax.data.input.tfdata", raising=False)
    monkeypatch.delattr("maskrcnn_jax.data.input.tfdata", raising=False)
    assert pipeline._engine("auto") is thread_pool.batches
    with pytest.raises(
        ValueError, match=r"config\.data\.engine is 'tfdata', but TensorFlow is not"
    ):
        pipeline._engine("tfdata")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_program_ends_although_batches_are_being_prepared(engine):
    program = """
import sys, time
from maskrcnn_jax.config import get_config
from maskrcnn_jax.data.input import pipeline
from maskrcnn_jax.data.formats import shapes
config = get_config()
config.data.buckets, config.data.resize, config.data.workers = ((64, 64),), "square", 3
config.data.engine = sys.argv[1]
config.train.batch_size = 2
batches = pipeline.train_batches(shapes.read(count=50, seed=0, size=64), config)
next(batches)
sys.exit(3)
"""
    ended = subprocess.run([sys.executable, "-c", program, engine], cwd=ROOT, timeout=300)
    assert ended.returncode == 3
