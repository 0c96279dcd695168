"""Training in bfloat16: convolutions compute in it, and nothing is kept in it."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.checkpoints.state import create
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.models.build import initial_variables, make_model
from maskrcnn_jax.parallel.mesh import make_state, shard_batch
from maskrcnn_jax.training.stages import make_stages


@pytest.fixture
def begun(tiny_config, one_device_mesh, random_batch):
    """The compiled-to-be step, the new state and a batch, in two parts and with an average."""
    tiny_config.model.dtype = "bfloat16"
    set_values(
        tiny_config.train,
        dict(learning_rate=0.02, warmup_steps=0, batch_size=4, accumulate=2, ema_decay=0.9),
    )
    model = make_model(tiny_config.model, 3)
    variables = initial_variables(model, jax.random.key(0))
    (stage,) = make_stages(tiny_config, model, variables["params"], one_device_mesh)
    state = make_state(
        lambda variables: create(variables, stage.optimizer, stage.averaged),
        one_device_mesh,
        variables,
    )
    batch = shard_batch(random_batch(4, (64, 64), tiny_config), one_device_mesh)
    return stage.train_step, state, batch


def _assert_float32(state, metrics):
    for tree in (state, metrics):
        dtypes = {leaf.dtype for leaf in jax.tree.leaves(tree)}
        assert dtypes <= {jnp.dtype("float32"), jnp.dtype("int32")}  # the latter of the steps


def test_convolutions_are_bfloat16_and_all_that_stays_is_float32(begun):
    step, state, batch = begun
    _assert_float32(*jax.eval_shape(step, state, batch))
    text = step.lower(state, batch).as_text()
    operands = re.findall(r"stablehlo\.convolution.* : \((.*)\) ->", text)
    assert len(operands) > 40  # there and back
    assert all("f32" not in types for types in operands)


@pytest.mark.slow
def test_a_detector_learns_in_bfloat16(begun):
    step, state, batch = begun
    totals = []
    for _ in range(12):
        state, metrics = step(state, batch)
        totals.append(float(metrics["loss_total"]))
    assert np.mean(totals[-3:]) < 0.8 * np.mean(totals[:3])
    _assert_float32(state, metrics)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(state))
