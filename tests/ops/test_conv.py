"""Convolution against its definition, and the forms of it against each other."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.ops import conv
from maskrcnn_jax.ops.grouped_conv import grouped_conv
from maskrcnn_jax.ops.xla_conv import xla_conv


@pytest.mark.parametrize("shape", [(2, 32, 64, 3), (1, 6, 10, 1), (1, 4, 2, 4)])
def test_first_convolution_over_blocks_of_pixels(shape):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape, np.float32)
    kernel = rng.standard_normal((7, 7, shape[-1], 8), np.float32)
    expected, expected_pull_back = jax.vjp(lambda *a: xla_conv(*a, stride=2), x, kernel)
    ours, pull_back = jax.vjp(conv._stem_conv, x, kernel)
    for got, reference in zip(
        (ours, *pull_back(expected)), (expected, *expected_pull_back(expected)), strict=True
    ):
        np.testing.assert_allclose(got, reference, atol=2e-5 * np.abs(reference).max())


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_conv2d_is_the_sum_over_its_window(size, stride):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 11, 8, 3)).astype(np.float32)
    kernel = rng.standard_normal((size, size, 3, 5)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)))
    expected = np.stack(
        [
            [
                np.einsum("bijc,ijco->bo", padded[:, r : r + size, c : c + size], kernel)
                for c in range(0, 8, stride)
            ]
            for r in range(0, 11, stride)
        ]
    ).transpose(2, 0, 1, 3)
    got = conv.conv2d(jnp.asarray(x), jnp.asarray(kernel), stride)
    np.testing.assert_allclose(got, expected, atol=1e-4)


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (1, 2), (3, 1)])
def test_the_form_for_accelerators_gives_the_same_values_and_gradients(
    accelerator_forms, size, stride
):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((2, 64, 48, 128), np.float32)
    kernel = rng.standard_normal((size, size, 128, 128), np.float32)
    cotangent = rng.standard_normal((2, 64 // stride, 48 // stride, 128), np.float32)

    def results():
        y, pull_back = jax.vjp(lambda x, kernel: conv.conv2d(x, kernel, stride), x, kernel)
        return y, *pull_back(cotangent)

    for_cpu = results()
    with accelerator_forms() as taken:
        for_accelerator = results()
    assert len(taken) == 2  # forward and backward
    for got, expected in zip(for_cpu, for_accelerator, strict=True):
        np.testing.assert_allclose(got, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize(("platform", "has_convolutions"), [("cpu", 0), ("tpu", 1), ("cuda", 1)])
def test_the_program_is_made_for_where_it_will_run(platform, has_convolutions):
    """A 1x1 convolution and its gradients are products on a CPU alone."""
    text = _one_by_one().lower(lowering_platforms=(platform,)).as_text()
    assert ("stablehlo.convolution" in text) == has_convolutions
    assert ("stablehlo.dot_general" in text) != has_convolutions


def test_nothing_is_chosen_when_the_program_runs():
    assert " conditional(" not in _one_by_one().lower().compile().as_text()


def _one_by_one():
    loss = jax.value_and_grad(lambda *arrays: (conv.conv2d(*arrays) ** 2).sum(), (0, 1))
    return jax.jit(loss).trace(jnp.ones((1, 8, 8, 4)), jnp.ones((1, 1, 4, 2)))


def test_a_batch_that_is_split_is_left_to_xla(accelerator_forms):
    x, kernel = jnp.ones((1, 8, 8, 4)), jnp.ones((1, 1, 4, 2))
    with accelerator_forms() as taken:
        conv.conv2d(x, kernel, is_split=True)
    assert taken == []


# Groups, inputs and outputs of each, side and stride: some of which are merged, all, or none.
GROUPED = [(8, 4, 4, 3, 1), (8, 4, 4, 3, 2), (3, 2, 4, 3, 1), (2, 16, 8, 3, 2), (6, 1, 1, 7, 1)]


@pytest.mark.parametrize(("groups", "inputs", "outputs", "size", "stride"), GROUPED)
def test_a_grouped_convolution_is_one_of_each_group(groups, inputs, outputs, size, stride):
    """Values and both gradients; the forms for CPUs and for accelerators are both compared."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2, 9, 6, groups * inputs), np.float32)
    kernel = rng.standard_normal((size, size, inputs, groups * outputs), np.float32)

    def of_each(x, kernel):
        parts = zip(jnp.split(x, groups, 3), jnp.split(kernel, groups, 3), strict=True)
        return jnp.concatenate([xla_conv(*part, stride) for part in parts], 3)

    cotangent = rng.standard_normal(
        (2, -(-9 // stride), -(-6 // stride), kernel.shape[3]), np.float32
    )

    def results(form):
        y, pull_back = jax.vjp(form, x, kernel)
        return y, *pull_back(cotangent)

    expected = jax.jit(results, static_argnums=0)(of_each)
    for form in (*conv._forms(x, kernel, stride), partial(grouped_conv, stride=stride)):
        for got, reference in zip(jax.jit(results, static_argnums=0)(form), expected, strict=True):
            np.testing.assert_allclose(got, reference, atol=2e-5 * np.abs(reference).max())


def test_the_gradient_of_a_grouped_kernel_is_no_convolution_on_a_cpu():
    """XLA's takes two hundred times as long as the forward pass there."""
    gradient = jax.jit(jax.grad(lambda k, x: (conv.conv2d(x, k) ** 2).sum()))
    traced = gradient.trace(jnp.ones((3, 3, 2, 8)), jnp.ones((1, 8, 8, 8)))
    counts = {
        platform: traced.lower(lowering_platforms=(platform,)).as_text().count(".convolution(")
        for platform in ("cpu", "cuda")
    }
    assert counts["cpu"] < counts["cuda"]


def test_sums_of_a_grouped_convolution_are_float32():
    x = jnp.full((1, 7, 7, 32), 1.0, jnp.bfloat16)
    kernel = jnp.full((7, 7, 1, 32), 1 + 2**-7, jnp.bfloat16)
    y = jax.jit(conv.conv2d)(x, kernel)
    assert y.dtype == jnp.bfloat16
    assert float(y[0, 3, 3, 0]) == float(jnp.bfloat16(49 * (1 + 2**-7)))
