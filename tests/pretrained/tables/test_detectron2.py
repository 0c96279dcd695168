"""Names, layouts and refusals of Detectron2's weights; the parity test compares values."""

from dataclasses import asdict

import jax
import numpy as np
import pytest

from maskrcnn_jax.config import get_config
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.images.paste import paste_mask
from maskrcnn_jax.models.build import abstract_variables, make_model
from maskrcnn_jax.models.layers import FrozenNorm
from maskrcnn_jax.ops.anchors import pyramid_anchors
from maskrcnn_jax.ops.boxes import is_at_least
from maskrcnn_jax.pretrained import sources
from maskrcnn_jax.pretrained.tables import detectron2, torchvision
from maskrcnn_jax.pretrained.tables.mapping import export_arrays, flat, import_arrays

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


def resnet_shapes(depth, width=64):
    """Names and shapes of Detectron2's ResNet (modeling/backbone/resnet.py), written by hand."""
    shapes = {}

    def conv_norm(name, out, channels, size):
        shapes[f"{name}.weight"] = (out, channels, size, size)
        for array in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.norm.{array}"] = (out,)

    conv_norm("stem.conv1", width, 3, 7)
    channels = width
    for stage, blocks in enumerate(BLOCKS[depth]):
        inner = width * 2**stage
        for block in range(blocks):
            name = f"res{stage + 2}.{block}"
            if block == 0:
                conv_norm(f"{name}.shortcut", 4 * inner, channels, 1)
            conv_norm(f"{name}.conv1", inner, channels, 1)
            conv_norm(f"{name}.conv2", inner, inner, 3)
            conv_norm(f"{name}.conv3", 4 * inner, inner, 1)
            channels = 4 * inner
    return shapes


def zoo_shapes(depth, classes=80, width=64, channels=256, dense=1024):
    """The same for mask_rcnn_R_50_FPN and mask_rcnn_R_101_FPN."""
    resnet = resnet_shapes(depth, width)
    shapes = {f"backbone.bottom_up.{name}": shape for name, shape in resnet.items()}

    def layer(name, *shape, out=None):
        shapes[f"{name}.weight"] = shape
        shapes[f"{name}.bias"] = (out or shape[0],)

    for stage in (2, 3, 4, 5):
        layer(f"backbone.fpn_lateral{stage}", channels, width * 2**stage, 1, 1)
        layer(f"backbone.fpn_output{stage}", channels, channels, 3, 3)
    head = "proposal_generator.rpn_head"
    layer(f"{head}.conv", channels, channels, 3, 3)
    layer(f"{head}.objectness_logits", 3, channels, 1, 1)
    layer(f"{head}.anchor_deltas", 12, channels, 1, 1)
    layer("roi_heads.box_head.fc1", dense, channels * 49)
    layer("roi_heads.box_head.fc2", dense, dense)
    layer("roi_heads.box_predictor.cls_score", classes + 1, dense)
    layer("roi_heads.box_predictor.bbox_pred", 4 * classes, dense)
    for i in (1, 2, 3, 4):
        layer(f"roi_heads.mask_head.mask_fcn{i}", channels, channels, 3, 3)
    # A transposed convolution has its inputs first.
    layer("roi_heads.mask_head.deconv", channels, channels, 2, 2, out=channels)
    layer("roi_heads.mask_head.predictor", classes, channels, 1, 1)
    return shapes


BRANCHES = {
    "shortcut": "branch1",
    "conv1": "branch2a",
    "conv2": "branch2b",
    "conv3": "branch2c",
}


def caffe2_name(name, norm):
    """What Caffe2's Detectron calls an array of Detectron2's ResNet."""
    conv, _, array = name.rpartition(".")
    is_norm, conv = conv.endswith(".norm"), conv.removesuffix(".norm")
    suffix = f"_bn_{norm[array]}" if is_norm else "_w"
    if conv == "stem.conv1":
        return ("res_conv1" if is_norm else "conv1") + suffix
    stage, block, conv = conv.split(".")
    return f"{stage}_{block}_{BRANCHES[conv]}{suffix}"


MSRA = {  # as Detectron2 publishes it
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "running_mean",
    "running_var": "running_var",
}
AFFINE = {"weight": "s", "bias": "b"}  # as Detectron did


def zeros(shapes):
    return {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}


def random(shapes):
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


NARROW = dict(width=4, channels=8, dense=6)


def config_of(source, depth, narrow=False):
    config = get_config().model
    set_values(config, {**source.model, **source.settings, "backbone.depth": depth})
    if narrow:
        config.backbone.width = NARROW["width"]
        config.fpn.channels = config.mask_head.channels = NARROW["channels"]
        config.box_head.dense_channels = NARROW["dense"]
    return config


def imported(state, narrow=True, num_classes=80):
    """The kind of weights, what came out of the state dict, and what the model has."""
    source = sources.recognised(state, "the file")
    if source.num_classes:
        num_classes = source.num_classes(state)
    config = config_of(source, source.layers(state)["backbone.depth"], narrow)
    expected = abstract_variables(make_model(config, num_classes))
    state, table = source.todays_names(state), source.table(config)
    result = import_arrays(state, table, expected, what="the weights", ignored=source.ignored)
    return source, result, flat(expected)


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)  # also the structure


@pytest.mark.parametrize("depth", [50, 101])
def test_every_array_of_the_zoo_has_a_place(depth):
    shapes = zoo_shapes(depth)
    assert len(shapes) == 42 + 5 * {50: 53, 101: 104}[depth]
    source, result, expected = imported(zeros(shapes), narrow=False)
    assert (source.name, source.layers(shapes)["backbone.depth"]) == ("detectron2", depth)
    assert result.left == []
    assert {name for names, *_ in result.mapped for name in names} == set(shapes)
    ours = flat(result.variables)
    assert {path: x.shape for path, x in ours.items()} == {p: x.shape for p, x in expected.items()}


def test_what_older_files_hold_besides_is_left():
    state = zeros(zoo_shapes(50, 2, **NARROW))
    besides = {
        "pixel_mean": np.reshape(detectron2.PIXEL_MEAN, (3, 1, 1)),
        "pixel_std": np.ones((3, 1, 1)),
        "proposal_generator.anchor_generator.cell_anchors.4": np.zeros((3, 4)),
        "backbone.bottom_up.stem.conv1.norm.num_batches_tracked": np.zeros(()),
    }
    _, result, _ = imported(state | besides)
    assert result.left == list(besides)


def test_import_and_export_are_inverse():
    state = random(zoo_shapes(50, 3, **NARROW))
    source, result, _ = imported(state)
    exported = export_arrays(result.variables, source.table(config_of(source, 50, narrow=True)))
    assert_equal(exported, state)
    assert_equal(imported(exported)[1].variables, result.variables)


def test_background_by_hand():
    state = random(zoo_shapes(50, 2, **NARROW))
    predictor, mask = "roi_heads.box_predictor", "roi_heads.mask_head.predictor"
    state[f"{predictor}.cls_score.bias"] = np.array([1.0, 2.0, 9.0], np.float32)  # 9: background
    state[f"{predictor}.bbox_pred.bias"] = np.arange(1, 9, dtype=np.float32)
    state[f"{mask}.bias"] = np.array([3.0, 4.0], np.float32)
    params = imported(state)[1].variables["params"]
    box_head, mask_head = params["box_head"], params["mask_head"]
    np.testing.assert_array_equal(box_head["class_logits"]["bias"], [9, 1, 2])
    np.testing.assert_array_equal(box_head["box_deltas"]["bias"], [0, 0, 0, 0, *range(1, 9)])
    np.testing.assert_array_equal(mask_head["mask_logits"]["bias"], [0, 3, 4])

    kernel = box_head["class_logits"]["kernel"]  # [in, 3]
    np.testing.assert_array_equal(kernel[:, 0], state[f"{predictor}.cls_score.weight"][2])
    np.testing.assert_array_equal(kernel[:, 2], state[f"{predictor}.cls_score.weight"][1])
    kernel = box_head["box_deltas"]["kernel"]  # [in, 4 * 3]
    assert not kernel[:, :4].any()
    np.testing.assert_array_equal(kernel[:, 4:].T, state[f"{predictor}.bbox_pred.weight"])
    kernel = mask_head["mask_logits"]["kernel"]  # [in, 3]
    assert not kernel[:, 0].any()
    np.testing.assert_array_equal(kernel[:, 1:].T[:, :, None, None], state[f"{mask}.weight"])


@pytest.mark.parametrize(("depth", "norm"), [(50, MSRA), (101, MSRA), (50, AFFINE)])
def test_every_array_of_msra_has_a_place(depth, norm):
    shapes = {
        caffe2_name(name, norm): shape
        for name, shape in resnet_shapes(depth).items()
        if ".norm." not in name or name.rpartition(".")[2] in norm
    }
    assert {"conv1_w", "res4_5_branch2b_w", "res2_0_branch1_w"} <= set(shapes)
    assert {f"res_conv1_bn_{norm['bias']}", f"res5_2_branch2c_bn_{norm['weight']}"} <= set(shapes)
    besides = {"conv1_b": (64,), "fc1000_w": (1000, 2048), "fc1000_b": (1000,)}
    source, result, expected = imported(zeros(shapes | besides), narrow=False)
    assert (source.name, source.part, source.layers(shapes)["backbone.depth"]) == (
        "msra_resnet",
        "backbone",
        depth,
    )
    assert result.left == ["stem.conv1.bias", "fc1000_w", "fc1000_b"]
    backbone = {path: x.shape for path, x in expected.items() if path[1] == "backbone"}
    assert {path: x.shape for path, x in flat(result.variables).items()} == backbone
    assert config_of(source, depth).backbone.stride_in_1x1


def test_both_forms_of_msra_give_the_same_arrays_as_detectron2s_names():
    state = random(resnet_shapes(50, NARROW["width"]))
    ours = imported(state)[1].variables
    renamed = {caffe2_name(name, MSRA): array for name, array in state.items()}
    assert_equal(imported(renamed)[1].variables, ours)
    affine = {
        caffe2_name(name, AFFINE): array for name, array in state.items() if "running" not in name
    }
    assert_equal(imported(affine)[1].variables["params"], ours["params"])


def test_norms_of_detectron_are_only_a_scale_and_a_bias():
    shapes = resnet_shapes(50, NARROW["width"])
    shapes = {name: shape for name, shape in shapes.items() if "running" not in name}
    state = {caffe2_name(name, AFFINE): array for name, array in random(shapes).items()}
    source, result, _ = imported(state)
    for path, array in flat(result.variables["batch_stats"]).items():
        if path[-1] == "mean":
            assert not array.any(), path
        else:
            eps = np.float32(config_of(source, 50).backbone.norm_eps)
            np.testing.assert_array_equal(array + eps, 1, err_msg=path)

    stem = {
        key: result.variables[key]["backbone"]["stem"]["norm_layer"] for key in result.variables
    }
    x = np.random.default_rng(1).standard_normal((2, 3, NARROW["width"]), np.float32)
    y = FrozenNorm(NARROW["width"]).apply(stem, x)
    reference = x * state["res_conv1_bn_s"] + state["res_conv1_bn_b"]
    np.testing.assert_allclose(y, reference, rtol=1e-6, atol=1e-7)


def test_torchvisions_resnet_converted_by_detectron2():
    def converted(name):  # the rules of tools/convert-torchvision-to-d2.py
        name = name if "layer" in name else f"stem.{name}"
        for i in (1, 2, 3, 4):
            name = name.replace(f"layer{i}", f"res{i + 1}").replace(f"bn{i}", f"conv{i}.norm")
        return name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")

    state = random(resnet_shapes(50, NARROW["width"]))
    source, result, _ = imported(state)
    config = config_of(source, 50, narrow=True)
    theirs = export_arrays(result.variables, torchvision.backbone_table(config))
    theirs |= {"fc.weight": np.zeros((1000, 128)), "fc.bias": np.zeros(1000)}
    given = {converted(name): array for name, array in theirs.items()}
    result = imported(given)[1]
    assert result.left == ["stem.fc.weight", "stem.fc.bias"]
    assert_equal(result.variables, imported(theirs)[1].variables)
    assert_equal({name: given[name] for name in state}, state)
    other = sources.recognised(theirs, "resnet50.pth")
    assert (source.name, other.name) == ("detectron2_resnet", "torchvision_resnet")
    assert (source.model, source.settings) == (other.model, other.settings)


def test_norms_and_convolutions_that_the_config_asks_for():
    config = get_config().model
    config.fpn.norm = config.box_head.norm = config.mask_head.norm = "bn"
    config.box_head.convs, config.rpn.convs = 4, 2
    table = detectron2.table(config)
    names = [name for entry in table for name in entry.names]
    assert len(set(names)) == len(names)
    assert {
        "backbone.fpn_lateral5.norm.running_var",
        "proposal_generator.rpn_head.conv.conv1.bias",
        "roi_heads.box_head.conv4.norm.weight",
        "roi_heads.box_head.fc1.weight",
        "roi_heads.mask_head.mask_fcn4.norm.bias",
    } <= set(names)
    assert not {
        "backbone.fpn_lateral5.bias",
        "proposal_generator.rpn_head.conv.weight",
        "roi_heads.box_head.fc2.weight",
    } & set(names)
    expected = flat(abstract_variables(make_model(config, 2)))
    assert {entry.path for entry in table} == set(expected)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("roi_heads.res5.0.conv1.weight", "a C4 model"),
        ("backbone.res5.0.conv1.weight", "a DC5 model"),
        ("sem_seg_head.predictor.weight", "a Panoptic FPN"),
        ("backbone.bottom_up.res5.0.conv2_offset.weight", "deformable"),
    ],
)
def test_another_architecture_is_refused_by_name(name, words):
    state = zeros(zoo_shapes(50, 2, **NARROW) | {name: (4, 4)})
    with pytest.raises(ValueError, match=f"model.pkl is .*{words}.*{name}.*ResNet and FPN"):
        sources.recognised(state, "model.pkl")


def test_other_backbones_and_detectors_of_detectron_are_refused():
    state = {"conv1_w": np.zeros((4, 3, 7, 7)), "res2_0_branch2a_w": np.zeros((4, 4, 1, 1))}
    with pytest.raises(ValueError, match="group norm"):
        sources.recognised(state | {"conv1_gn_s": np.zeros(4)}, "R-50-GN.pkl")
    with pytest.raises(ValueError, match="detector of Caffe2's Detectron"):
        sources.recognised(state | {"cls_score_w": np.zeros((81, 4))}, "model_final.pkl")


def test_a_detector_without_masks_lists_what_it_lacks():
    state = zeros(zoo_shapes(50, 2, **NARROW))
    state = {name: array for name, array in state.items() if "mask" not in name}
    with pytest.raises(
        ValueError, match=r"missing \(12\): roi_heads\.mask_head\.mask_fcn1\.weight"
    ):
        imported(state)


def test_class_agnostic_boxes_are_of_a_wrong_shape():
    state = zeros(zoo_shapes(50, 3, **NARROW))
    state["roi_heads.box_predictor.bbox_pred.weight"] = np.zeros((4, NARROW["dense"]))
    state["roi_heads.box_predictor.bbox_pred.bias"] = np.zeros(4)
    with pytest.raises(ValueError, match=r"wrong shape \(2\)") as error:
        imported(state)
    assert "bbox_pred.weight: (4, 6) given, (12, 6) expected" in str(error.value)
    assert "bbox_pred.bias: (4,) given, (12,) expected" in str(error.value)


def zoo_config():
    return config_of(next(s for s in sources.SOURCES if s.name == "detectron2"), 50)


def test_anchors_keep_their_stride_where_it_does_not_divide_the_image():
    config = zoo_config()
    shapes = [(200, 336), (100, 168), (50, 84), (25, 42), (13, 21)]
    p6 = pyramid_anchors(shapes, (800, 1344), **asdict(config.anchors))[-1].reshape(13, 21, 3, 4)
    centre = (p6[12, 20, 1, :2] + p6[12, 20, 1, 2:]) / 2
    np.testing.assert_array_equal(centre, [64 * 20, 64 * 12])  # 61 * 12 as torchvision
    np.testing.assert_allclose(p6[0, 0, 0, 2], 512 / np.sqrt(0.5) / 2, rtol=1e-6)  # not rounded


def test_only_empty_boxes_are_dropped():
    config = zoo_config()
    tiny = np.spacing(np.float32(1.0))  # the least by which coordinates near 1 differ
    boxes = np.array([[1, 1, 1 + tiny, 1 + tiny], [1, 1, 1, 5], [2, 1, 1, 5]], np.float32)
    for min_size in (config.rpn.min_size, config.detections.min_size):
        np.testing.assert_array_equal(is_at_least(boxes, min_size), [True, False, False])


def grid_sampled(mask, box, height, width):
    """The mask in the image as `_do_paste_mask` of Detectron2's layers/mask_ops.py samples it."""

    def weights(low, high, length):
        grid = (np.arange(length) + 0.5 - low) / (high - low) * 2 - 1
        position = ((grid + 1) * len(mask) - 1) / 2  # align_corners=False
        first = np.floor(position).astype(int)
        weights = np.zeros((length, len(mask)))
        for cell, weight in ((first, first + 1 - position), (first + 1, position - first)):
            inside = (cell >= 0) & (cell < len(mask))  # zeros around the mask
            weights[np.flatnonzero(inside), cell[inside]] += weight[inside]
        return weights

    return weights(box[1], box[3], height) @ mask @ weights(box[0], box[2], width).T


@pytest.mark.parametrize(
    "box", [(3.2, 4.9, 30.1, 22.3), (-7, 10.5, 50.4, 90), (5.6, 5.7, 6.5, 7.9)]
)
def test_masks_are_pasted_where_detectron2_pastes_them(box):
    assert zoo_config().detections.mask_paste == "exact"
    mask = np.random.default_rng(0).random((28, 28), np.float32)
    reference = grid_sampled(mask, box, 48, 40)
    ours = paste_mask(mask, np.array(box, np.float32), 48, 40)
    assert reference.max() > 0.3
    np.testing.assert_allclose(ours, reference, atol=1e-4)


def test_pixels_of_another_scale_are_refused():
    mean = np.array([103.53, 116.28, 123.675], np.float32).reshape(3, 1, 1)
    assert detectron2.checked_pixels({"pixel_mean": mean}).keys() == {"pixel_mean"}
    with pytest.raises(ValueError, match=r"pixel_mean \[123\.6.*cannot be told"):
        detectron2.checked_pixels({"pixel_mean": mean[::-1]})
    with pytest.raises(ValueError, match="pixel_std"):
        detectron2.checked_pixels({"pixel_std": np.array([58.0, 57.0, 57.0])})


def test_class_agnostic_predictors_have_no_background_to_leave_out():
    """CLS_AGNOSTIC_BBOX_REG and CLS_AGNOSTIC_MASK."""
    shapes = zoo_shapes(50, classes=3, width=4, channels=8, dense=6)
    for name, rows in (("box_predictor.bbox_pred", 4), ("mask_head.predictor", 1)):
        for array in ("weight", "bias"):
            key = f"roi_heads.{name}.{array}"
            shapes[key] = (rows, *shapes[key][1:])
    rng = np.random.default_rng(0)
    state = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    config = get_config().model
    widths = {"backbone.width": 4, "fpn.channels": 8, "box_head.dense_channels": 6}
    widths |= {"mask_head.channels": 8, "backbone.norm": "frozen_bn"}
    agnostic = {f"{head}.class_agnostic": True for head in ("box_head", "mask_head")}
    set_values(config, widths | agnostic)
    table = detectron2.table(config)
    expected = abstract_variables(make_model(config, 3))
    variables = import_arrays(state, table, expected, what="they").variables
    heads = variables["params"]
    bias = state["roi_heads.box_predictor.bbox_pred.bias"]
    np.testing.assert_array_equal(heads["box_head"]["box_deltas"]["bias"], bias)
    assert heads["mask_head"]["mask_logits"]["kernel"].shape == (8, 1)
    exported = export_arrays(variables, table)
    assert exported.keys() == state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(exported[name], array, err_msg=name)
