"""The kernels for TPUs, in JAX's interpreter of a TPU, which has its memories and its copies."""

from contextlib import nullcontext
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu

from maskrcnn_jax.ops import roi_align
from maskrcnn_jax.ops.pooling.gathers import gather
from maskrcnn_jax.ops.pooling.gathers_gradient import scatter
from maskrcnn_jax.ops.pooling.pool import pool, without_kernels
from maskrcnn_jax.ops.pooling.taps import Taps
from maskrcnn_jax.ops.pooling.windows import ends, pool_windows
from maskrcnn_jax.ops.pooling.windows_gradient import windows_gradient

# Of one window and of several, smaller than one and with sides that no window divides.
SHAPES = ((40, 70), (20, 35), (10, 18), (5, 9))
SCALES = (1 / 4, 1 / 8, 1 / 16, 1 / 32)


@pytest.fixture
def on_tpu():
    """Takes what is traced to the interpreter; memory nobody has written is NaN there."""
    with pltpu.force_tpu_interpret_mode(pltpu.InterpretParams(detect_races=True)):
        yield
    pltpu.reset_tpu_interpret_mode_state()


def _scene(number=11, size=(7, 7), dtype=jnp.float32, seed=0):
    """Two images: features, levels and taps of boxes, some of them invalid or unusual."""
    rng = np.random.default_rng(seed)
    features = tuple(
        jnp.asarray(rng.standard_normal((2, *shape, 8)), jnp.float32).astype(dtype)
        for shape in SHAPES
    )
    centre = rng.random((2, number, 2)) * (280, 160)
    half = np.exp(rng.uniform(np.log(4), np.log(150), (2, number, 2))) / 2
    boxes = np.concatenate([centre - half, centre + half], axis=-1)
    unusual = [[np.nan] * 4, [0, 0, 280, 4], [-9e9, -9, 9e9, 9], [400, 400, 500, 500], [7, 7, 7, 7]]
    boxes[0, : len(unusual)] = unusual[:number]
    boxes = jnp.asarray(boxes, jnp.float32)
    level = roi_align.assign_levels(boxes, len(SHAPES), 4.0, 56.0)
    samples = partial(roi_align._roi_align_samples, sampling_ratio=2, aligned=False)
    of_both_axes = [(scale, scale) for scale in SCALES]
    taps = roi_align._taps(boxes, level, SHAPES, of_both_axes, size, samples)
    return features, level, *taps


@pytest.mark.parametrize(("number", "size"), [(11, (7, 7)), (1, (3, 5))])
def test_sums_are_those_of_gathers(on_tpu, number, size):
    scene = _scene(number, size)
    found = jax.jit(pool_windows)(*scene)
    assert found.shape == (2, number, *size, 8)
    np.testing.assert_allclose(found, gather(*scene), atol=2e-6)


@pytest.mark.parametrize(("number", "size"), [(11, (7, 7)), (1, (3, 5))])
def test_gradients_are_those_of_gathers(on_tpu, number, size):
    features, *taps = _scene(number, size, seed=1)
    cotangent = jax.random.normal(jax.random.key(0), (2, number, *size, 8))
    found = jax.jit(partial(windows_gradient, SHAPES, jnp.float32))(cotangent, *taps)
    expected = scatter(SHAPES, cotangent, *taps, chunk_bytes=None)
    for ours, reference, feature in zip(found, expected, features, strict=True):
        assert ours.shape == feature.shape
        np.testing.assert_allclose(ours, reference, atol=1e-5)


def test_copies_do_not_race(on_tpu):
    from jax._src.pallas.mosaic.interpret import interpret_pallas_call

    features, *taps = _scene(seed=2)
    jax.block_until_ready(jax.jit(pool_windows)(features, *taps))
    assert not interpret_pallas_call.races.races_found
    cotangent = jnp.ones((2, 11, 7, 7, 8))
    jax.block_until_ready(jax.jit(partial(windows_gradient, SHAPES, jnp.float32))(cotangent, *taps))
    assert not interpret_pallas_call.races.races_found


def test_what_no_box_lies_on_does_not_reach_it(on_tpu):
    """A box brings windows of its own level; what is NaN elsewhere does not reach it."""
    features, level, rows, columns = _scene(seed=3)
    far = Taps(jnp.full_like(rows.cell, 39), rows.weight), Taps(columns.cell * 0, columns.weight)
    first = jnp.zeros_like(level)
    poisoned = [
        features[0].at[:, :20, 35:].set(jnp.nan),
        *(jnp.full_like(f, jnp.nan) for f in features[1:]),
    ]
    assert np.isfinite(jax.jit(pool_windows)(tuple(poisoned), first, *far)).all()


def test_bfloat16_is_rounded_once_each(on_tpu):
    features, *taps = _scene(dtype=jnp.bfloat16, seed=4)
    found = jax.jit(pool_windows)(features, *taps)
    assert found.dtype == jnp.bfloat16
    exact = gather(tuple(f.astype(jnp.float32) for f in features), *taps)
    scale = gather(tuple(abs(f).astype(jnp.float32) for f in features), *taps)
    # Weights and results have 8 bits.
    error = abs(np.asarray(found, np.float32) - exact)
    assert (error <= 2 * 2**-8 * np.asarray(scale) + 1e-6).all()
    assert error.max() > 0


def test_ends_of_the_taps_that_count():
    cell = jnp.asarray([[[3, 4, 9, 10]], [[5, 6, 7, 8]], [[2, 2, 2, 2]]])
    weight = jnp.asarray([[[0.0, 0.5, 0.5, 0.0]], [[0.0] * 4], [[0.0, 0.0, 0.0, 1.0]]])
    first, last = ends(Taps(cell, weight))
    assert (first.tolist(), last.tolist()) == ([4, 0, 2], [9, 0, 2])


def test_gradients_have_the_dtype_of_the_features_in_every_form():
    features, *taps = _scene(number=2, dtype=jnp.bfloat16)

    def gradient(features):
        return jax.grad(lambda f: pool(f, *taps, False).astype(jnp.float32).sum())(features)

    traced = jax.jit(gradient).trace(features)
    for platform in ("cpu", "cuda", "tpu"):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert ("tpu_custom_call" in text) == (platform == "tpu")
    assert {leaf.dtype for leaf in jax.jit(gradient)(features)} == {jnp.dtype("bfloat16")}


def test_programs_for_several_kinds_of_devices_have_no_kernels():
    features, *taps = _scene(number=2)
    for platforms, has_kernels in ((("tpu",), True), (("cpu", "cuda", "tpu"), False)):
        with nullcontext() if has_kernels else without_kernels():
            traced = jax.jit(lambda f: pool(f, *taps, False)).trace(features)
        text = traced.lower(lowering_platforms=platforms).as_text()
        assert ("tpu_custom_call" in text) == has_kernels


def test_a_tpu_takes_the_kernels_and_products_for_single_points(on_tpu, monkeypatch):
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *operands, tpu, **_: tpu(*operands))
    features, level, rows, columns = _scene(seed=5)
    points = [Taps(*(array[:, :, :1] for array in taps)) for taps in (rows, columns)]
    for taps, has_kernels in (((rows, columns), True), (points, False)):

        def both(features, taps=taps):
            pooled, gradient_of = jax.vjp(lambda f: pool(f, level, *taps, False), features)
            return pooled, gradient_of(pooled)[0]

        assert ("pallas_call" in str(jax.jit(both).trace(features).jaxpr)) == has_kernels
        pooled, gradient = jax.jit(both)(features)
        expected = gather(features, level, *taps)
        np.testing.assert_allclose(pooled, expected, atol=1e-5)
        of_each = scatter(SHAPES, expected, level, *taps, chunk_bytes=None)
        for ours, reference in zip(gradient, of_each, strict=True):
            np.testing.assert_allclose(ours, reference, atol=1e-4)
