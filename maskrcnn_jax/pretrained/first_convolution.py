"""The first convolution of RGB weights made fit for images of other channels.

timm does the same with its ImageNet weights (`adapt_input_conv` in timm/models/_manipulate.py).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

STEM = ("params", "backbone", "stem", "conv", "kernel")
# Standard deviation of photographs' pixels by channel, for weights that take them unscaled.
_DEVIATION = np.array([58.395, 57.12, 57.375], np.float32)


def inflated(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Returns a kernel for another number of input channels.

    For one channel it is the sum over red, green and blue: what a grey picture gives then is what
    it gave as three equal channels. For others the three are repeated in turn and scaled by 3 / C,
    so that the response to channels alike keeps its size.

    Args:
        kernel: [k, k, 3, F], for red, green and blue.
        channels: C.

    Returns:
        [k, k, C, F] of the same dtype.
    """
    if channels == 3:
        return kernel
    if channels == 1:
        return kernel.sum(2, keepdims=True)
    return kernel[:, :, np.arange(channels) % 3] * kernel.dtype.type(3 / channels)


def with_channels(
    variables: Mapping[str, Any], channels: int, std: tuple[float, ...], reverse: bool
) -> dict[str, Any]:
    """Returns weights of three colours with a first convolution for images of other channels.

    Args:
        variables: {"params", "batch_stats"} of numpy arrays, with a backbone; not changed.
        channels: C of the images, which are normalised to a deviation of about 1.
        std: that the weights' images were divided by. Where that is 1, they were given values of
            the full range, and their kernel is scaled up to take the others.
        reverse: whether the weights' colours are in the other order.
    """
    kernel = _at(variables, STEM)
    if reverse:
        kernel = kernel[:, :, ::-1]
    if tuple(std) == (1, 1, 1):
        kernel = kernel * _DEVIATION.astype(kernel.dtype)[:, None]
    return _put(variables, STEM, np.ascontiguousarray(inflated(kernel, channels)))


def _at(tree: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    for name in path:
        tree = tree[name]
    return tree


def _put(tree: Mapping[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """Returns the tree with one leaf replaced."""
    first, *rest = path
    return {**tree, first: _put(tree[first], tuple(rest), value) if rest else value}
