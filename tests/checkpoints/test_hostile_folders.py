"""Checkpoint folders that hold what a library would wait for, or read without end."""

import os

import numpy as np
import pytest

from maskrcnn_jax.checkpoints.ema import check_average
from maskrcnn_jax.checkpoints.folder import CheckpointFolder
from maskrcnn_jax.checkpoints.format import make_manager, save_weights
from maskrcnn_jax.checkpoints.load import load_for_inference
from maskrcnn_jax.checkpoints.resume import metadata_to_resume
from maskrcnn_jax.checkpoints.saved_config import check_classes, detector_config
from maskrcnn_jax.config_json import from_json, set_values, to_json
from maskrcnn_jax.inference.load import load
from tests.end_to_end.tiny import get_config


@pytest.mark.parametrize("kind", ["FIFO", "device", "link to a folder"])
@pytest.mark.parametrize("name", ["7/metadata/metadata", "7/_CHECKPOINT_METADATA", "7/variables"])
def test_only_regular_files_are_read(tmp_path, name, kind):
    path = tmp_path / "checkpoints" / name
    path.parent.mkdir(parents=True)
    if kind == "FIFO":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if kind == "device" else tmp_path)
    for read in (
        load_for_inference,
        metadata_to_resume,
        lambda folder: CheckpointFolder(folder / "checkpoints", 1),
    ):
        with pytest.raises(ValueError, match=f"{name} is neither a regular file nor a folder"):
            read(tmp_path)


def test_opening_a_folder_to_read_warns_of_nothing(tmp_path, caplog):
    with caplog.at_level("WARNING", logger="absl"), make_manager(tmp_path, None, read_only=True):
        pass
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (dict(class_names="cat"), "class_names is 'cat'; expected names"),
        (dict(class_names=["cat", 7]), "class_names is"),
        (dict(class_names=[], category_ids=[]), "class_names is"),
        (dict(category_ids=["1", 2]), "category_ids is .*; expected 2 whole numbers"),
        (dict(category_ids=[1]), "category_ids is"),
        (dict(category_ids=[1, True]), "category_ids is"),
    ],
)
def test_classes_of_other_types_are_refused(changes, reason):
    metadata = {"class_names": ["cat", "dog"], "category_ids": [1, 2]}
    check_classes(metadata)
    with pytest.raises(ValueError, match=reason):
        check_classes(metadata | changes)


def saved(changes: dict, **more) -> dict:
    """Returns metadata with keys of the configuration changed, whatever their types."""
    config = to_json(get_config())
    for key, value in changes.items():
        *parents, name = key.split(".")
        place = config
        for parent in parents:
            place = place[parent]
        place[name] = value
    return {"config": config, "class_names": ["a"], "category_ids": [1]} | more


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"model.fpn.channels": "64"},
            "config.model.fpn.channels is '64'; expected a whole",
        ),
        ({"model.fpn.channels": 64.0}, "config.model.fpn.channels is 64.0; expected a whole"),
        ({"model.fpn.channels": True}, "config.model.fpn.channels is True; expected a whole"),
        ({"model.fpn.channels": -1}, "config.model.fpn.channels is -1; expected at least 1"),
        ({"model.backbone.depth": 19}, "config.model.backbone.depth is 19; expected 18 | 34"),
        ({"model.mask_head.convs": 10**9}, "config.model.mask_head.convs is 1000000000; expected"),
        ({"model.roi.sampling_ratio": 10**6}, "config.model.roi.sampling_ratio is 1000000"),
        ({"model.fpn": 3}, "config.model.fpn is 3; it is a section of keys"),
        ({"model": None}, "it has no section config.model"),
        ({"model.fpn.chanels": 64}, "there is no key config.model.fpn.chanels; did you mean"),
        ({"data.buckets": [[64, 65]]}, "config.data.buckets has (64, 65); each must be"),
        ({"data.buckets": [[64]]}, "config.data.buckets is ((64,),); expected a tuple"),
        ({"data.channels": 4}, "config.model.pixel.mean has 3 values, config.data.channels is 4"),
        (
            {"data.buckets": [[2**20, 2**20]]},
            "config.data.buckets = (1048576, 1048576) and config.data.channels = 3 ask for",
        ),
        ({"model.backbone.width": 2**40}, "config.model.backbone.width = 1099511627776 ask for"),
        (
            {"model.detections.max_per_image": 10**9},
            "config.model.detections.max_per_image = 1000000000 and",
        ),
        ({"model.rpn.post_nms_top_n_eval": 10**12}, "config.model.rpn.post_nms_top_n_eval = 1000"),
        ({"model.box_head.dense_channels": 10**9}, "config.model.box_head.dense_channels = 10000"),
    ],
)
def test_a_configuration_is_checked_before_anything_is_built(tmp_path, changes, reason):
    metadata = saved(changes)
    save_weights(tmp_path / "checkpoints", {"params": {"a": np.zeros(1)}}, metadata)
    with pytest.raises(ValueError, match=r"checkpoints/0 (cannot be used|are damaged)") as e:
        load(tmp_path)
    assert reason in str(e.value)
    assert len(str(e.value)) < 500


def test_a_sound_configuration_passes():
    model, images = detector_config(from_json(saved({})))
    assert (model, images.buckets) == (get_config().model, get_config().data.buckets)


@pytest.mark.parametrize(
    "key", ["train.batch_size", "eval.batch_size", "data.max_instances", "data.mask_size"]
)
def test_batches_beyond_any_memory_are_refused(key):
    config = get_config()
    config.validate()
    set_values(config, {key: 10**10})
    with pytest.raises(ValueError, match=f"config.{key} = 10000000000 .*ask for batches of"):
        config.validate()


def test_an_average_of_other_shapes_is_not_read():
    model = {"params": {"a": np.zeros((2, 3))}}
    check_average({"params": {"a": np.zeros((2, 3))}}, model, "ema")
    for wrong in ({"params": {"a": np.zeros((2, 4))}}, {"params": {"b": np.zeros((2, 3))}}):
        with pytest.raises(ValueError, match=r"ema has params.*no array of its model"):
            check_average(wrong, model, "ema")
