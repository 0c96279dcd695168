"""Winograd's form of the 3x3 convolution against XLA's, and its gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.ops import winograd
from maskrcnn_jax.ops.xla_conv import xla_conv

# Groups of RoIs, of an odd side, too; parts of large images, of odd sides; one image in one part; a
# small map, a prime number of images and few channels, which are left to XLA.
WINOGRAD = ((48, 14, 14), (80, 7, 7), (2, 60, 70), (1, 51, 45), (1, 32, 32))
OTHERS = ((2, 9, 7), (67, 8, 8))


@pytest.mark.parametrize(
    ("shape", "out"),
    [((*s, 128), 136) for s in (*WINOGRAD, *OTHERS)] + [((40, 14, 14, 8), 24)],
)
def test_3x3_and_its_gradients_are_those_of_xla(shape, out):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape, np.float32)
    kernel = rng.standard_normal((3, 3, shape[-1], out), np.float32)
    cotangent = rng.standard_normal((*shape[:3], out), np.float32)
    assert winograd._is_winograd(x, kernel) == (shape[:3] in WINOGRAD)
    y, pull_back = jax.vjp(jax.jit(winograd.conv3x3), x, kernel)
    expected_y, expected_pull_back = jax.vjp(jax.jit(xla_conv), x, kernel)
    for got, expected in zip(
        (y, *pull_back(cotangent)), (expected_y, *expected_pull_back(cotangent)), strict=True
    ):
        np.testing.assert_allclose(got, expected, atol=2e-5 * np.abs(expected).max())


def test_every_image_is_convolved_by_itself():
    """What is beside an image in its part, NaN say, must not get into it."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((48, 14, 14, 128), np.float32)
    kernel = rng.standard_normal((3, 3, 128, 128), np.float32)
    convolve = jax.jit(winograd.conv3x3)
    expected = np.asarray(convolve(x, kernel))
    x[1::2] = np.nan
    np.testing.assert_array_equal(np.asarray(convolve(x, kernel))[::2], expected[::2])


def test_bfloat16_sums_the_kernel_gradient_in_float32():
    x = jnp.ones((32, 16, 16, 128), jnp.bfloat16)
    kernel = jnp.zeros((3, 3, 128, 128), jnp.bfloat16)
    gradient = jax.grad(lambda k: winograd.conv3x3(x, k).astype(jnp.float32).sum())(kernel)
    assert gradient.dtype == jnp.bfloat16
    # 8192 pixels: a sum in bfloat16 stops growing at 256.
    assert (gradient[1, 1] == 8192).all()
    assert (gradient[0, 0] == 15 * 15 * 32).all()
