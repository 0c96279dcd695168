"""Our detectors in torchvision: the state dict, the lines that build its model, and refusals."""

from importlib.util import find_spec

import numpy as np
import pytest

from maskrcnn_jax.cli.pretrained import main
from maskrcnn_jax.config import get_config
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.pretrained import export
from maskrcnn_jax.pretrained.files.weight_files import read_weights
from maskrcnn_jax.pretrained.tables import torchvision
from tests.end_to_end import tiny
from tests.pretrained.narrow import narrow_model, random_state, random_variables, write

SUFFIXES = ("safetensors", "pth") if find_spec("torch") else ("safetensors",)


@pytest.fixture
def narrow_builders(monkeypatch, generation):
    """Lets torchvision's builders be as narrow as the tests' models."""
    monkeypatch.setattr(export, "ModelConfig", lambda: narrow_model(generation))


def configured(generation="v1", **changes):
    config = get_config()
    set_values(config.model, torchvision.MODEL_OVERRIDES[generation])
    set_values(config, {k.replace("__", "."): v for k, v in changes.items()})
    return config


def builder(config, num_classes):
    return export.builder(config.model, config.data, num_classes)


@pytest.mark.usefixtures("narrow_builders")
@pytest.mark.parametrize("generation", ["v1", "v2"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_round_trip_through_files_is_equal_to_the_bit(tmp_path, capsys, generation, suffix):
    state = random_state(narrow_model(generation))
    write(tmp_path / "theirs.safetensors", state)
    run, back = tmp_path / "run", tmp_path / f"back.{suffix}"
    assert main([str(tmp_path / "theirs.safetensors"), "--out", str(run)]) == 0
    assert main([str(run), "--to", "torchvision", "--out", str(back)]) == 0
    name = "maskrcnn_resnet50_fpn" + {"v1": "", "v2": "_v2"}[generation]
    told = capsys.readouterr().out
    assert f"model = {name}(" in told
    assert f'("{back}"' in told
    exported = read_weights(back)
    counters = {n: a for n, a in exported.items() if n.endswith("num_batches_tracked")}
    norms = [n for n in state if n.endswith("running_var")]
    assert len(counters) == (len(norms) if generation == "v2" else 0)
    assert all(a.shape == () and a.dtype == np.int64 and a == 0 for a in counters.values())
    assert exported.keys() - counters.keys() == state.keys()
    for n, array in state.items():
        assert exported[n].dtype == np.float32
        np.testing.assert_array_equal(exported[n], array, err_msg=n)


def test_lines_for_the_models_as_published():
    assert builder(configured("v1"), 90) == (
        "import torch\n"
        "from torchvision.models.detection import maskrcnn_resnet50_fpn\n"
        "\n"
        "model = maskrcnn_resnet50_fpn(\n"
        "    weights=None,\n"
        "    weights_backbone=None,\n"
        "    num_classes=91,\n"
        ")\n"
        "for module in model.backbone.body.modules():\n"
        "    if isinstance(module, torch.nn.BatchNorm2d):\n"
        "        module.eps = 0.0"
    )
    lines = builder(configured("v2"), 2).splitlines()
    assert lines[3] == "model = maskrcnn_resnet50_fpn_v2("
    assert lines[-2:] == ["    num_classes=3,", ")"]


def test_keypoints_are_a_keypoint_rcnn():
    points = dict(model__masks=False, model__keypoints__names=("a", "b"))
    text = builder(configured("v1", **points), 1)
    assert "model = keypointrcnn_resnet50_fpn(\n" in text
    assert "    num_keypoints=2,\n" in text
    for generation in ("v1", "v2"):
        text = builder(configured(generation, model__keypoints__channels=24, **points), 1)
        compile(text, generation, "exec")
        assert "model = KeypointRCNN(\n" in text
        assert f"    keypoint_head=KeypointRCNNHeads(256, {[24] * 8}),\n" in text
        assert "    keypoint_predictor=KeypointRCNNPredictor(24, 2),\n" in text
    points["model__masks"] = True
    with pytest.raises(ValueError, match="it has masks and keypoints, there one of both"):
        builder(configured("v1", **points), 1)


@pytest.mark.parametrize("generation", ["v1", "v2"])
def test_boxes_alone_are_a_faster_rcnn(generation):
    config = configured(generation, model__masks=False, model__mask_head__channels=3)
    suffix = "_v2" if generation == "v2" else ""
    assert f"model = fasterrcnn_resnet50_fpn{suffix}(\n" in builder(config, 2)
    other = configured(generation, model__masks=False, model__fpn__channels=64)
    lines = builder(other, 2)
    assert "model = FasterRCNN(" in lines
    assert "import FasterRCNN\n" in lines
    assert "mask" not in lines.lower()
    state = export.torchvision_state(random_variables(other.model, 2), other.model)
    assert not any("mask" in name for name in state)


CHANGED = {
    "data__short_side": 640,
    "model__pixel__mean": (51.0, 102.0, 153.0),
    "model__anchors__sizes": (8.0, 16.0, 32.0, 64.0, 128.0),
    "model__rpn__post_nms_top_n_eval": 300,
    "model__roi__canonical_size": 112.0,
    "model__box_head__norm_eps": 1e-3,
    "model__mask_head__norm": "frozen_bn",
    "model__detections__score_threshold": 0.2,
    "model__detections__mask_paste": "exact",
    "model__rpn__box_loss_beta": 1.0,
}


def test_lines_for_a_model_with_settings_of_its_own():
    text = builder(configured("v2", **CHANGED), 2)
    for line in (
        "    min_size=640,",
        "    max_size=1333,",
        "    image_mean=[0.2, 0.4, 0.6],",
        "    rpn_post_nms_top_n_test=300,",
        "    box_score_thresh=0.2,",
        "model.rpn.anchor_generator = AnchorGenerator(((8.0,), (16.0,), (32.0,), (64.0,), (128.0,))"
        ", ((0.5, 1.0, 2.0),) * 5)",
        "for module in model.roi_heads.box_head.modules():",
        "        module.eps = 0.001",
    ):
        assert line in text.splitlines()
    assert (
        'box_roi_pool = MultiScaleRoIAlign(["0", "1", "2", "3"], 7, 2, canonical_scale=112.0'
        in text
    )
    assert 'mask_roi_pool = MultiScaleRoIAlign(["0", "1", "2", "3"], 14, 2' in text
    assert text.count("eps") == 1
    square = configured(data__resize="square", data__buckets=((512, 512),))
    assert "    min_size=512,\n    max_size=512,\n" in builder(square, 2)
    deep = configured(data__depth=16, model__pixel__mean=(13107.0, 26214.0, 39321.0))
    assert "    image_mean=[0.2, 0.4, 0.6],\n" in builder(deep, 2)


OWN = {
    "r18_of_width_32_with_group_norm": {
        "backbone.depth": 18,
        "backbone.width": 32,
        "backbone.norm": "gn",
        "fpn.norm": "gn",
        "mask_head.norm": "gn",
    },
    "r34_as_wide_as_usual": {"backbone.depth": 34, "backbone.norm": "bn"},
    "r50_with_a_deeper_rpn": {"rpn.convs": 3, "anchors.aspect_ratios": (0.5, 1.0)},
    "x101_with_convolutions_before_the_boxes": {
        "backbone.depth": 101,
        "backbone.width": 4,
        "backbone.groups": 4,
        "backbone.width_per_group": 32,
        "box_head.convs": 2,
        "box_head.norm": "gn",
        "fpn.norm": "bn",
    },
    "r152_with_other_grids": {
        "backbone.depth": 152,
        "backbone.width": 6,
        "box_head.pool_size": 5,
        "mask_head.pool_size": 8,
        "mask_head.norm": "frozen_bn",
    },
}
NARROW = {
    "fpn.channels": 8,
    "box_head.dense_channels": 6,
    "box_head.conv_channels": 5,
    "mask_head.convs": 2,
    "mask_head.channels": 7,
}


def own_config(name):
    config = configured()
    config.model.backbone.norm_eps = 1e-5
    set_values(config.model, NARROW | OWN[name])
    return config


@pytest.mark.parametrize("name", OWN)
def test_lines_for_layers_of_our_own(name):
    config = own_config(name)
    text = builder(config, 2)
    compile(text, name, "exec")
    depth, width = config.model.backbone.depth, config.model.backbone.width
    assert ("Bottleneck, [" if depth >= 50 else "BasicBlock, [") in text
    assert ("ResNetOfWidth" in text) == (width != 64)
    assert ("group_norm(" in text) == ("gn" in OWN[name].values())
    assert "FastRCNNPredictor(6, 3)" in text


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model__backbone__stride_in_1x1": True}, "backbone.stride_in_1x1 is True, there False"),
        ({"model__rpn__channels": 512}, "rpn.channels is 512, there 0"),
        ({"model__pixel__order": "bgr"}, "pixel.order is 'bgr', there 'rgb'"),
        (
            {"model__pixel__mean": (9.0,) * 5, "model__pixel__std": (1.0,) * 5},
            "pixel.mean has 5 channels, there 3",
        ),
        ({"model__backbone__kind": "convnext"}, "backbone.kind is 'convnext', there 'resnet'"),
        ({"model__fpn__norm": "ln"}, "fpn.norm is 'ln', there batch or group norm"),
        ({"model__roi__aligned": True}, "roi.aligned is True, there False"),
        ({"model__box_head__dense_norm": "bn"}, "box_head.dense_norm is 'bn', there 'none'"),
    ],
)
def test_models_that_torchvision_cannot_be(changes, named):
    config = configured(**changes)
    with pytest.raises(ValueError, match="cannot be such a model") as error:
        builder(config, 2)
    assert named in str(error.value)
    with pytest.raises(ValueError, match="cannot be such a model"):
        export.torchvision_state({}, config.model)


def test_all_that_stands_in_the_way_is_listed():
    config = tiny.get_config()
    set_values(config.model, {"roi.aligned": True, "rpn.nms": "joint", "corners": "inclusive"})
    with pytest.raises(ValueError, match="cannot be such a model") as error:
        builder(config, 3)
    for key in ("roi.aligned", "rpn.nms", "corners"):
        assert f"{key} is " in str(error.value)
    for key in ("rpn.samples_per_image", "backbone.depth"):  # these can be set there
        assert key not in str(error.value)
