"""The optimiser and its learning-rate schedule, built from `config.train`."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict


def make_schedule(train: ConfigDict) -> optax.Schedule:
    """Returns the learning rate as a function of the number of steps done.

    A linear warm-up from `warmup_factor` to 1 over `warmup_steps` multiplies either a staircase
    (`steps`: times `decay_factor` from each of `decay_steps` on) or half a cosine (`cosine`: from
    the end of the warm-up down to 0 at `steps`). The first step is step 0. As Detectron2 does. What
    is multiplied is `full_rate`.

    Args:
        train: `config.train`.

    Raises:
        ValueError: where a value makes no schedule.
    """
    _check_schedule(train)
    decay = _staircase(train) if train.schedule == "steps" else _cosine(train)
    rate = full_rate(train)

    def learning_rate(step):
        step = jnp.asarray(step, jnp.float32)
        done = jnp.minimum(step / max(train.warmup_steps, 1), 1.0) if train.warmup_steps else 1.0
        warmup = train.warmup_factor + (1.0 - train.warmup_factor) * done
        return rate * warmup * decay(step)

    return learning_rate


def full_rate(train: ConfigDict) -> float:
    """Returns the learning rate after the warm-up and before any decay.

    That is `learning_rate`, which `learning_rate_rule` scales with the batch: linear (Goyal et al.
    2017) or by the square root (Krizhevsky 2014).

    Args:
        train: `config.train`.

    Raises:
        ValueError: for a rule or a reference that does not exist.
    """
    powers = {"none": 0.0, "linear": 1.0, "sqrt": 0.5}
    if train.learning_rate_rule not in powers:
        raise ValueError(
            f"config.train.learning_rate_rule is {train.learning_rate_rule!r}; it must be one of "
            f"{', '.join(powers)}"
        )
    if train.reference_batch_size < 1:
        raise ValueError(
            f"config.train.reference_batch_size is {train.reference_batch_size}; at least 1"
        )
    ratio = train.batch_size / train.reference_batch_size
    return train.learning_rate * ratio ** powers[train.learning_rate_rule]


def _staircase(train: ConfigDict) -> optax.Schedule:
    boundaries = jnp.asarray(tuple(train.decay_steps), jnp.float32)
    return lambda step: train.decay_factor ** jnp.sum(step >= boundaries)


def _cosine(train: ConfigDict) -> optax.Schedule:
    length = max(train.steps - train.warmup_steps, 1)

    def decay(step):
        share = jnp.clip((step - train.warmup_steps) / length, 0.0, 1.0)
        return 0.5 * (1.0 + jnp.cos(jnp.pi * share))

    return decay


def make_optimizer(
    train: ConfigDict, schedule: optax.Schedule, trainable: Any
) -> optax.GradientTransformation:
    """Returns the optimiser; it leaves frozen parameters alone and keeps no state for them.

    `sgd` is torch's: the weight decay joins the gradient before the momentum, and the learning
    rate multiplies the momentum. `adamw` is torch's with beta1 = `momentum` and beta2 = 0.999.
    `lamb` (You et al. 2020) gives each array of Adam's update, weight decay included, the norm of
    the array that it changes. With `clip_norm` the whole gradient is first scaled down to that
    norm. Without `decay_norm_and_bias` only kernels have weight decay.

    Args:
        train: `config.train`.
        schedule: as `make_schedule` returns it.
        trainable: pytree of bool like the parameters.

    Raises:
        ValueError: for an optimiser or a value that does not exist.
    """
    check_optimizer(train)
    decay = optax.add_decayed_weights(
        train.weight_decay, mask=None if train.decay_norm_and_bias else _kernels
    )
    direction = {
        "sgd": (decay, optax.trace(train.momentum) if train.momentum else optax.identity()),
        "adamw": (optax.scale_by_adam(b1=train.momentum, b2=0.999), decay),
        "lamb": (
            optax.scale_by_adam(b1=train.momentum, b2=0.999, eps=1e-6),
            decay,
            optax.scale_by_trust_ratio(),
        ),
    }[train.optimizer]
    clip = optax.clip_by_global_norm(train.clip_norm) if train.clip_norm else optax.identity()
    update = optax.chain(clip, *direction, optax.scale_by_learning_rate(schedule))
    labels = jax.tree.map(lambda is_trainable: "train" if is_trainable else "freeze", trainable)
    return optax.partition({"train": update, "freeze": optax.set_to_zero()}, labels)


def _kernels(params: Any) -> Any:
    """Scales and biases have one axis."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)


def _check_schedule(train: ConfigDict) -> None:
    if train.schedule not in ("steps", "cosine"):
        raise ValueError(f"config.train.schedule is {train.schedule!r}; it must be steps or cosine")
    if train.learning_rate <= 0:
        raise ValueError(
            f"config.train.learning_rate is {train.learning_rate}; it must be above zero"
        )
    for key in ("steps", "warmup_steps"):
        if train[key] < 0:
            raise ValueError(f"config.train.{key} is {train[key]}; it must not be negative")
    if list(train.decay_steps) != sorted(train.decay_steps):
        raise ValueError(
            f"config.train.decay_steps is {tuple(train.decay_steps)}; the steps must increase"
        )


def check_optimizer(train: ConfigDict) -> None:
    """Checks which optimiser there is to be, and its values.

    Args:
        train: `config.train`.

    Raises:
        ValueError: naming the key.
    """
    if train.optimizer not in ("sgd", "adamw", "lamb"):
        raise ValueError(
            f"config.train.optimizer is {train.optimizer!r}; it must be sgd, adamw or lamb"
        )
    if not 0 <= train.momentum < 1:
        raise ValueError(f"config.train.momentum is {train.momentum}; it must lie in [0, 1)")
    for key in ("weight_decay", "clip_norm"):
        if train[key] < 0:
            raise ValueError(f"config.train.{key} is {train[key]}; it must not be negative")
