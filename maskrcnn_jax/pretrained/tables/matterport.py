"""matterport/Mask_RCNN's weights (TensorFlow 1 and Keras 2) as our variables, and back.

The backbone is that of Keras with the older names. The heads are made of convolutions throughout,
some of which are dense layers of ours; boxes are (y, x, height, width) where ours are (x, y, width,
height); and the RPN has two logits an anchor, of which only the difference matters.
"""

from collections.abc import Iterator

import numpy as np

from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.pretrained.tables import keras_resnet
from maskrcnn_jax.pretrained.tables.keras_resnet import conv_norm
from maskrcnn_jax.pretrained.tables.mapping import SAME, Entry, Layout

# 1x1 convolution (1, 1, in, out) <-> (in, out)
POINT = Layout(lambda x: x[0, 0], lambda x: x[None, None])
# transposed convolution (row, column, out, in) <-> (in, row, column, out)
UPSAMPLE = Layout(lambda x: x.transpose(3, 0, 1, 2), lambda x: x.transpose(1, 2, 3, 0))


def _swapped(x: np.ndarray) -> np.ndarray:
    return x.reshape(*x.shape[:-1], -1, 4)[..., [1, 0, 3, 2]].reshape(x.shape)


# (..., dy, dx, dh, dw, dy, ...) <-> (..., dx, dy, dw, dh, dx, ...)
DELTAS = Layout(_swapped, _swapped)
# The softmax over (background, foreground) is the sigmoid of the difference of the two. The way
# back makes the background's logit zero.
OBJECTNESS = Layout(
    lambda x: x[..., 1::2] - x[..., ::2],
    lambda x: np.stack([np.zeros(x.shape, x.dtype), x], axis=-1).reshape(*x.shape[:-1], -1),
)


def whole_window(size: int) -> Layout:
    """Layout of a convolution (S, S, in, out) over all of a pooled grid: ours is dense."""
    return Layout(
        lambda x: x.reshape(-1, x.shape[-1]), lambda x: x.reshape(size, size, -1, x.shape[-1])
    )


def table(config: ModelConfig) -> list[Entry]:
    """Returns every array of the model that `config.model` describes, ours beside matterport's."""
    return [
        *keras_resnet.older_table(config),
        *_fpn(),
        *_rpn(),
        *_box_head(config),
        *_mask_head(config),
    ]


def _fpn() -> Iterator[Entry]:
    for i in (2, 3, 4, 5):
        yield from _layer(("fpn", f"lateral_c{i}", "conv"), f"fpn_c{i}p{i}")
        yield from _layer(("fpn", f"output_p{i}", "conv"), f"fpn_p{i}")


def _rpn() -> Iterator[Entry]:
    yield from _layer(("rpn", "conv_0"), "rpn_conv_shared")
    yield from _layer(("rpn", "logits"), "rpn_class_raw", OBJECTNESS, OBJECTNESS)
    yield from _layer(("rpn", "deltas"), "rpn_bbox_pred", DELTAS, DELTAS)


def _box_head(config) -> Iterator[Entry]:
    for i, layout in enumerate((whole_window(config.box_head.pool_size), POINT)):
        dense, norm = ("box_head", f"dense_{i}"), ("box_head", f"dense_norm_layer_{i}")
        names = (f"mrcnn_class_conv{i + 1}", f"mrcnn_class_bn{i + 1}")
        yield from conv_norm(dense, norm, *names, layout)
    yield from _layer(("box_head", "class_logits"), "mrcnn_class_logits")
    yield from _layer(("box_head", "box_deltas"), "mrcnn_bbox_fc", DELTAS, DELTAS)


def _mask_head(config) -> Iterator[Entry]:
    for i in range(config.mask_head.convs):
        path = ("mask_head", f"conv_{i}")
        names = (f"mrcnn_mask_conv{i + 1}", f"mrcnn_mask_bn{i + 1}")
        yield from conv_norm((*path, "conv"), (*path, "norm_layer"), *names)
    yield from _layer(("mask_head", "upsample"), "mrcnn_mask_deconv", UPSAMPLE)
    yield from _layer(("mask_head", "mask_logits"), "mrcnn_mask", POINT)


def _layer(path, name, kernel=SAME, bias=SAME) -> Iterator[Entry]:
    yield Entry(("params", *path, "kernel"), (f"{name}/kernel",), kernel)
    yield Entry(("params", *path, "bias"), (f"{name}/bias",), bias)
