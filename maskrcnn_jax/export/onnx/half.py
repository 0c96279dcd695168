"""Weights kept in float16, in half the space; everything is still computed in float32."""

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

# Anchors, thresholds and biases stay as they are: they are few, and boxes follow from them.
_LEAST = 4096  # numbers of a constant that is worth it
_LARGEST = float(np.finfo(np.float16).max)
_ENDING = "_float16"


def with_half_weights(model: ModelProto) -> ModelProto:
    """Returns a model whose large weights are float16 and widened when it is loaded.

    Args:
        model: of float32.

    Raises:
        ValueError: a weight is too large for float16.
    """
    made = ModelProto()
    made.CopyFrom(model)
    graph, widening = made.graph, []
    users = _weights(graph)
    for constant in graph.initializer:
        if constant.name not in users:
            continue
        array = numpy_helper.to_array(constant)
        if np.abs(array).max() > _LARGEST:
            raise ValueError(
                f"--weights=float16: a weight is {np.abs(array).max():.3g}, more than the "
                f"{_LARGEST:.0f} that float16 holds; leave --weights out"
            )
        name = constant.name
        constant.CopyFrom(numpy_helper.from_array(array.astype(np.float16), name + _ENDING))
        widening.append(helper.make_node("Cast", [name + _ENDING], [name], to=TensorProto.FLOAT))
    nodes = [*widening, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return made


def _weights(graph) -> set[str]:
    """Returns the names of the large constants that layers multiply with."""
    layers = ("Conv", "ConvTranspose", "Gemm")
    names = {node.input[1] for node in graph.node if node.op_type in layers}
    return {
        constant.name
        for constant in graph.initializer
        if constant.name in names
        and constant.data_type == TensorProto.FLOAT
        and np.prod(constant.dims) >= _LEAST
    }
