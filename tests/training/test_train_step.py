"""The step: pure, compiled once for each shape of batch, with the right metrics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.checkpoints.state import create
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.models.build import initial_variables, make_model
from maskrcnn_jax.models.trainable import trainable_mask
from maskrcnn_jax.parallel.mesh import replicated, shard_batch
from maskrcnn_jax.training.optimizer import make_optimizer, make_schedule
from maskrcnn_jax.training.train_step import make_train_step
from tests.end_to_end.tiny import get_config as tiny_get_config


def _images(batch_size, height=4, width=4, seed=0):
    rng = np.random.default_rng(seed)
    return {"image": rng.uniform(0, 255, (batch_size, height, width, 3)).astype(np.float32)}


@pytest.fixture
def toy_step(toy, base_train, one_device_mesh):
    """Gives `(train_step, new state)` of the toy under a seed."""
    model, variables, trainable = toy
    set_values(base_train, dict(learning_rate=0.1, warmup_steps=0, weight_decay=0.01))
    schedule = make_schedule(base_train)
    optimizer = make_optimizer(base_train, schedule, trainable)

    def make(seed=0):
        step = make_train_step(model, optimizer, schedule, trainable, seed, one_device_mesh)
        state = create(jax.tree.map(jnp.copy, variables), optimizer)  # it will be donated
        return step, jax.device_put(state, replicated(one_device_mesh))

    return make


def test_first_step_by_hand(toy, toy_step):
    model, variables, _ = toy
    step, state = toy_step()
    batch = _images(2)

    def loss_of(trained):
        params = {**variables["params"], "trained": trained}
        noise = jax.random.uniform(jax.random.fold_in(jax.random.key(0), 0))
        prediction = model.apply({**variables, "params": params}, batch["image"])
        return jnp.square(prediction - noise).mean()

    trained = variables["params"]["trained"]
    loss, gradient = jax.value_and_grad(loss_of)(trained)
    state, metrics = step(state, batch)

    expected = jax.tree.map(lambda p, g: p - 0.1 * (g + 0.01 * p), trained, gradient)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        state.params["trained"],
        expected,
    )
    norm = np.sqrt(sum(float((g**2).sum()) for g in jax.tree.leaves(gradient)))
    assert float(metrics["loss_total"]) == pytest.approx(float(loss), rel=1e-5)
    assert float(metrics["grad_norm"]) == pytest.approx(norm, rel=1e-5)
    assert float(metrics["learning_rate"]) == pytest.approx(0.1)
    assert float(metrics["rois_sampled"]) == 1.0
    assert int(state.step) == 1
    assert float(state.batch_stats["seen"]) == 2.0
    for before, after in zip(
        jax.tree.leaves(variables["params"]["frozen"]),
        jax.tree.leaves(state.params["frozen"]),
        strict=True,
    ):
        np.testing.assert_array_equal(before, after)


def test_randomness_follows_seed_and_step(toy_step):
    batch = _images(2)
    losses = {}
    for seed in (0, 0, 1):
        step, state = toy_step(seed)
        state, first = step(state, batch)
        state, second = step(state, batch)
        run = (float(first["loss_total"]), float(second["loss_total"]))
        assert losses.setdefault(seed, run) == run
    assert losses[0][0] != losses[1][0]


def test_the_state_is_donated(toy_step):
    step, state = toy_step()
    old = state.params["trained"]["kernel"]
    step(state, _images(2))
    assert old.is_deleted()


def test_compiles_once_for_each_bucket(toy_step):
    step, state = toy_step()
    for round_number in range(3):
        for height, width in ((4, 6), (6, 4)):
            state, _ = step(state, _images(2, height, width, seed=round_number))
    assert step._cache_size() == 2


@pytest.fixture(scope="module")
def detector(one_device_mesh):
    """`(train_step, trainable, function that gives a new state)` of the tiny detector."""
    config = tiny_get_config()
    set_values(config.train, dict(learning_rate=0.02, warmup_steps=0))
    model = make_model(config.model, 3)
    variables = jax.device_get(initial_variables(model, jax.random.key(0)))
    trainable = trainable_mask(variables["params"], config.model, "2+")
    schedule = make_schedule(config.train)
    optimizer = make_optimizer(config.train, schedule, trainable)
    step = make_train_step(model, optimizer, schedule, trainable, 0, one_device_mesh)

    def new_state():
        state = create(jax.tree.map(jnp.array, variables), optimizer)  # it will be donated
        return jax.device_put(state, replicated(one_device_mesh))

    return step, trainable, new_state


def test_the_detector_trains_and_keeps_its_frozen_stem(
    detector, tiny_config, one_device_mesh, random_batch
):
    step, trainable, new_state = detector
    assert not all(jax.tree.leaves(trainable))
    state = new_state()
    before = jax.tree.map(np.asarray, state.params)
    batch = shard_batch(random_batch(2, (64, 64), tiny_config), one_device_mesh)
    totals = []
    for _ in range(12):
        state, metrics = step(state, batch)
        totals.append(float(metrics["loss_total"]))
    assert step._cache_size() == 1
    terms = ("objectness", "rpn_box_reg", "classifier", "box_reg", "mask")
    assert sum(float(metrics[f"loss_{term}"]) for term in terms) == pytest.approx(totals[-1])
    assert np.mean(totals[-3:]) < 0.8 * np.mean(totals[:3])
    changed = jax.tree.map(lambda a, b: bool((a != np.asarray(b)).any()), before, state.params)
    for is_trainable, is_changed in zip(
        jax.tree.leaves(trainable), jax.tree.leaves(changed), strict=True
    ):
        assert is_trainable or not is_changed
    assert changed["mask_head"] != jax.tree.map(lambda _: False, changed["mask_head"])
