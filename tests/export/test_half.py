"""ONNX files whose weights are kept in float16, and how much they must still find."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from maskrcnn_jax.export.comparison import Found
from maskrcnn_jax.export.formats import Options, check, convert
from maskrcnn_jax.export.onnx.half import with_half_weights
from maskrcnn_jax.export.resemblance import Resemblance, resemble
from tests.export.nets import SHAPE, detector, examples

OPTIONS = Options("onnx", SHAPE, weights="float16")


def test_a_detector():
    made = detector("torchvision_v1")
    content, exact = convert(made, OPTIONS), convert(made, Options("onnx", SHAPE))
    found, _ = check(content, made, examples(made), OPTIONS)
    assert isinstance(found, Resemblance)
    assert found.detections >= 20
    kinds = {each.data_type for each in onnx.load_from_string(content).graph.initializer}
    assert TensorProto.FLOAT16 in kinds
    assert len(content) < len(exact)


def _dense(weights: np.ndarray) -> onnx.ModelProto:
    """A dense layer, and a bias that is not worth the rounding."""
    bias = np.full(weights.shape[1], 0.1, np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, weights.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, weights.shape[1]])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(bias, "b")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_only_large_weights_are_rounded():
    weights = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    model = _dense(weights)
    made = with_half_weights(model)
    onnx.checker.check_model(made)
    arrays = {each.name: numpy_helper.to_array(each) for each in made.graph.initializer}
    assert arrays["w_float16"].dtype == np.float16
    assert arrays["b"].dtype == np.float32
    assert [node.op_type for node in made.graph.node] == ["Cast", "Gemm"]
    assert len(model.graph.node) == 1  # as it was
    small = with_half_weights(_dense(weights[:8]))
    assert [node.op_type for node in small.graph.node] == ["Gemm"]


def test_a_weight_beyond_float16():
    weights = np.zeros((64, 64), np.float32)
    weights[3, 4] = 1e5
    with pytest.raises(ValueError, match=r"a weight is 1e\+05"):
        with_half_weights(_dense(weights))


BOXES = np.array([[10 * i, 0, 10 * i + 8, 8] for i in range(10)], np.float32)


def _found(number=10, **changes) -> Found:
    all_of = Found(BOXES, np.linspace(1, 0.1, 10), np.ones(10, int), np.zeros((10, 2, 2)))
    return Found(*(part[:number] for part in all_of._replace(**changes)))


def test_what_is_found_again():
    assert resemble([_found()], [_found()]) == (1, 10, 10, 0)
    assert resemble([_found()], [_found(9)]) == (1, 10, 9, 0)
    assert resemble([_found(9)], [_found()]) == (1, 9, 9, 1)
    assert resemble([_found()], [_found(boxes=BOXES + 0.2)]).again == 10


@pytest.mark.parametrize(
    "changes",
    [{"boxes": BOXES + 1}, {"scores": np.linspace(1, 0.1, 10) - 0.06}, {"classes": np.full(10, 2)}],
)
def test_what_is_something_else(changes):
    with pytest.raises(ValueError, match="0 of 10 detections"):
        resemble([_found()], [_found(**changes)])


def test_nothing_proves_nothing():
    with pytest.raises(ValueError, match="0 of 0"):
        resemble([_found(0)], [_found()])
