"""The forms of pooling against each other and against a loop over taps."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.ops.pooling import pool, products
from maskrcnn_jax.ops.pooling.gathers import gather
from maskrcnn_jax.ops.pooling.gathers_gradient import scatter
from maskrcnn_jax.ops.pooling.taps import Taps

SHAPES = ((9, 11), (5, 6), (1, 3))
BOXES, BINS = 13, (3, 2)


def _scene(dtype=jnp.float32, seed=0):
    """Two images: features, levels, rows and columns, with taps on the last cells and repeated."""
    rng = np.random.default_rng(seed)
    features = tuple(
        jnp.asarray(rng.standard_normal((2, *shape, 4)), jnp.float32).astype(dtype)
        for shape in SHAPES
    )
    level = rng.integers(0, len(SHAPES), (2, BOXES))

    def taps(bins, axis):
        length = np.array(SHAPES)[level, axis][..., None, None]
        cell = np.minimum(rng.integers(0, 12, (2, BOXES, bins, 4)), length - 1)
        weight = rng.random((2, BOXES, bins, 4), np.float32) * (rng.random() > 0.1)
        return Taps(jnp.asarray(cell, jnp.int32), jnp.asarray(weight))

    return features, jnp.asarray(level, jnp.int32), taps(BINS[0], 0), taps(BINS[1], 1)


def _reference(*scene):
    features, level, rows, columns = jax.device_get(scene)  # sooner indexed
    out = np.zeros((2, BOXES, *BINS, 4))
    for b, n, s, t in np.ndindex(2, BOXES, *BINS):
        feature = np.asarray(features[level[b, n]][b], np.float64)
        for i, j in np.ndindex(4, 4):
            weight = float(rows.weight[b, n, s, i]) * float(columns.weight[b, n, t, j])
            out[b, n, s, t] += weight * feature[rows.cell[b, n, s, i], columns.cell[b, n, t, j]]
    return out


@pytest.mark.parametrize("at_once", [4, 64])
@pytest.mark.parametrize("form", [gather, products.products])
def test_forms_are_the_sum_over_all_pairs_of_taps(monkeypatch, form, at_once):
    monkeypatch.setattr(products, "_BOXES_AT_ONCE", at_once)
    scene = _scene()
    np.testing.assert_allclose(jax.jit(form)(*scene), _reference(*scene), atol=2e-5)


@pytest.mark.parametrize("at_once", [4, 64])
def test_gradients_are_that_of_the_forward_pass(monkeypatch, at_once):
    monkeypatch.setattr(products, "_BOXES_AT_ONCE", at_once)
    features, *taps = _scene(seed=1)
    cotangent = jax.random.normal(jax.random.key(1), (2, BOXES, *BINS, 4))
    (expected,) = jax.vjp(lambda f: gather(f, *taps), features)[1](cotangent)
    forms = (
        partial(scatter, SHAPES, chunk_bytes=1000),
        partial(scatter, SHAPES, chunk_bytes=None),
        partial(products.products_gradient, SHAPES),
    )
    for form in forms:
        for ours, reference in zip(jax.jit(form)(cotangent, *taps), expected, strict=True):
            np.testing.assert_allclose(ours, reference, atol=1e-4)
    for deterministic in (False, True):
        gradient = jax.vjp(lambda f, d=deterministic: pool.pool(f, *taps, d), features)[1]
        for ours, reference in zip(gradient(cotangent)[0], expected, strict=True):
            np.testing.assert_allclose(ours, reference, atol=1e-4)


def test_products_of_bfloat16_are_added_in_float32():
    features, *taps = _scene(jnp.bfloat16, seed=2)
    exact = _reference(features, *taps)
    ours = jax.jit(products.products)(features, *taps)
    assert ours.dtype == jnp.bfloat16
    # Weights of rows and columns, strips and the result are rounded to 8 bits, once each.
    scale = _reference([abs(f) for f in features], *taps)
    assert (np.abs(np.asarray(ours, np.float64) - exact) <= 4 * 2**-8 * scale + 1e-6).all()


def test_products_of_no_box():
    features, level, rows, columns = _scene()
    nobody = jax.tree.map(jnp.zeros_like, (rows, columns))
    np.testing.assert_array_equal(products.products(features, level, *nobody), 0)
