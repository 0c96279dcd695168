"""The feature pyramid, worked by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.models import fpn
from maskrcnn_jax.models.fpn import FPN


def test_pyramid_by_hand():
    """With kernels that copy, every level is the sum of itself and the nearest coarser pixels."""
    sides = {"c2": 16, "c3": 8, "c4": 4, "c5": 2}
    features = {name: np.zeros((1, side, side, 1), np.float32) for name, side in sides.items()}
    features["c5"][0, :, :, 0] = [[1, 2], [3, 4]]
    features["c4"][0, 0, 1] = 10
    model = FPN(channels=1)
    variables = model.init(jax.random.key(0), features)
    middle = np.zeros((3, 3, 1, 1), np.float32)
    middle[1, 1] = 1
    for name, layer in variables["params"].items():
        layer["conv"]["kernel"] = middle if name.startswith("output") else np.ones((1, 1, 1, 1))
    pyramid = model.apply(variables, features)
    assert list(pyramid) == ["p2", "p3", "p4", "p5", "p6"]
    p4 = [[1, 11, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    np.testing.assert_array_equal(pyramid["p4"][0, ..., 0], p4)
    np.testing.assert_array_equal(pyramid["p3"][0, ..., 0], np.kron(p4, np.ones((2, 2))))
    np.testing.assert_array_equal(pyramid["p2"][0, ..., 0], np.kron(p4, np.ones((4, 4))))
    np.testing.assert_array_equal(pyramid["p6"][0, ..., 0], [[1]])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_tpu_doubles_by_products_to_the_same_bits(dtype):
    x, cotangent = (
        jax.random.normal(jax.random.key(i), shape).astype(dtype)
        for i, shape in enumerate([(2, 3, 5, 4), (2, 6, 10, 4)])
    )
    doubled, gradient_of = jax.vjp(fpn._doubled_by_products, x)
    np.testing.assert_array_equal(doubled, fpn._doubled_by_copies(x))
    # Rows are added in the model's dtype, columns in float32.
    of_cells = cotangent.astype(jnp.float32).reshape(2, 3, 2, 5, 2, 4).sum(axis=(2, 4))
    ours = np.asarray(gradient_of(cotangent)[0], np.float32)
    np.testing.assert_allclose(ours, of_cells, atol=0.05 if dtype == jnp.bfloat16 else 1e-5)
