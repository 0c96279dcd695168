"""Keras' ResNet weights as our variables, and back, under the names of both generations.

The older names (`res2a_branch2a`, `bn2a_branch2a`) are of F. Chollet's deep-learning-models, and of
what was built on it; the newer ones (`conv2_block1_1_conv`, `conv2_block1_1_bn`) are of
keras.applications since 2019. Kernels lie as ours do.

Every convolution has a bias there, although a batch norm follows it: such a bias moves the norm's
mean and means nothing else. Ours have none, so it is taken off the mean.
"""

from collections.abc import Callable, Iterator

import numpy as np

from maskrcnn_jax.models.backbones.interface import FEATURES
from maskrcnn_jax.models.backbones.resnet import BLOCKS
from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.pretrained.tables.mapping import SAME, Entry, Layout

# (mean of a norm, bias of the convolution before it) <-> mean of a norm without such a bias
MEAN = Layout(lambda mean, bias: mean - bias, lambda mean: (mean, np.zeros(mean.shape, mean.dtype)))

Path = tuple[str, ...]


def table(config: ModelConfig) -> list[Entry]:
    """Returns every array of the backbone of `config.model`, ours beside keras.applications'."""

    def names(stage, block, branch):
        layer = f"conv{stage}_block{block + 1}_{branch}"
        return f"{layer}_conv", f"{layer}_bn"

    return list(_backbone(config.backbone.depth, ("conv1_conv", "conv1_bn"), names))


def older_table(config: ModelConfig) -> list[Entry]:
    """Returns every array of the backbone of `config.model`, ours beside the older names."""

    def names(stage, block, branch):
        layer = f"{stage}{chr(ord('a') + block)}_branch{('1', '2a', '2b', '2c')[branch]}"
        return f"res{layer}", f"bn{layer}"

    return list(_backbone(config.backbone.depth, ("conv1", "bn_conv1"), names))


def conv_norm(
    conv: Path, norm: Path, their_conv: str, their_norm: str, layout: Layout = SAME
) -> Iterator[Entry]:
    """Yields the arrays of a convolution and of the batch norm that follows it.

    Args:
        conv: path of our convolution.
        norm: path of our normalisation.
        their_conv: name of theirs.
        their_norm: name of theirs.
        layout: of the kernel.
    """
    yield Entry(("params", *conv, "kernel"), (f"{their_conv}/kernel",), layout)
    yield Entry(("params", *norm, "scale"), (f"{their_norm}/gamma",), SAME)
    yield Entry(("params", *norm, "bias"), (f"{their_norm}/beta",), SAME)
    mean = (f"{their_norm}/moving_mean", f"{their_conv}/bias")
    yield Entry(("batch_stats", *norm, "mean"), mean, MEAN)
    yield Entry(("batch_stats", *norm, "var"), (f"{their_norm}/moving_variance",), SAME)


def _backbone(
    depth: int, stem: tuple[str, str], names: Callable[[int, int, int], tuple[str, str]]
) -> Iterator[Entry]:
    """`names` gives convolution and norm of a stage (2 to 5), block and branch (0: shortcut)."""

    def layer(path, names):
        yield from conv_norm((*path, "conv"), (*path, "norm_layer"), *names)

    yield from layer(("backbone", "stem"), stem)
    for i, stage in enumerate(FEATURES):
        for j in range(BLOCKS[depth][i]):
            block = ("backbone", f"stage_{stage}_{j}")
            for k in (1, 2, 3):
                yield from layer((*block, f"conv{k}"), names(i + 2, j, k))
            if j == 0:
                yield from layer((*block, "shortcut"), names(i + 2, j, 0))
