"""A step in parts: which images are in which part, and what its gradient is the mean of."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from maskrcnn_jax.checkpoints.state import create
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.models.build import abstract_variables, make_model
from maskrcnn_jax.parallel.mesh import make_state
from maskrcnn_jax.training.optimizer import make_optimizer
from maskrcnn_jax.training.stages import make_stages
from maskrcnn_jax.training.train_step import accumulated, make_train_step


def _gradient_of(params, batch_stats, batch, rng):
    """A gradient that tells which images it was made of, in which order and with which key."""
    number = batch["number"].astype(jnp.float32)
    order = 10 * batch_stats + number[0]
    metrics = {"first": number[0], "key": jax.random.uniform(rng)}
    return params * number.sum(), order, metrics


def test_each_part_has_every_nth_image_and_a_key_of_its_own():
    rng = jax.random.key(3)
    batch = {"number": jnp.arange(1, 7), "image_valid": jnp.ones(6, bool)}
    arguments = (jnp.float32(2.0), jnp.float32(0.0), batch, rng)
    gradient, order, metrics = accumulated(_gradient_of, 3)(*arguments)
    assert float(gradient) == pytest.approx(2.0 * (1 + 4 + 2 + 5 + 3 + 6) / 3, rel=1e-6)
    assert float(order) == 123.0  # 1 and 4 first, then 2 and 5, then 3 and 6
    keys = [float(jax.random.uniform(jax.random.fold_in(rng, i))) for i in range(3)]
    assert float(metrics["first"]) == pytest.approx(2.0)
    assert float(metrics["key"]) == pytest.approx(np.mean(keys))
    assert accumulated(_gradient_of, 1) is _gradient_of


def test_a_part_weighs_as_much_as_it_has_valid_images():
    rng, numbers = jax.random.key(3), jnp.arange(1, 7)
    gradient_of = accumulated(_gradient_of, 3)

    def result(*valid):
        batch = {"number": numbers, "image_valid": jnp.array(valid, bool)}
        gradient, _, metrics = gradient_of(jnp.float32(2.0), jnp.float32(0.0), batch, rng)
        return float(gradient), float(metrics["first"])

    # Parts 1 and 4, 2 and 5, 3 and 6.
    assert result(1, 0, 0, 1, 1, 0) == pytest.approx((2 * (5 * 2 + 7 * 1) / 3, (1 * 2 + 2) / 3))
    assert result(0, 0, 1, 0, 0, 1) == pytest.approx((2 * 9, 3))
    assert result(*[0] * 6) == (0, 0)


def test_a_step_in_two_parts_by_hand(toy, base_train, one_device_mesh):
    """The mean of the halves' gradients, then clipped: not the mean of clipped gradients."""
    model, variables, trainable = toy
    set_values(base_train, dict(momentum=0.0, weight_decay=0.0, clip_norm=0.05))
    schedule = optax.constant_schedule(1.0)
    optimizer = make_optimizer(base_train, schedule, trainable)
    image = np.random.default_rng(0).uniform(0, 255, (4, 4, 4, 3)).astype(np.float32)

    def loss_of(trained, part):
        params = {**variables["params"], "trained": trained}
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 0), part)
        prediction = model.apply({**variables, "params": params}, image[part::2])
        return jnp.square(prediction - jax.random.uniform(key)).mean()

    trained = variables["params"]["trained"]
    halves = [jax.value_and_grad(loss_of)(trained, part) for part in (0, 1)]
    losses, gradients = zip(*halves, strict=True)
    mean = jax.tree.map(lambda a, b: (a + b) / 2, *gradients)
    norm = float(optax.global_norm(mean))
    assert norm > base_train.clip_norm
    expected = jax.tree.map(lambda p, g: p - g * base_train.clip_norm / norm, trained, mean)

    step = make_train_step(model, optimizer, schedule, trainable, 0, one_device_mesh, accumulate=2)
    state = make_state(lambda variables: create(variables, optimizer), one_device_mesh, variables)
    state, metrics = step(state, {"image": image, "image_valid": np.ones(4, bool)})
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        state.params["trained"],
        expected,
    )
    assert float(metrics["loss_total"]) == pytest.approx(np.mean(losses), rel=1e-5)
    assert float(metrics["grad_norm"]) == pytest.approx(norm, rel=1e-5)
    assert float(state.batch_stats["seen"]) == 4.0  # two images and then two more
    assert int(state.step) == 1


@pytest.mark.parametrize("accumulate", [3, 4])
def test_a_batch_that_does_not_fall_into_parts_is_named(tiny_config, one_device_mesh, accumulate):
    tiny_config.train.accumulate = accumulate
    model = make_model(tiny_config.model, 3)
    with pytest.raises(
        ValueError, match=rf"config.train.accumulate is {accumulate}, .* a divisor of 2"
    ):
        make_stages(tiny_config, model, abstract_variables(model)["params"], one_device_mesh)
