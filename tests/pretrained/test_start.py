"""What a run begins with: which weights are read, and what of the configuration comes with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.checkpoints.manager import Checkpoints
from maskrcnn_jax.checkpoints.state import TrainState
from maskrcnn_jax.config_json import from_json, set_values, to_json
from maskrcnn_jax.models.build import abstract_variables, make_model
from maskrcnn_jax.models.config import PARTS
from maskrcnn_jax.pretrained import convert
from maskrcnn_jax.pretrained.files import downloads
from maskrcnn_jax.pretrained.files.weight_files import sha256
from maskrcnn_jax.pretrained.merge import check_fit
from maskrcnn_jax.pretrained.start import begin
from tests.end_to_end.tiny import get_config
from tests.pretrained.narrow import narrow_model, random_state, write

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
    set_values(
        config.model,
        {
            "pixel.order": "bgr",
            "backbone.norm": "bn",
            "fpn.channels": 24,
            "rpn.convs": 2,
            "roi.aligned": True,
            "box_head.dense_channels": 16,
            "rpn.nms_threshold": 0.6,
        },
    )
    return _save(tmp_path_factory.mktemp("run"), config, steps=(2, 3), best=2)


@pytest.fixture
def config():
    return get_config()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A narrow detector and its backbone alone, as torchvision would write them."""
    folder = tmp_path_factory.mktemp("files")
    state = random_state(narrow_model("v1"))
    prefix = "backbone.body."
    backbone = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    return {
        "detector": write(folder / "detector.safetensors", state),
        "backbone": write(folder / "resnet18.safetensors", backbone),
    }


def _numbers(start):
    return {float(leaf.ravel()[0]) for leaf in jax.tree.leaves(start.weights.variables)}


def test_none_begins_with_nothing(config, tmp_path):
    same, start = begin(config, tmp_path / "new")
    assert same == config
    assert start.weights is None
    assert start.record is None
    assert not (tmp_path / "new").exists()


def test_what_belongs_to_the_weights_comes_with_them_and_is_told(config, run, tmp_path):
    config.init = str(run)
    before = from_json(to_json(config))
    resolved, start = begin(config, tmp_path)
    assert from_json(to_json(config)) == before
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


def test_boxes_alone_take_no_mask_head(config, run, tmp_path):
    config.init, config.model.masks = str(run), False
    resolved, start = begin(config, tmp_path)
    assert start.parts == PARTS[:-1]
    assert not resolved.model.masks


def test_weights_of_boxes_alone_leave_the_mask_head_new(config, tmp_path):
    faster = get_config()
    faster.model.masks = False
    config.init = str(_save(tmp_path / "faster", faster))
    resolved, start = begin(config, tmp_path / "new")
    assert start.parts == PARTS[:-1]
    assert resolved.model.masks


def test_whether_batch_norm_is_frozen_is_the_recipes_choice(config, run, tmp_path):
    config.init, config.model.backbone.norm = str(run), "frozen_bn"
    resolved, start = begin(config, tmp_path)
    assert resolved.model.backbone.norm == "frozen_bn"
    assert "backbone.norm" not in start.record["model"]
    assert start.record["model"]["backbone.norm_eps"] == 1e-5


def test_a_loss_of_classes_that_was_asked_for_stays(config, tmp_path):
    theirs = get_config()
    theirs.model.box_head.class_loss = "sigmoid"
    config.init = str(_save(tmp_path / "run", theirs))
    assert begin(config, tmp_path)[0].model.box_head.class_loss == "sigmoid"
    config.model.box_head.class_loss = "federated"
    assert begin(config, tmp_path)[0].model.box_head.class_loss == "federated"


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


def test_a_detector_of_another_project(config, files, tmp_path):
    config.init = str(files["detector"])
    resolved, start = begin(config, tmp_path)
    assert start.parts == PARTS
    assert start.weights.class_names == ("class_1", "class_2")
    assert start.record["kind"] == "torchvision_v1"
    assert start.record["file"] == config.init
    assert start.record["sha256"] == sha256(files["detector"])
    assert resolved.model.backbone.width == 4
    assert resolved.model.backbone.norm_eps == 0.0
    assert "model.backbone.norm: 'gn' -> 'frozen_bn', as the weights need" in start.lines
    assert "--set model.backbone.norm_eps=1e-5" in start.lines[0]
    shapes = abstract_variables(make_model(resolved.model, 3))
    check_fit(shapes, start.weights.variables, start.parts, "")

    config.init_parts = ("rpn",)
    assert not any("norm_eps" in line for line in begin(config, tmp_path)[1].lines)
    config.init_parts = PARTS

    config.init = f"imagenet:{config.init}"
    resolved, start = begin(config, tmp_path)
    assert start.parts == ("backbone",)
    assert resolved.model.fpn.channels == config.model.fpn.channels


def test_a_backbone_of_another_project(config, files, tmp_path):
    for init in (str(files["backbone"]), f"imagenet:{files['backbone']}"):
        config.init = init
        resolved, start = begin(config, tmp_path)
        assert start.parts == ("backbone",)
        assert start.weights.class_names == ()
        assert start.record["kind"] == "torchvision_resnet"
        shapes = abstract_variables(make_model(resolved.model, 3))
        check_fit(shapes, start.weights.variables, start.parts, "")
    config.init = f"coco:{files['backbone']}"
    with pytest.raises(ValueError, match=r"is a backbone \(torchvision_resnet\), no detector"):
        begin(config, tmp_path)


def test_published_weights_are_fetched_by_their_name(config, files, tmp_path, monkeypatch):
    fetched = []

    def fetch(name):
        fetched.append(name)
        return files["backbone"]

    monkeypatch.setattr(downloads, "fetch", fetch)
    for config.init in ("imagenet_torchvision_r18", "imagenet:imagenet_torchvision_r18"):
        _, start = begin(config, tmp_path)
        assert start.record["from"] == config.init
        assert start.record["file"] == str(files["backbone"])
    assert fetched == ["imagenet_torchvision_r18"] * 2


def test_a_run_goes_on_with_what_it_began_with(config, run, tmp_path):
    config.init = str(run)
    resolved, start = begin(config, tmp_path)
    _save(tmp_path, resolved, init=start.record)

    # The same command: the weights need not even be there.
    config.init = str(tmp_path / "gone")
    again, resumed = begin(config, tmp_path)
    assert resumed.weights is None
    assert resumed.record == start.record
    assert again == resolved
    # What the weights needed was told when they were read.
    (line,) = resumed.lines
    assert line == (
        f"config.init: {str(run)!r} -> {config.init!r}, without effect: "
        "a run that resumes does not start from init"
    )

    config.init = "last"
    again, resumed = begin(config, tmp_path)
    assert again == resolved
    assert resumed.lines == ()


def test_last_needs_a_checkpoint(config, tmp_path):
    config.init = "last"
    with pytest.raises(FileNotFoundError, match=r"init is last, but there is no checkpoint in .*r"):
        begin(config, tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_converted_weights_are_no_run_to_go_on_with(config, files, tmp_path):
    out = tmp_path / "converted"
    convert.write_checkpoint(convert.load(files["detector"]), out)
    with pytest.raises(ValueError, match=f"--config.init={out} and another --workdir"):
        begin(config, out)
    config.init = f"{out}@best"
    with pytest.raises(ValueError, match=r"is a converted checkpoint, which has one state.*last"):
        begin(config, tmp_path / "new")
    config.init = str(out)
    resolved, converted = begin(config, tmp_path / "new")
    config.init = str(files["detector"])
    same, direct = begin(config, tmp_path / "new")
    assert resolved.model == same.model
    np.testing.assert_equal(converted.weights.variables, direct.weights.variables)


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ("{tmp}/nowhere", "there is no file or folder '.*nowhere'"),
        ("coco_nonsense", "there is no file or folder 'coco_nonsense'.*coco_torchvision_v1"),
        (
            "coco_torchvision1",
            "of that name; did you mean coco_torchvision_v1",
        ),
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
def test_unknown_parts_are_named(config, parts):
    config.init_parts = parts
    with pytest.raises(ValueError, match=r"config.init_parts is .*backbone"):
        config.validate()


def test_parts_that_the_weights_lack_are_named(config, run, tmp_path):
    config.init, config.init_parts = f"imagenet:{run}", ("rpn",)
    with pytest.raises(ValueError, match=r"init_parts is \('rpn',\).* gives backbone"):
        begin(config, tmp_path)
