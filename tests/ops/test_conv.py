"""Convolution against its definition, and the forms of it against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.ops import conv
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
