"""The feature pyramid, worked by hand."""

import jax
import numpy as np

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
