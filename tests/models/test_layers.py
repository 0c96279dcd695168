"""Layers against plain numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.models.backbones.layers import Patches
from maskrcnn_jax.models.keypoints.head import Deconv
from maskrcnn_jax.models.layers import Conv, ConvNorm, Dense, Norm, Upsample, norm_layer
from maskrcnn_jax.models.mask_head import ClassConv
from maskrcnn_jax.models.point_rend.head import BlockConv, ClassGrid

KEY = jax.random.key(0)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def numpy_conv(x, kernel, stride):
    """x [H, W, Cin] with half the kernel as zeros on every side."""
    size = kernel.shape[0]
    x = np.pad(x, ((size // 2,) * 2, (size // 2,) * 2, (0, 0)))
    rows = range(0, x.shape[0] - size + 1, stride)
    columns = range(0, x.shape[1] - size + 1, stride)
    return np.array(
        [[np.tensordot(x[i : i + size, j : j + size], kernel, 3) for j in columns] for i in rows]
    )


@pytest.mark.parametrize(("size", "stride"), [(1, 2), (3, 1), (3, 2), (7, 2)])
def test_conv_pads_every_side_alike(size, stride):
    x = normal(2, 3, 8, 10, 4)  # two leading axes, as RoIs have
    layer = Conv(5, size, stride)
    variables = layer.init(KEY, x)
    variables["params"]["bias"] = normal(5)
    ours = layer.apply(variables, x)
    for i, j in np.ndindex(2, 3):
        expected = numpy_conv(x[i, j], variables["params"]["kernel"], stride) + normal(5)
        np.testing.assert_allclose(ours[i, j], expected, atol=1e-5)


def test_norm_with_the_batchs_statistics():
    x, scale, bias, mean, var = normal(3, 2, 4, 4, 5), *normal(4, 5, seed=1)
    mask = np.array([[True, True], [True, False], [False, False]])
    x[~mask] = 1e3  # not to be seen
    variables = {
        "params": {"scale": scale, "bias": bias},
        "batch_stats": {"mean": mean, "var": var**2},
    }
    ours, updated = Norm("bn").apply(variables, x, True, mask, mutable=["batch_stats"])
    seen = x[mask].reshape(-1, 5)
    expected = (x - seen.mean(0)) / np.sqrt(seen.var(0) + 1e-5) * scale + bias
    np.testing.assert_allclose(ours[mask], expected[mask], atol=1e-5)
    updated = updated["batch_stats"]
    np.testing.assert_allclose(updated["mean"], 0.9 * mean + 0.1 * seen.mean(0), atol=1e-6)
    unbiased = seen.var(0, ddof=1)
    np.testing.assert_allclose(updated["var"], 0.9 * var**2 + 0.1 * unbiased, atol=1e-6)


def test_norm_of_vectors():
    """Dense layers give [B, N, C]: each channel is normalised over the valid RoIs."""
    x, scale, bias = normal(2, 3, 5), *normal(2, 5, seed=1)
    mask = np.array([[True, True, False], [True, False, False]])
    x[~mask] = np.nan
    variables = {"params": {"scale": scale, "bias": bias}}
    variables["batch_stats"] = {"mean": np.zeros(5), "var": np.ones(5)}
    layer = Norm("bn", norm_eps=1e-3)
    ours, updated = layer.apply(variables, x, True, mask, mutable=["batch_stats"])
    expected = (x - x[mask].mean(0)) / np.sqrt(x[mask].var(0) + 1e-3) * scale + bias
    np.testing.assert_allclose(ours[mask], expected[mask], atol=1e-5)
    np.testing.assert_allclose(
        updated["batch_stats"]["var"], 0.9 + 0.1 * x[mask].var(0, ddof=1), atol=1e-6
    )


def test_norm_of_a_batch_without_valid_elements_uses_the_stored_statistics():
    x, variables = normal(2, 4, 4, 3), {"params": {"scale": np.ones(3), "bias": np.zeros(3)}}
    variables["batch_stats"] = {"mean": np.full(3, 0.5), "var": np.full(3, 2.0)}
    ours, updated = Norm("bn").apply(variables, x, True, np.zeros(2, bool), mutable=["batch_stats"])
    np.testing.assert_allclose(ours, (x - 0.5) / np.sqrt(2.0 + 1e-5), atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, updated["batch_stats"], variables["batch_stats"])


def test_each_part_of_a_batch_has_statistics_of_its_own():
    x, scale, bias = normal(4, 2, 3, 5), *normal(2, 5, seed=1)
    x[2:] += 3
    mask = np.array([True, True, False, True])
    variables = {"params": {"scale": scale, "bias": bias}}
    variables["batch_stats"] = {"mean": np.full(5, 0.5), "var": np.full(5, 2.0)}
    layer = Norm("bn", momentum=0.25)
    ours, updated = layer.apply(variables, x, 2, mask, mutable=["batch_stats"])
    means, variances = [], []
    for part, used in ((x[:2], x[:2]), (x[2:], x[3:])):
        mean, var = used.mean((0, 1, 2)), used.var((0, 1, 2))
        expected = (part - mean) / np.sqrt(var + 1e-5) * scale + bias
        np.testing.assert_allclose(ours[: len(part)], expected, atol=1e-5)
        ours = ours[len(part) :]
        means.append(0.75 * 0.5 + 0.25 * mean)
        variances.append(0.75 * 2.0 + 0.25 * used.var((0, 1, 2), ddof=1))
    stats = updated["batch_stats"]
    np.testing.assert_allclose(stats["mean"], np.mean(means, 0), atol=1e-6)
    np.testing.assert_allclose(stats["var"], np.mean(variances, 0), atol=1e-6)


@pytest.mark.parametrize("kind", ["bn", "frozen_bn"])
def test_norm_with_stored_statistics(kind):
    x, scale, bias, mean, var = normal(2, 4, 4, 5), *normal(4, 5, seed=1)
    variables = {
        "params": {"scale": scale, "bias": bias},
        "batch_stats": {"mean": mean, "var": var**2},
    }
    layer = norm_layer(kind, 5, 1e-3)
    ours, updated = layer.apply(variables, x, kind == "frozen_bn", mutable=["batch_stats"])
    expected = (x - mean) / np.sqrt(var**2 + 1e-3) * scale + bias
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, updated["batch_stats"], variables["batch_stats"])

    def total(params):
        return layer.apply({**variables, "params": params}, x).sum()

    gradients = jax.tree.leaves(jax.grad(total)(variables["params"]))
    assert all(g.any() == (kind == "bn") for g in gradients)


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (8, 8), (48, 16)])
def test_group_norm(channels, groups):
    x = normal(2, 3, 4, 6, channels)
    layer = Norm("gn")
    variables = layer.init(KEY, x)
    assert "batch_stats" not in variables
    grouped = x.reshape(2, 3, 24, groups, -1)
    mean, var = grouped.mean((2, 4), keepdims=True), grouped.var((2, 4), keepdims=True)
    expected = ((grouped - mean) / np.sqrt(var + 1e-5)).reshape(x.shape)
    np.testing.assert_allclose(layer.apply(variables, x), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 4, 6, 5), (7, 5)])
def test_layer_norm(shape):
    x = normal(*shape)
    layer = norm_layer("ln", 5, 1e-2)
    variables = layer.init(KEY, x)
    assert "batch_stats" not in variables
    params = {"scale": normal(5), "bias": normal(5)}
    expected = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-2)
    expected = expected * params["scale"] + params["bias"]
    np.testing.assert_allclose(layer.apply({"params": params}, x), expected, atol=1e-5)


def test_unknown_norm_is_refused():
    with pytest.raises(ValueError, match=r"'batchnorm'.*frozen_bn, bn, gn, ln, none"):
        ConvNorm(4, 3, norm="batchnorm").init(KEY, normal(1, 4, 4, 2))


def test_bias_only_without_norm():
    x = normal(1, 4, 4, 2)
    assert set(ConvNorm(4, 3).init(KEY, x)["params"]["conv"]) == {"kernel", "bias"}
    assert set(ConvNorm(4, 3, norm="gn").init(KEY, x)["params"]["conv"]) == {"kernel"}


def test_upsample_is_the_transposed_convolution():
    x = normal(2, 3, 5, 4)
    layer = Upsample(6)
    variables = layer.init(KEY, x)
    variables["params"]["bias"] = bias = normal(6)
    kernel = variables["params"]["kernel"]
    expected = np.zeros((2, 6, 10, 6), np.float32) + bias
    for i, j in np.ndindex(3, 5):  # every input pixel adds its 2x2 block
        block = np.tensordot(x[:, i, j], kernel, 1)
        expected[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] += block
    blocks = np.asarray(layer.apply(variables, x))
    ours = blocks.swapaxes(2, 3).reshape(expected.shape)  # row in the block beside the row
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_convolution_takes_the_scale_of_a_frozen_norm():
    x, kernel = normal(2, 6, 8, 3), normal(3, 3, 3, 5)
    scale, bias, mean, var = normal(4, 5, seed=1)
    norm = {
        "params": {"scale": scale, "bias": bias},
        "batch_stats": {"mean": mean, "var": var**2},
    }
    layer = ConvNorm(5, 3, norm="frozen_bn")
    variables = {key: {"norm_layer": values} for key, values in norm.items()}
    variables["params"]["conv"] = {"kernel": kernel}

    def apart(kernel, x):
        y = Conv(5, 3, use_bias=False).apply({"params": {"kernel": kernel}}, x)
        return norm_layer("frozen_bn", 5, 1e-5).apply(norm, y)

    def together(kernel, x):
        params = variables["params"] | {"conv": {"kernel": kernel}}
        return layer.apply({**variables, "params": params}, x)

    np.testing.assert_allclose(together(kernel, x), apart(kernel, x), atol=1e-4)
    ours, expected = (
        jax.grad(lambda *args, form=form: (form(*args) ** 2).sum(), (0, 1))(kernel, x)
        for form in (together, apart)
    )
    for gradient, reference in zip(ours, expected, strict=True):
        np.testing.assert_allclose(gradient, reference, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("layer", [Conv(3, 3), ConvNorm(3, 3, norm="bn"), Upsample(3), Dense(3)])
def test_dtype_is_of_the_computation_alone(layer):
    layer = layer.clone(dtype=jnp.bfloat16)
    y, variables = layer.init_with_output(KEY, normal(1, 4, 4, 2))
    assert y.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("layer", "shape", "terms"),
    [
        (Conv(2, 1), (1, 64, 64, 1), 64 * 64),
        (ConvNorm(2, 1), (1, 64, 64, 1), 64 * 64),
        (Dense(2), (64, 64, 1), 64 * 64),
        (Upsample(2), (1, 32, 32, 1), 64 * 64),
        (Patches(2, 2), (1, 128, 128, 1), 64 * 64),
        (BlockConv(), (1, 128, 128, 2), 64 * 64),
        (ClassGrid(2, 2), (64, 64, 1), 64 * 64),
        (Deconv(2), (1, 1, 32, 32, 1), 64 * 64),
    ],
)
def test_bias_gradient_of_bfloat16_is_summed_in_float32(layer, shape, terms):
    layer = layer.clone(dtype=jnp.bfloat16)
    x = jnp.ones(shape, jnp.bfloat16)
    variables = layer.init(KEY, x)

    def total(variables):
        return layer.apply(variables, x).astype(jnp.float32).sum()

    found = jax.tree_util.tree_leaves_with_path(jax.grad(total)(variables))
    biases = [leaf for path, leaf in found if path[-1].key == "bias"]
    assert len(biases) == 1
    np.testing.assert_array_equal(biases[0], terms)  # a sum in bfloat16 stops at 256


def test_bias_gradient_of_a_chosen_class_is_summed_in_float32():
    layer, classes = ClassConv(3, jnp.bfloat16), jnp.array([[2, 0]])
    x = jnp.ones((1, 2, 32, 32, 2, 2, 4), jnp.bfloat16)
    variables = layer.init(KEY, x, classes)
    gradient = jax.grad(lambda variables: layer.apply(variables, x, classes).sum())(variables)
    np.testing.assert_array_equal(gradient["params"]["bias"], [64 * 64, 0, 64 * 64])
