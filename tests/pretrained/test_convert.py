"""Files of other projects become `Weights`, and those a checkpoint like any other."""

import pickle

import h5py
import jax
import numpy as np
import pytest

from maskrcnn_jax.checkpoints import format as checkpoint_format
from maskrcnn_jax.checkpoints.load import load_for_inference
from maskrcnn_jax.config import get_config
from maskrcnn_jax.config_json import from_json, set_values
from maskrcnn_jax.pretrained import convert, out_folder
from maskrcnn_jax.pretrained.files import weight_files
from maskrcnn_jax.pretrained.report import summary
from maskrcnn_jax.pretrained.sources import SOURCES
from maskrcnn_jax.pretrained.tables.mapping import export_arrays
from tests.pretrained.narrow import NUM_CLASSES, narrow_model, random_state, random_variables, write

SOURCE = {source.name: source for source in SOURCES}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def state():
    """A torchvision state dict of a narrow v1 detector."""
    return random_state(narrow_model("v1"))


@pytest.fixture(scope="module")
def file(folder, state):
    return write(folder / "narrow.safetensors", state)


@pytest.fixture(scope="module")
def weights(file):
    return convert.load(file)


@pytest.mark.parametrize("generation", ["v1", "v2"])
def test_load(tmp_path, generation):
    model = narrow_model(generation)
    file = write(tmp_path / "narrow.safetensors", random_state(model))
    weights = convert.load(str(file))
    assert (weights.kind, weights.part) == (f"torchvision_{generation}", "detector")
    assert (weights.file, weights.sha256) == (file.name, weight_files.sha256(file))
    assert weights.settings == {"detections.mask_paste": "torchvision"}
    assert (weights.data, weights.left) == ({}, [])
    assert weights.class_names == ("class_1", "class_2")
    assert weights.category_ids == (1, 2)
    # The dialect, and the widths that the file has.
    ours = get_config().model
    set_values(ours, weights.model)
    assert ours == model
    jax.tree.map(np.testing.assert_array_equal, weights.variables, random_variables(model))


def random_file(path, kind, depth, **widths):
    """Writes a file of a kind that is made of random variables by the kind's own table."""
    source = SOURCE[kind]
    model = get_config().model
    set_values(model, {**source.model, "backbone.depth": depth, **widths})
    state = export_arrays(random_variables(model), source.table(model))
    if kind == "matterport":
        with h5py.File(path, "w") as file:
            for name, array in state.items():
                layer, weight = name.split("/")
                file[f"{layer}/{layer}/{weight}:0"] = array
    else:
        path.write_bytes(pickle.dumps({"model": state, "__author__": "Detectron2 Model Zoo"}))
    return model, state


@pytest.mark.parametrize("kind", ["detectron2", "matterport"])
def test_other_kinds_with_their_own_widths(tmp_path, kind):
    widths = {
        "backbone.width": 2,
        "fpn.channels": 4,
        "rpn.channels": 6,
        "box_head.dense_channels": 3,
        "mask_head.channels": 5,
    }
    if kind == "detectron2":
        widths["rpn.channels"] = 0  # there it is always that of the FPN
    model, state = random_file(tmp_path / "weights", kind, 50, **widths)
    weights = convert.load(tmp_path / "weights")
    assert weights.kind == kind
    assert len(weights.class_names) == NUM_CLASSES
    assert {key: weights.model[key] for key in widths} == widths
    again = export_arrays(weights.variables, SOURCE[kind].table(model))
    assert again.keys() == state.keys()
    assert weights.settings == dict(SOURCE[kind].settings)

    config = convert.checkpoint_config(weights)
    for key, value in weights.settings.items():
        section, name = key.split(".")
        assert config["model"][section][name] == value
    for key, value in weights.data.items():
        assert from_json({key: config["data"][key]}) == {key: value}


def test_a_federated_loss_is_told_by_its_class_weights(tmp_path):
    _, state = random_file(tmp_path / "softmax", "detectron2", 18, **{"backbone.width": 2})
    state["roi_heads.box_predictor.fed_loss_cls_weights"] = np.ones(NUM_CLASSES, np.float32)
    weights = convert.load(write(tmp_path / "federated.safetensors", state))
    assert weights.model["box_head.class_loss"] == "federated"
    assert convert.load(tmp_path / "softmax").model["box_head.class_loss"] == "softmax"
    given = {"box_head.class_loss": "sigmoid"}
    assert convert.load(tmp_path / "softmax", given).model["box_head.class_loss"] == "sigmoid"


@pytest.mark.parametrize(
    ("name", "shape", "wanted"),
    [
        # Arrays of the layers that widths are read from, and of another one.
        ("backbone.body.conv1.weight", (9, 3, 7, 7), "(4, 3, 7, 7)"),
        ("backbone.fpn.inner_blocks.0.0.weight", (9, 4, 1, 1), "(8, 4, 1, 1)"),
        ("backbone.body.layer2.0.conv1.weight", (9, 4, 3, 3), "(8, 4, 3, 3)"),
        ("roi_heads.box_head.fc7.bias", (9,), "(6,)"),
        ("backbone.body.conv1.weight", (9,), "(4, 3, 7, 7)"),
    ],
)
def test_one_array_of_a_wrong_shape_is_named_alone(tmp_path, state, name, shape, wanted):
    file = write(tmp_path / "x.safetensors", {**state, name: np.zeros(shape, np.float32)})
    with pytest.raises(ValueError, match="are not those of such a model") as error:
        convert.load(file)
    message = str(error.value)
    assert str(file) in message
    assert f"wrong shape (1): {name}: {shape} given, {wanted} expected" in message


def test_a_detector_without_masks_is_one_of_boxes_alone(tmp_path, state):
    boxes_only = {name: array for name, array in state.items() if "mask" not in name}
    weights = convert.load(write(tmp_path / "faster_rcnn.safetensors", boxes_only))
    assert weights.settings["masks"] is False
    assert "mask_head" not in weights.variables["params"]
    assert convert.checkpoint_config(weights)["model"]["masks"] is False


def test_a_part_of_a_mask_head_is_not_taken_for_none(tmp_path, state):
    part = {name: x for name, x in state.items() if "mask" not in name or "mask_fcn_logits" in name}
    with pytest.raises(ValueError, match=r"missing \(.*conv5_mask"):
        convert.load(write(tmp_path / "part.safetensors", part))


def test_what_a_file_was_read_as_is_told_and_long_lists_are_cut(tmp_path, state):
    rest = {
        name: array for name, array in state.items() if ".layer3." not in name or "conv" in name
    }
    with pytest.raises(ValueError, match="are not those of such a model") as error:
        convert.load(write(tmp_path / "x.safetensors", rest))
    message = str(error.value)
    assert "x.safetensors, read as torchvision_v1 with ResNet-18 and 2 classes: " in message
    (line,) = [line for line in message.splitlines() if "missing" in line]
    number = len(state) - len(rest)
    assert line.startswith(f"  missing ({number}): backbone.body.layer3.")
    assert line.endswith(f", and {number - 10} more")
    assert line.count("layer3") == 10


def test_a_detector_with_more_than_we_have(tmp_path, state):
    more = {**state, "roi_heads.keypoint_head.0.weight": np.zeros(3, np.float32)}
    with pytest.raises(ValueError, match=r"unknown \(1\): roi_heads\.keypoint_head\.0\.weight"):
        convert.load(write(tmp_path / "keypoint_rcnn.safetensors", more))


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("roi_heads.box_predictor.cls_score.bias", r"no array 'roi_heads.*cls_score\.bias'"),
        ("backbone.body.layer4.1.conv1.weight", "missing"),
        ("roi_heads.box_head.fc6.weight", "no known kind"),
    ],
)
def test_arrays_that_tell_what_a_file_is(tmp_path, state, lost, message):
    rest = {name: array for name, array in state.items() if name != lost}
    file = write(tmp_path / "x.safetensors", rest)
    with pytest.raises(ValueError, match=message) as error:
        convert.load(file)
    assert str(file) in str(error.value)


def test_a_residual_network_that_does_not_exist(tmp_path, state):
    rest = {name: array for name, array in state.items() if "layer4.1" not in name}
    with pytest.raises(ValueError, match=r"x\.safetensors, .*\(2, 2, 2, 1\) blocks"):
        convert.load(write(tmp_path / "x.safetensors", rest))
    none = {name: array for name, array in state.items() if "body.layer" not in name}
    with pytest.raises(ValueError, match=r"y\.safetensors, .*: it has no residual blocks"):
        convert.load(write(tmp_path / "y.safetensors", none))


def test_damaged_file(tmp_path, file):
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"cut\.safetensors"):
        convert.load(cut)


def test_overrides_win(file):
    overrides = {"backbone.norm_eps": 1e-5, "detections.score_threshold": 0.3}
    weights = convert.load(file, overrides)
    assert weights.model["backbone.norm_eps"] == 1e-5
    assert weights.settings["detections.score_threshold"] == 0.3
    assert convert.checkpoint_config(weights)["model"]["detections"]["score_threshold"] == 0.3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"backbone.norm_epsilon": 1e-5},
            r"no key model\.backbone\.norm_epsilon; did you mean model\.backbone\.norm_eps\?$",
        ),
        ({"backbon.norm_eps": 1e-5}, r"did you mean model\.backbone\.norm_eps\?$"),
        ({"xyz": 1}, r"no key model\.xyz; `python -m maskrcnn_jax\.config` lists all$"),
        (
            {"backbone.norm_eps": "small"},
            "norm_eps cannot be 'small'; expected a float such as 1e-05$",
        ),
        (
            {"backbone": 3},
            "no key model.backbone to set, but a section with model.backbone.kind, ",
        ),
        ({"backbone.depth": 7}, "backbone.depth is 7; expected 18"),
        (
            {"fpn.norm": "bn"},
            r"classes, model\.fpn\.norm=bn: (.|\n)* missing .* backbone\.fpn\.inner_blocks\.0\.1",
        ),
    ],
)
def test_overrides_that_do_not_go(file, overrides, message):
    with pytest.raises(ValueError, match=message):
        convert.load(file, overrides)


def test_class_names(weights):
    named = convert.with_classes(weights, ["cat", " dog"])
    assert (named.class_names, named.category_ids) == (("cat", "dog"), (1, 2))
    for names in (["cat"], ["cat", "dog", "bird"]):
        with pytest.raises(ValueError, match=r"narrow\.safetensors has 2 classes"):
            convert.with_classes(weights, names)
    for names in (["cat", "cat"], ["cat", "dog", "cat"]):
        with pytest.raises(ValueError, match="given twice among the class names: cat; give 2"):
            convert.with_classes(weights, names)
    with pytest.raises(ValueError, match="class name 2 of 3 is empty"):
        convert.with_classes(weights, ["cat", "", "dog"])


def test_the_epsilon_that_a_file_cannot_tell(tmp_path, file, weights):
    (note,) = weights.notes
    assert "--set model.backbone.norm_eps=1e-5" in note
    assert summary(weights).splitlines()[-1] == f"note: {note}"
    assert convert.load(file, {"backbone.norm_eps": 1e-5}).notes == ()
    other = write(tmp_path / "v2.safetensors", random_state(narrow_model("v2")))
    assert convert.load(other).notes == ()


def test_checkpoint(weights, tmp_path):
    out = tmp_path / "new" / "run"
    convert.write_checkpoint(weights, out)
    assert [path.name for path in out.iterdir()] == ["checkpoints"]
    variables, metadata = load_for_inference(out)
    jax.tree.map(np.testing.assert_array_equal, variables, weights.variables)
    assert metadata["class_names"] == ("class_1", "class_2")
    assert metadata["category_ids"] == (1, 2)
    assert (metadata["step"], metadata["metrics"], metadata["num_images"]) == (0, {}, 0)
    assert metadata["source"] == {
        "file": "narrow.safetensors",
        "sha256": weights.sha256,
        "kind": "torchvision_v1",
    }
    config = metadata["config"]
    assert config["model"]["backbone"]["norm_eps"] == 0.0
    assert config["eval"]["batch_size"] == 2
    assert config["data"]["val"] == {
        "root": "coco",
        "images": "val2017",
        "annotations": "annotations/instances_val2017.json",
    }


def test_a_folder_with_checkpoints_is_left_alone(weights, tmp_path):
    for name in ("checkpoints", "best"):
        out = tmp_path / name
        (out / name).mkdir(parents=True)
        with pytest.raises(ValueError, match=f"{name} exists already"):
            convert.write_checkpoint(weights, out)
        assert list((out / name).iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        convert.write_checkpoint(weights, tmp_path / "file")
    with pytest.raises(OSError, match=r"--out=.*file/run cannot be made: .*file is a file"):
        convert.write_checkpoint(weights, tmp_path / "file" / "run")


def test_a_folder_that_cannot_be_written_to_is_told_before_it_is_tried(tmp_path, monkeypatch):
    monkeypatch.setattr(out_folder.os, "access", lambda path, mode: False)  # root may do anything
    with pytest.raises(OSError, match=f"--out={tmp_path}/a/b cannot be made: {tmp_path} cannot be"):
        out_folder.check_new(tmp_path / "a" / "b")


def test_a_folder_that_is_made_in_vain_is_named(weights, tmp_path, monkeypatch):
    def full(self, **options):
        raise OSError("disk full")

    monkeypatch.setattr(out_folder.Path, "mkdir", full)
    with pytest.raises(OSError, match=f"--out={tmp_path}/a cannot be made: disk full"):
        convert.write_checkpoint(weights, tmp_path / "a")


@pytest.mark.parametrize("fault", [OSError("disk full"), KeyboardInterrupt()])
def test_nothing_is_left_half_written(weights, tmp_path, monkeypatch, fault):
    save = checkpoint_format.save_weights

    def fail_late(folder, variables, metadata):
        save(folder, variables, metadata)
        raise fault

    monkeypatch.setattr(checkpoint_format, "save_weights", fail_late)
    with pytest.raises(type(fault)):
        convert.write_checkpoint(weights, tmp_path / "new")
    assert not (tmp_path / "new").exists()

    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "notes.txt").write_text("mine")
    with pytest.raises(type(fault)):
        convert.write_checkpoint(weights, tmp_path / "old")
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["notes.txt"]


def test_a_backbone(tmp_path, state):
    prefix = "backbone.body."
    backbone = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    backbone |= {"fc.weight": np.zeros((10, 32), np.float32), "fc.bias": np.zeros(10, np.float32)}
    weights = convert.load(write(tmp_path / "resnet18.safetensors", backbone))
    assert (weights.kind, weights.part) == ("torchvision_resnet", "backbone")
    assert (weights.class_names, weights.category_ids) == ((), ())
    assert sorted(weights.left) == ["fc.bias", "fc.weight"]
    assert weights.variables["params"].keys() == {"backbone"}
    assert weights.variables["batch_stats"].keys() == {"backbone"}
    assert weights.model["backbone.width"] == 4
    assert not any(key.startswith("fpn") for key in weights.model)
    with pytest.raises(ValueError, match=r"--config\.init=imagenet:"):
        convert.write_checkpoint(weights, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("num_classes", "names", "ids"),
    [
        (90, {1: "person", 12: "unused_12", 90: "toothbrush"}, tuple(range(1, 91))),
        (80, {1: "person", 12: "stop sign", 80: "toothbrush"}, (*range(1, 12), 13)),
    ],
)
def test_classes_of_coco(tmp_path, num_classes, names, ids):
    file = write(tmp_path / "coco.safetensors", random_state(narrow_model("v1"), num_classes))
    weights = convert.load(file)
    assert len(weights.class_names) == num_classes
    assert {k: weights.class_names[k - 1] for k in names} == names
    assert weights.category_ids[: len(ids)] == ids
    assert weights.category_ids[-1] == 90
    assert bool(weights.notes) == (num_classes != 90)  # torchvision's own have no doubt
