"""The ONNX file finds what the detector finds, in every dialect; and what it cannot say."""

import json

import numpy as np
import onnx
import pytest

from maskrcnn_jax.export.comparison import compare
from maskrcnn_jax.export.formats import Options, check, convert
from maskrcnn_jax.export.onnx import runtime
from maskrcnn_jax.export.onnx.detector import check_writable
from maskrcnn_jax.models.config import ModelConfig
from tests.export.nets import CLASS_NAMES, DIALECTS, SHAPE, detector, examples, with_setting


def _found(run, given):
    return [run(image[None], size[None])[0] for image, size in given]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_finds_the_same(dialect):
    made = detector(dialect)
    content = convert(made, Options("onnx", SHAPE))
    agreement, _ = check(content, made, examples(made, 3), Options("onnx", SHAPE))
    assert agreement.detections >= 20
    assert agreement.box < 1e-4
    assert agreement.score < 1e-5
    assert agreement.mask < 1e-4


def test_boxes_alone_and_classes_by_sigmoids():
    made = with_setting(detector("torchvision_v1"), "masks", False)
    made = with_setting(made, "box_head.class_loss", "sigmoid")
    content = convert(made, Options("onnx", SHAPE))
    agreement, _ = check(content, made, examples(made, 1), Options("onnx", SHAPE))
    assert agreement.detections >= 5
    outputs = [output.name for output in onnx.load_from_string(content).graph.output]
    assert outputs == ["boxes", "scores", "classes"]


def test_detections_are_varied():
    """Or the comparisons above would not tell much."""
    made = detector("detectron2")
    found = _found(made.run(), examples(made, 3))
    assert set(np.concatenate([one.classes for one in found])) == {1, 2, 3}
    sides = np.concatenate([one.boxes[:, 2:] - one.boxes[:, :2] for one in found])
    assert sides.max() > 4 * sides.min()
    assert np.concatenate([one.masks.ravel() for one in found]).std() > 0.2


def test_operators_are_standard_and_metadata_complete():
    made = detector("detectron2")
    proto = onnx.load_from_string(convert(made, Options("onnx", SHAPE, license="CC-BY-4.0")))
    assert {node.domain for node in proto.graph.node} == {""}
    assert [(o.domain, o.version) for o in proto.opset_import] == [("", 17)]
    told = {entry.key: entry.value for entry in proto.metadata_props}
    assert json.loads(told["class_names"]) == list(CLASS_NAMES)
    assert json.loads(told["bucket"]) == list(SHAPE)
    assert told["license"] == "CC-BY-4.0"
    assert told["pixel_order"] == "bgr"
    assert len(json.loads(told["pixel_mean"])) == len(json.loads(told["pixel_std"])) == 3
    assert float(told["score_threshold"]) == 0.05
    kinds = [value.type.tensor_type for value in proto.graph.input]
    assert kinds[0].elem_type == onnx.TensorProto.UINT8
    assert [d.dim_value for d in kinds[0].shape.dim] == [1, *SHAPE, 3]


def test_layers_of_several_levels_are_kept_once():
    made = detector("torchvision_v1")
    proto = onnx.load_from_string(convert(made, Options("onnx", SHAPE)))
    kernels = [tuple(c.dims) for c in proto.graph.initializer if list(c.dims) == [12, 16, 3, 3]]
    assert len(kernels) == 1


@pytest.mark.parametrize("rule", ["torchvision", "exact"])
def test_masks_are_pasted(rule):
    made = with_setting(detector("torchvision_v1"), "detections.mask_paste", rule)
    options = Options("onnx", SHAPE, pasted=True)
    content = convert(made, options)
    given = examples(made, 2)
    agreement, _ = check(content, made, given, options)
    assert agreement.mask < 1e-4
    masks = runtime.load(content)(given[0][0][None], given[0][1][None])[0].masks
    assert masks.shape[1:] == SHAPE
    assert set(np.unique(masks)) == {0, 1}


@pytest.mark.parametrize("dialect", ["torchvision_v1", "mixed"])
def test_an_image_without_detections(dialect):
    made = with_setting(detector(dialect), "detections.score_threshold", 1.0)
    run = runtime.load(convert(made, Options("onnx", SHAPE)))
    found = _found(run, examples(made, 1))[0]
    assert found.boxes.shape == (0, 4)
    assert found.scores.shape == found.classes.shape == (0,)
    assert found.masks.shape == (0, 28, 28)


def test_an_image_without_proposals():
    made = with_setting(detector("mixed"), "rpn.min_size", 1e6)
    run = runtime.load(convert(made, Options("onnx", SHAPE)))
    assert len(_found(run, examples(made, 1))[0].scores) == 0


def test_bfloat16_is_refused_by_name():
    made = with_setting(detector("torchvision_v1"), "dtype", "bfloat16")
    with pytest.raises(ValueError, match=r"config\.model\.dtype.*float32"):
        convert(made, Options("onnx", SHAPE))
    content = convert(made.in_float32(), Options("onnx", SHAPE))
    given = examples(made, 1)
    compare(_found(detector("torchvision_v1").run(), given), _found(runtime.load(content), given))


def test_a_cascade_is_refused_by_name():
    config = ModelConfig()
    config.cascade.ious = (0.6, 0.7)
    with pytest.raises(ValueError, match=r"config\.model\.cascade .*--format=stablehlo"):
        check_writable(config)


def test_a_point_rend_is_refused_by_name():
    config = ModelConfig()
    config.point_rend.enabled = True
    with pytest.raises(ValueError, match=r"config\.model\.point_rend .*--format=stablehlo"):
        check_writable(config)


def test_a_head_that_scores_masks_is_refused_by_name():
    config = ModelConfig()
    config.mask_scoring.enabled = True
    with pytest.raises(ValueError, match=r"config\.model\.mask_scoring .*--format=stablehlo"):
        check_writable(config)


def test_a_convnext_is_refused_by_name():
    config = ModelConfig()
    config.backbone.kind = "convnext"
    with pytest.raises(ValueError, match=r"backbone\.kind is 'convnext'.*--format=stablehlo"):
        check_writable(config)


def test_layer_norm_is_refused_by_name():
    config = ModelConfig()
    config.mask_head.norm = "ln"
    with pytest.raises(ValueError, match=r"mask_head\.norm is 'ln'.*--format=stablehlo"):
        check_writable(config)


def test_keypoints_are_refused_by_name():
    config = ModelConfig()
    config.keypoints.names = ("nose",)
    with pytest.raises(ValueError, match=r"config\.model\.keypoints .*--format=stablehlo"):
        check_writable(config)


def test_a_file_that_is_none_is_refused():
    with pytest.raises(ValueError, match="onnxruntime does not load"):
        runtime.load(b"not a model")
