"""The NumPy reference of matterport's detector, where TensorFlow has the operation."""

import numpy as np
import pytest

from tests.pretrained import matterport_numpy as reference


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow", reason="TensorFlow is not installed")


def test_pools(tf):
    # float32: Keras, once imported, may make TensorFlow take float64 arrays for it.
    x = np.random.default_rng(0).standard_normal((8, 12, 3), np.float32)
    expected = tf.nn.max_pool2d(x[None], 3, 2, "SAME")[0]
    np.testing.assert_array_equal(reference.max_pool_same(x), expected)


def test_convolves(tf):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((9, 12, 3))
    weights = {"a/kernel": rng.standard_normal((3, 3, 3, 4)), "a/bias": rng.standard_normal(4)}
    expected = tf.nn.conv2d(x[None], weights["a/kernel"], 1, "SAME")[0] + weights["a/bias"]
    np.testing.assert_allclose(reference.conv(x, weights, "a", padding=1), expected, atol=1e-12)
    weights = {"a/kernel": rng.standard_normal((2, 2, 4, 3)), "a/bias": rng.standard_normal(4)}
    shape = (1, 18, 24, 4)
    expected = tf.nn.conv2d_transpose(x[None], weights["a/kernel"], shape, 2, "VALID")[0]
    ours = reference.transposed_conv(x, weights, "a")
    np.testing.assert_allclose(ours, expected + weights["a/bias"], atol=1e-12)


def test_crops(tf):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 12, 3)).astype(np.float32)
    boxes = np.float32([[0.1, 0.2, 0.7, 0.9], [-0.2, 0.5, 0.6, 1.3], [0.4, 0.4, 0.4, 0.8]])
    expected = tf.image.crop_and_resize(x[None], boxes, [0, 0, 0], (7, 7))
    ours = [reference.crop_and_resize(x, box, 7) for box in boxes]
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_suppresses(tf):
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 0.8, (100, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0, 0.4, (100, 2))], 1).astype(np.float32)
    scores = rng.uniform(size=100).astype(np.float32)
    expected = tf.image.non_max_suppression(boxes, scores, 30, 0.3)
    ours = reference.non_max_suppression(boxes, scores, 0.3, 30)
    np.testing.assert_array_equal(ours, expected)
