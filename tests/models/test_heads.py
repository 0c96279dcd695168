"""Box and mask head: sizes, and what the order of axes means."""

import jax
import numpy as np

from maskrcnn_jax.models.box_head import BoxHead
from maskrcnn_jax.models.mask_head import MaskHead

KEY = jax.random.key(0)
FEATURES = np.random.default_rng(0).standard_normal((2, 3, 7, 7, 4)).astype(np.float32)


def test_box_head_outputs_and_layers():
    for convs, layers in ((0, {"dense_0", "dense_1"}), (2, {"conv_0", "conv_1", "dense_0"})):
        model = BoxHead(num_classes=5, convs=convs, conv_channels=4, dense_channels=8)
        (logits, deltas), variables = jax.jit(model.init_with_output)(KEY, FEATURES)
        assert logits.shape == (2, 3, 6)
        assert deltas.shape == (2, 3, 6, 4)
        assert set(variables["params"]) == layers | {"class_logits", "box_deltas"}


def test_box_deltas_come_class_by_class():
    model = BoxHead(num_classes=2, dense_channels=8)
    variables = jax.tree.map(np.zeros_like, model.init(KEY, FEATURES))
    variables["params"]["box_deltas"]["bias"] = np.arange(12, dtype=np.float32)
    _, deltas = model.apply(variables, FEATURES)
    np.testing.assert_array_equal(deltas[1, 2], [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]])


def test_mask_head_gives_the_mask_of_the_class():
    model = MaskHead(num_classes=5, convs=1, channels=4)
    classes = np.array([[1, 2, 5], [3, 0, 1]])
    masks, variables = jax.jit(model.init_with_output)(KEY, FEATURES, classes)
    assert masks.shape == (2, 3, 14, 14)
    apply = jax.jit(model.apply)
    for label in range(6):
        of_label = apply(variables, FEATURES, np.full((2, 3), label))
        np.testing.assert_allclose(masks[classes == label], of_label[classes == label], atol=1e-6)
        others = masks[classes != label] - of_label[classes != label]
        assert (np.abs(others).max(axis=(1, 2)) > 1e-4).all()
