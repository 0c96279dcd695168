"""Learning-rate schedules and updates against values worked out by hand and in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.training.optimizer import full_rate, make_optimizer, make_schedule


def test_staircase_with_warmup(base_train):
    set_values(
        base_train,
        dict(
            learning_rate=0.1,
            warmup_steps=4,
            warmup_factor=0.2,
            decay_steps=(6, 8),
            decay_factor=0.1,
        ),
    )
    schedule = make_schedule(base_train)
    rates = [float(schedule(step)) for step in range(10)]
    expected = [0.02, 0.04, 0.06, 0.08, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    np.testing.assert_allclose(rates, expected, rtol=1e-5)


def test_cosine_reaches_zero_at_the_last_step(base_train):
    set_values(
        base_train,
        dict(schedule="cosine", steps=12, learning_rate=2.0, warmup_steps=4, warmup_factor=0.5),
    )
    schedule = make_schedule(base_train)
    rates = [float(schedule(step)) for step in (0, 2, 4, 8, 12)]
    np.testing.assert_allclose(rates, [1.0, 1.5, 2.0, 1.0, 0.0], atol=1e-6)


def test_no_warmup_starts_with_the_whole_rate(base_train):
    set_values(base_train, dict(learning_rate=0.3, warmup_steps=0))
    assert float(make_schedule(base_train)(0)) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("rule", "batch_size", "rate"),
    [("none", 64, 0.02), ("linear", 64, 0.08), ("linear", 4, 0.005), ("sqrt", 64, 0.04)],
)
def test_the_rate_follows_the_batch_by_the_rule(base_train, rule, batch_size, rate):
    set_values(base_train, dict(batch_size=batch_size, learning_rate_rule=rule, warmup_steps=0))
    assert base_train.learning_rate == 0.02
    assert full_rate(base_train) == pytest.approx(rate)
    assert float(make_schedule(base_train)(0)) == pytest.approx(rate)


def _numpy_sgd(p, g, rates, momentum, decay):
    """torch.optim.SGD's update, step by step."""
    buffer = np.zeros_like(p)
    for rate in rates:
        buffer = momentum * buffer + g + decay * p
        p = p - rate * buffer
    return p


def _numpy_adamw(p, g, rates, beta1, decay):
    """torch.optim.AdamW's update, step by step."""
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, rate in enumerate(rates, 1):
        m = beta1 * m + (1 - beta1) * g
        v = 0.999 * v + 0.001 * g**2
        adam = (m / (1 - beta1**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        p = p - rate * (adam + decay * p)
    return p


def _numpy_lamb(p, g, rates, beta1, decay):
    """You et al. 2020, algorithm 2, with the identity for its phi."""
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, rate in enumerate(rates, 1):
        m = beta1 * m + (1 - beta1) * g
        v = 0.999 * v + 0.001 * g**2
        update = (m / (1 - beta1**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-6) + decay * p
        p = p - rate * np.linalg.norm(p) / np.linalg.norm(update) * update
    return p


@pytest.mark.parametrize(
    ("name", "reference"),
    [("sgd", _numpy_sgd), ("adamw", _numpy_adamw), ("lamb", _numpy_lamb)],
)
def test_updates_equal_numpy_and_leave_frozen_parameters(base_train, name, reference):
    set_values(
        base_train,
        dict(optimizer=name, learning_rate=0.1, momentum=0.8, weight_decay=0.05, warmup_steps=3),
    )
    schedule = make_schedule(base_train)
    start = np.float32([1.0, -2.0, 3.0])
    gradient = np.float32([0.5, 0.25, -1.0])
    params = {"free": jnp.asarray(start), "fixed": jnp.asarray(start)}
    optimizer = make_optimizer(base_train, schedule, {"free": True, "fixed": False})
    opt_state = optimizer.init(params)
    for _ in range(5):
        gradients = {"free": jnp.asarray(gradient), "fixed": jnp.asarray(gradient)}
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        params = optax.apply_updates(params, updates)
    rates = [float(schedule(step)) for step in range(5)]
    expected = reference(start, gradient, rates, 0.8, 0.05)
    np.testing.assert_allclose(params["free"], expected, rtol=1e-5)
    np.testing.assert_array_equal(params["fixed"], start)


def test_frozen_parameters_have_no_optimizer_state(base_train):
    params = {"free": jnp.zeros(7), "fixed": jnp.zeros(1000)}
    for name, vectors in (("sgd", 1), ("adamw", 2), ("lamb", 2)):
        base_train.optimizer = name
        optimizer = make_optimizer(
            base_train, optax.constant_schedule(1.0), dict(free=True, fixed=False)
        )
        sizes = [leaf.size for leaf in jax.tree.leaves(optimizer.init(params))]
        assert sum(size for size in sizes if size > 1) == 7 * vectors


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb"])
def test_norms_and_biases_can_go_without_weight_decay(base_train, name):
    """Nor have the positions of a ViT's patches, which are a bias of each place; Detectron2 has
    weight decay on the relative ones."""
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2), "scale": jnp.ones(2)}
    params |= {"positions": jnp.ones((2, 2, 2)), "relative_rows": jnp.ones((3, 2))}
    moved = {}
    for everywhere in (True, False):
        set_values(
            base_train, dict(optimizer=name, weight_decay=0.5, decay_norm_and_bias=everywhere)
        )
        optimizer = make_optimizer(
            base_train, optax.constant_schedule(1.0), jax.tree.map(lambda _: True, params)
        )
        no_gradient = jax.tree.map(jnp.zeros_like, params)
        updates, _ = optimizer.update(no_gradient, optimizer.init(params), params)
        moved[everywhere] = {key for key, update in updates.items() if update.any()}
    assert moved == {True: set(params), False: {"kernel", "relative_rows"}}


def test_clipping_scales_the_whole_gradient_of_the_trainable_parameters(base_train):
    set_values(base_train, dict(momentum=0.0, weight_decay=0.0, clip_norm=1.0))
    mask = {"a": True, "b": True, "fixed": False}
    optimizer = make_optimizer(base_train, optax.constant_schedule(1.0), mask)
    params = {key: jnp.zeros(1) for key in mask}
    gradient = {"a": jnp.array([3.0]), "b": jnp.array([-4.0]), "fixed": jnp.array([1e6])}
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    np.testing.assert_allclose([updates["a"][0], updates["b"][0]], [-0.6, 0.8], rtol=1e-6)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schedule", "linear"),
        ("learning_rate", 0.0),
        ("warmup_steps", -1),
        ("decay_steps", (8, 6)),
        ("optimizer", "adam"),
        ("learning_rate_rule", "square"),
        ("reference_batch_size", 0),
        ("momentum", 1.0),
        ("weight_decay", -1e-4),
        ("clip_norm", -1.0),
    ],
)
def test_impossible_values_are_named(base_train, key, value):
    setattr(base_train, key, value)
    with pytest.raises(ValueError, match=f"config.train.{key} is"):
        base_train.validate()
