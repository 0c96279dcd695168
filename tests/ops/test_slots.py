"""Work on the slots that are used."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.ops.slots import on_used_slots


def both(x, y):
    return {"sum": x + y[..., None], "double": 2 * y}


@pytest.mark.parametrize("number", [1, 7, 16, 17, 40])
@pytest.mark.parametrize("seed", range(3))
def test_used_slots_have_the_results_of_the_function(number, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(2, number, 3)), rng.integers(0, 9, (2, number))
    used = rng.random((2, number)) < 0.3
    found = jax.jit(lambda *a: on_used_slots(both, *a))(used, x, y)
    expected = both(jnp.asarray(x), jnp.asarray(y))
    for name in expected:
        assert found[name].dtype == expected[name].dtype
        assert found[name].shape == expected[name].shape
        np.testing.assert_array_equal(found[name][used], expected[name][used])


@pytest.mark.parametrize(("last", "calls"), [(None, 0), (0, 1), (15, 1), (16, 2), (39, 3)])
def test_work_ends_behind_the_last_used_slot_of_any_image(last, calls):
    seen = []

    def counted(x):
        jax.debug.callback(lambda: seen.append(1))
        return x

    used = np.zeros((2, 40), bool)
    if last is not None:
        used[1, last] = True
    jax.block_until_ready(
        jax.jit(lambda u, x: on_used_slots(counted, u, x))(used, np.ones((2, 40)))
    )
    jax.effects_barrier()
    assert len(seen) == calls


def test_a_program_for_an_accelerator_has_no_loop():
    arguments = np.ones((1, 40), bool), np.ones((1, 40))
    lowered = jax.jit(lambda u, x: on_used_slots(lambda x: x + 1, u, x)).trace(*arguments)
    assert "while" not in lowered.lower(lowering_platforms=("tpu",)).as_text()
    assert "while" in lowered.lower(lowering_platforms=("cpu",)).as_text()
