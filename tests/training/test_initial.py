"""What a run begins with: which weights are read, and what of the configuration comes with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.training import checkpoint_format
from maskrcnn_jax.training.checkpoint import Checkpoints
from maskrcnn_jax.training.initial import begin
from maskrcnn_jax.training.merge import PARTS
from maskrcnn_jax.training.state import TrainState, abstract_variables, make_model
from tests.end_to_end.tiny import get_config

CLASSES = ("circle", "rectangle", "triangle")


def _save(workdir, config, steps=(3,), best=None, **metadata):
    """Writes checkpoints in which every number is the step's."""
    shapes = abstract_variables(make_model(config.model, len(CLASSES)))
    facts = {"config": config, "class_names": CLASSES, "category_ids": (1, 2, 3), **metadata}
    checkpoints = Checkpoints(workdir, len(steps), {"num_images": 12, "init": None, **facts})
    for step in steps:
        variables = jax.tree.map(lambda s, n=step: jnp.full(s.shape, n, s.dtype), shapes)
        state = TrainState(step=jnp.int32(step), opt_state={}, **variables)
        checkpoints.save(state, step, {})
        if step == best:
            checkpoints.save_best(state, step, {"segm/AP": 0.5}, "segm/AP")
    checkpoints.close()
    return workdir


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of a detector in another dialect."""
    config = get_config()
    config.model.update_from_flattened_dict(
        {
            "pixel.order": "bgr",
            "backbone.norm": "bn",
            "fpn.channels": 24,
            "rpn.convs": 2,
            "roi.aligned": True,
            "box_head.dense_channels": 16,
            "rpn.nms_threshold": 0.6,
        }
    )
    return _save(tmp_path_factory.mktemp("run"), config, steps=(2, 3), best=2)


@pytest.fixture
def config():
    return get_config()


def _numbers(start):
    return {float(leaf.ravel()[0]) for leaf in jax.tree.leaves(start.weights.variables)}


def test_none_begins_with_nothing(config, tmp_path):
    same, start = begin(config, tmp_path / "new")
    assert same.to_dict() == config.to_dict()
    assert start.weights is None
    assert start.record is None
    assert not (tmp_path / "new").exists()


def test_what_belongs_to_the_weights_comes_with_them_and_is_told(config, run, tmp_path):
    config.init = str(run)
    before = config.to_dict()
    resolved, start = begin(config, tmp_path)
    assert config.to_dict() == before
    changed = {
        "model.pixel.order: 'rgb' -> 'bgr', as the weights need",
        "model.backbone.norm: 'gn' -> 'bn', as the weights need",
        "model.fpn.channels: 16 -> 24, as the weights need",
        "model.rpn.convs: 1 -> 2, as the weights need",
        "model.roi.aligned: False -> True, as the weights need",
        "model.box_head.dense_channels: 32 -> 16, as the weights need",
    }
    assert set(start.lines) == changed
    assert resolved.model.fpn.channels == 24
    assert (
        resolved.model.rpn.nms_threshold == config.model.rpn.nms_threshold
    )  # the user's to choose
    assert start.parts == PARTS
    assert start.weights.class_names == CLASSES
    assert _numbers(start) == {3.0}
    assert isinstance(jax.tree.leaves(start.weights.variables)[0], np.ndarray)
    assert start.record["from"] == str(run)
    assert start.record["kind"] == "maskrcnn_jax"
    assert start.record["file"] == f"{run}, step 3"
    assert len(start.record["sha256"]) == 64
    assert start.record["model"]["roi.aligned"] is True


@pytest.mark.parametrize(("which", "step"), [("best", 2), ("2", 2), ("3", 3)])
def test_other_checkpoints_are_named_behind_an_at(config, run, tmp_path, which, step):
    config.init = f"{run}@{which}"
    _, start = begin(config, tmp_path)
    assert _numbers(start) == {float(step)}
    assert start.record["file"] == f"{run}, step {step}"


def test_a_part_brings_its_own_keys_alone(config, run, tmp_path):
    config.init, config.init_parts = str(run), ("rpn",)
    resolved, start = begin(config, tmp_path)
    assert start.lines == ("model.rpn.convs: 1 -> 2, as the weights need",)
    assert resolved.model.pixel.order == "rgb"
    assert start.parts == ("rpn",)
    assert start.record["parts"] == ("rpn",)

    config.init_parts = ("mask_head", "backbone")
    resolved, start = begin(config, tmp_path)
    assert {line.split(":")[0] for line in start.lines} == {
        "model.pixel.order",
        "model.backbone.norm",
        "model.roi.aligned",
    }
    assert start.parts == ("backbone", "mask_head")


def test_whether_batch_norm_is_frozen_is_the_recipes_choice(config, run, tmp_path):
    config.init, config.model.backbone.norm = str(run), "frozen_bn"
    resolved, start = begin(config, tmp_path)
    assert resolved.model.backbone.norm == "frozen_bn"
    assert "backbone.norm" not in start.record["model"]
    assert start.record["model"]["backbone.norm_eps"] == 1e-5


def test_imagenet_takes_the_backbone_of_a_detector(config, run, tmp_path):
    config.init = f"imagenet:{run}"
    resolved, start = begin(config, tmp_path)
    assert start.parts == ("backbone",)
    assert {part for tree in start.weights.variables.values() for part in tree} == {"backbone"}
    assert resolved.model.pixel.order == "bgr"
    assert resolved.model.fpn.channels == 16


def test_coco_takes_a_detector(config, run, tmp_path):
    config.init = f"coco:{run}"
    assert begin(config, tmp_path)[1].parts == PARTS


def test_a_run_goes_on_with_what_it_began_with(config, run, tmp_path):
    config.init = str(run)
    resolved, start = begin(config, tmp_path)
    _save(tmp_path, resolved, init=start.record)

    # The same command: the weights need not even be there.
    config.init = str(tmp_path / "gone")
    again, resumed = begin(config, tmp_path)
    assert resumed.weights is None
    assert resumed.record == start.record
    assert again.to_dict() == resolved.to_dict()
    (line, *changes) = resumed.lines
    assert line == (
        f"init: {str(run)!r} -> {config.init!r}, without effect: a run that goes on does not start "
        f"from init"
    )
    assert set(changes) == set(start.lines)

    config.init = "last"
    again, resumed = begin(config, tmp_path)
    assert again.to_dict() == resolved.to_dict()
    assert set(resumed.lines) == set(start.lines)


def test_last_needs_a_checkpoint(config, tmp_path):
    config.init = "last"
    with pytest.raises(FileNotFoundError, match=r"init is last, but there is no checkpoint in .*r"):
        begin(config, tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_weights_alone_are_no_run_to_go_on_with(config, tmp_path, monkeypatch):
    items = checkpoint_format.items
    with monkeypatch.context() as patch:
        patch.setattr(
            checkpoint_format, "items", lambda state: {"variables": items(state)["variables"]}
        )
        _save(tmp_path, config)
    with pytest.raises(ValueError, match=f"--config.init={tmp_path} and another --workdir"):
        begin(config, tmp_path)
    config.init = str(tmp_path)
    assert _numbers(begin(config, tmp_path / "other")[1]) == {3.0}


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ("{tmp}/nowhere", "there is no file or folder '.*nowhere'"),
        ("coco_nonsense", "there is no file or folder 'coco_nonsense'.*coco_torchvision_v1"),
        ("", "it is empty"),
        ("coco:", "it is empty"),
        ("{tmp}", "no folder .*checkpoints; give the work directory"),
        ("{run}@7", "no checkpoint of step 7 .* there are 2, 3"),
        ("{run}@newest", "'newest' was asked for; give last, best"),
        ("{tmp}/weights.pth", "weights.pth"),
    ],
)
def test_what_cannot_be_read_is_named(config, run, tmp_path, init, message):
    (tmp_path / "weights.pth").write_bytes(b"no weights at all")
    config.init = init.format(tmp=tmp_path, run=run)
    with pytest.raises(ValueError, match=f"config.init = .*{message}"):
        begin(config, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("parts", [(), ("backbone", "neck")])
def test_unknown_parts_are_named(config, tmp_path, parts):
    config.init_parts = parts
    with pytest.raises(ValueError, match=r"config.init_parts is \(.*backbone, fpn, rpn"):
        begin(config, tmp_path)


def test_parts_that_the_weights_lack_are_named(config, run, tmp_path):
    config.init, config.init_parts = f"imagenet:{run}", ("rpn",)
    with pytest.raises(ValueError, match=r"init_parts is \('rpn',\).* gives backbone"):
        begin(config, tmp_path)
