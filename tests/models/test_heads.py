"""Box and mask head: sizes, and what the order of axes means."""

import jax
import numpy as np
import pytest

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


@pytest.mark.parametrize("norm", ["frozen_bn", "bn"])
@pytest.mark.parametrize("convs", [0, 1])
def test_dense_layers_are_normalised_before_their_relu(norm, convs):
    model = BoxHead(
        2, convs=convs, conv_channels=4, dense_channels=8, dense_norm=norm, norm_eps=1e-3
    )
    variables = jax.device_get(model.init(KEY, FEATURES))
    rng = np.random.default_rng(1)
    number = 1 if convs else 2
    params, stats = variables["params"], variables["batch_stats"]
    for i in range(number):
        name = f"dense_norm_layer_{i}"
        params[name] = {"scale": rng.normal(size=8), "bias": rng.normal(size=8)}
        stats[name] = {"mean": rng.normal(size=8), "var": rng.uniform(0.5, 2, 8)}
        assert set(params[f"dense_{i}"]) == {"kernel"}
    mask = np.array([[True, False, True], [True, True, False]])
    features = np.where(mask[..., None, None, None], FEATURES, np.nan)
    program = jax.jit(lambda v, x: model.apply(v, x, True, mask, mutable=["batch_stats"]))
    (logits, _), updated = program(variables, features)

    x = np.array(features, np.float64)
    if convs:
        x = np.maximum(_same_conv(x, params["conv_0"]["conv"]), 0)
    x = x.reshape(2, 3, -1)
    for i in range(number):
        x = x @ params[f"dense_{i}"]["kernel"]
        mean, var = (stats[f"dense_norm_layer_{i}"][key] for key in ("mean", "var"))
        if norm == "bn":
            mean, var = x[mask].mean(0), x[mask].var(0)
        new_mean = updated["batch_stats"][f"dense_norm_layer_{i}"]["mean"]
        assert np.allclose(new_mean, stats[f"dense_norm_layer_{i}"]["mean"]) == (norm != "bn")
        affine = params[f"dense_norm_layer_{i}"]
        x = np.maximum((x - mean) / np.sqrt(var + 1e-3) * affine["scale"] + affine["bias"], 0)
    expected = x @ params["class_logits"]["kernel"] + params["class_logits"]["bias"]
    np.testing.assert_allclose(logits[mask], expected[mask], atol=1e-5)


def _same_conv(x, layer):
    """3x3 convolution of [B, N, S, S, C] with zeros around it."""
    side = x.shape[2]
    x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [[x[:, :, i : i + side, j : j + side] for j in range(3)] for i in range(3)]
    return np.einsum("ijbnyxc,ijco->bnyxo", shifted, layer["kernel"]) + layer["bias"]


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
