"""The moving average of the weights: its numbers, what it covers, how checkpoints hold it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from maskrcnn_jax.checkpoints.ema import (
    averaged_parameters,
    first_average,
    updated_average,
    with_average,
)
from maskrcnn_jax.checkpoints.load import load_for_inference
from maskrcnn_jax.checkpoints.manager import Checkpoints
from maskrcnn_jax.checkpoints.state import create
from maskrcnn_jax.models.build import abstract_variables, make_model
from maskrcnn_jax.parallel.mesh import abstract, make_state
from maskrcnn_jax.training.train_step import make_train_step

VARIABLES = {
    "params": {"a": {"kernel": jnp.float32([1.0, 2.0])}, "b": {"kernel": jnp.float32([0.1])}},
    "batch_stats": {"a": {"mean": jnp.float32([5.0])}},
}


def test_what_any_stage_trains_is_averaged():
    masks = [{"a": {"k": True, "s": False}, "b": {"k": False}, "c": {"k": False}}]
    assert averaged_parameters(masks) == {"a": {"k": True}}
    masks.append({"a": {"k": False, "s": False}, "b": {"k": True}, "c": {"k": False}})
    assert averaged_parameters(masks) == {"a": {"k": True}, "b": {"k": True}}


def test_the_decay_grows_to_the_one_given():
    ema = first_average({"params": {"w": jnp.zeros(1)}}, {"w": True})
    expected = 0.0
    for step in range(30):
        decay = min(0.6, (1 + step) / (10 + step))  # 0.1, 2/11, ... 0.6 from step 13 on
        expected = decay * expected + (1 - decay) * step
        variables = {"params": {"w": jnp.full(1, float(step))}, "batch_stats": {}}
        ema = updated_average(ema, variables, jnp.int32(step), 0.6)
        np.testing.assert_allclose(ema["params"]["w"], expected, rtol=1e-5)


def test_what_does_not_change_is_its_own_average_to_the_bit():
    ema = first_average(VARIABLES, {"b": {"kernel": True}})
    for step in range(20):
        ema = updated_average(ema, VARIABLES, jnp.int32(step), 0.999)
    np.testing.assert_array_equal(ema["params"]["b"]["kernel"], VARIABLES["params"]["b"]["kernel"])


def test_the_average_takes_the_place_of_what_it_covers():
    ema = first_average(VARIABLES, {"a": {"kernel": True}})
    assert set(ema["params"]) == {"a"}  # nothing is kept of what is frozen
    moved = jax.tree.map(lambda leaf: leaf + 1, VARIABLES)
    variables = with_average(moved, ema)
    assert jax.tree.structure(variables) == jax.tree.structure(VARIABLES)
    np.testing.assert_array_equal(variables["params"]["a"]["kernel"], [1.0, 2.0])
    np.testing.assert_array_equal(variables["params"]["b"]["kernel"], np.float32([1.1]))
    np.testing.assert_array_equal(variables["batch_stats"]["a"]["mean"], [5.0])
    without = with_average(
        {"params": moved["params"], "batch_stats": {}}, {**ema, "batch_stats": {}}
    )
    assert without["batch_stats"] == {}


@pytest.fixture
def averaging(toy, one_device_mesh):
    """The toy's step with an average, and its new state."""
    model, variables, trainable = toy
    optimizer, schedule = optax.sgd(0.1), optax.constant_schedule(0.1)
    step = make_train_step(
        model, optimizer, schedule, trainable, 0, one_device_mesh, ema_decay=0.15
    )
    state = make_state(
        lambda variables: create(variables, optimizer, averaged_parameters([trainable])),
        one_device_mesh,
        variables,
    )
    return step, state


def test_each_step_enters_the_average(toy, averaging):
    _, variables, _ = toy
    step, state = averaging
    image = np.random.default_rng(0).uniform(0, 255, (2, 4, 4, 3)).astype(np.float32)
    kernel, seen = np.asarray(variables["params"]["trained"]["kernel"]), 0.0
    for decay in (0.1, 0.15, 0.15):  # 1/10; 2/11 and 3/12 are above the one given
        state, _ = step(state, {"image": image})
        kernel = decay * kernel + (1 - decay) * np.asarray(state.params["trained"]["kernel"])
        seen = decay * seen + (1 - decay) * float(state.batch_stats["seen"])
    evaluated = state.eval_variables
    np.testing.assert_allclose(evaluated["params"]["trained"]["kernel"], kernel, rtol=1e-5)
    np.testing.assert_allclose(evaluated["batch_stats"]["seen"], seen, rtol=1e-5)
    assert "frozen" not in state.ema["params"]
    np.testing.assert_array_equal(
        evaluated["params"]["frozen"]["kernel"], variables["params"]["frozen"]["kernel"]
    )
    plain = state.replace(ema=None)
    assert plain.eval_variables["params"]["trained"] is plain.params["trained"]


def _metadata(config, classes=("a", "b", "c")):
    ids = tuple(range(1, len(classes) + 1))
    return {"config": config, "class_names": classes, "category_ids": ids, "num_images": 5}


def test_an_average_can_begin_and_end_when_a_run_goes_on(
    averaging, tiny_config, one_device_mesh, tmp_path
):
    _, state = averaging
    state = state.replace(ema=jax.tree.map(lambda leaf: leaf + 1, state.ema))
    checkpoints = Checkpoints(tmp_path, 3, _metadata(tiny_config))
    checkpoints.save(state, 1, {})
    checkpoints.wait()
    target = abstract(state, one_device_mesh)
    restored = checkpoints.restore(target)
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    assert checkpoints.restore(target.replace(ema=None)).ema is None

    checkpoints.save(state.replace(ema=None), 2, {})
    checkpoints.wait()
    assert checkpoints.restore(target.replace(ema=None)).ema is None
    begun = checkpoints.restore(target)
    assert jax.tree.structure(begun.ema) == jax.tree.structure(state.ema)
    np.testing.assert_array_equal(
        begun.ema["params"]["trained"]["kernel"], state.params["trained"]["kernel"]
    )
    checkpoints.close()


def test_inference_takes_the_average(tiny_config, tmp_path):
    shapes = abstract_variables(make_model(tiny_config.model, 3))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    mask = jax.tree.map(lambda leaf: leaf.ndim > 1, shapes["params"])
    state = create(zeros, optax.identity(), averaged_parameters([mask]))
    state = state.replace(ema=jax.tree.map(lambda leaf: leaf + 1, state.ema))
    checkpoints = Checkpoints(tmp_path, 1, _metadata(tiny_config))
    checkpoints.save(state, 1, {})
    checkpoints.close()
    for averaged in (True, False):
        variables, _ = load_for_inference(tmp_path, averaged=averaged)
        for leaf in jax.tree.leaves(variables["params"]):
            assert float(leaf.max()) == (averaged and leaf.ndim > 1)
