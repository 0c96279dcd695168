"""Convolutions, dense layers and their norms; stored statistics are folded into the kernels."""

import math

import numpy as np

from maskrcnn_jax.export.onnx.graph import FeatureMap, Graph, Part, ints


def conv(
    graph: Graph,
    x: FeatureMap,
    layer: Part,
    stride: int = 1,
    relu: bool = False,
) -> FeatureMap:
    """Writes `models.layers.Conv`: the same padding on every side, half the kernel."""
    kernel = layer.array("kernel")
    return _conv(graph, x, kernel, _bias(layer, kernel.shape[-1]), stride, relu)


def conv_norm(
    graph: Graph,
    x: FeatureMap,
    layer: Part,
    norm: str,
    epsilon: float,
    stride: int = 1,
    relu: bool = False,
) -> FeatureMap:
    """Writes `models.layers.ConvNorm`, and a ReLU behind it where wanted.

    Args:
        graph: to write to.
        x: what is convolved.
        layer: its `conv` and `norm_layer`.
        norm: none | frozen_bn | bn | gn.
        epsilon: added to the variance.
        stride: of the convolution.
        relu: whether one follows.
    """
    kernel = layer["conv"].array("kernel")
    bias = _bias(layer["conv"], kernel.shape[-1])
    if norm in ("frozen_bn", "bn"):
        kernel, bias = folded(kernel, bias, layer["norm_layer"], epsilon)
    if norm != "gn":
        return _conv(graph, x, kernel, bias, stride, relu)
    x = _conv(graph, x, kernel, bias, stride, relu=False)
    return _group_norm(graph, x, layer["norm_layer"], epsilon, relu)


def dense(
    graph: Graph,
    x: str,
    layer: Part,
    norm: Part | None = None,
    epsilon: float = 0.0,
    window: int = 0,
    relu: bool = False,
) -> str:
    """Writes `models.layers.Dense`, with the norm and the ReLU behind it where there are any.

    Args:
        graph: to write to.
        x: `[n, in]`.
        layer: its kernel and, perhaps, its bias.
        norm: its norm, of kind frozen_bn or bn; None: none.
        epsilon: added to the variance.
        window: side of the feature maps that x was flattened from; 0: it was none. They lie with
            channels first here and last in the kernel.
        relu: whether one follows.
    """
    kernel = layer.array("kernel")
    bias = _bias(layer, kernel.shape[-1])
    if norm is not None:
        kernel, bias = folded(kernel, bias, norm, epsilon)
    if window:
        shape = kernel.shape
        kernel = kernel.reshape(window, window, -1, shape[1]).transpose(2, 0, 1, 3).reshape(shape)
    y = graph("Gemm", x, kernel, bias)
    return graph("Relu", y) if relu else y


def folded(
    kernel: np.ndarray, bias: np.ndarray, norm: Part, epsilon: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the kernel `[..., out]` and bias of a layer that does its norm's work, too."""
    scale = norm.array("scale") / np.sqrt(norm.array("var") + epsilon)
    return kernel * scale, (bias - norm.array("mean")) * scale + norm.array("bias")


def upsample(graph: Graph, x: FeatureMap, layer: Part) -> FeatureMap:
    """Writes `models.layers.Upsample`, as the transposed convolution that it equals."""
    kernel = layer.array("kernel").transpose(0, 3, 1, 2)  # to [in, out, 2, 2]
    name = graph("ConvTranspose", x.name, kernel, layer.array("bias"), strides=[2, 2])
    return FeatureMap(name, kernel.shape[1], 2 * x.height, 2 * x.width)


def _bias(layer: Part, features: int) -> np.ndarray:
    return layer.array("bias") if "bias" in layer else np.zeros(features)


def _conv(graph, x, kernel, bias, stride, relu) -> FeatureMap:
    size = kernel.shape[0]
    name = graph(
        "Conv",
        x.name,
        kernel.transpose(3, 2, 0, 1),  # to [out, in, k, k]
        bias,
        strides=[stride] * 2,
        pads=[size // 2] * 4,
        kernel_shape=[size] * 2,
        group=x.channels // kernel.shape[2],
    )
    if relu:
        name = graph("Relu", name)
    return FeatureMap(name, len(bias), -(-x.height // stride), -(-x.width // stride))


def _group_norm(graph, x: FeatureMap, norm: Part, epsilon, relu) -> FeatureMap:
    """Group norm is instance norm of groups laid out as channels; opset 17 has no other."""
    groups = math.gcd(32, x.channels)
    # Sizes are given, not left to -1: that cannot be inferred where there are no RoIs.
    length = x.channels // groups * x.height * x.width
    y = graph("Reshape", x.name, ints(0, groups, length))
    ones, zeros = np.ones(groups, np.float32), np.zeros(groups, np.float32)
    y = graph("InstanceNormalization", y, ones, zeros, epsilon=epsilon)
    y = graph("Reshape", y, ints(0, x.channels, x.height, x.width))
    y = graph("Mul", y, norm.array("scale")[:, None, None])
    y = graph("Add", y, norm.array("bias")[:, None, None])
    return x._replace(name=graph("Relu", y) if relu else y)
