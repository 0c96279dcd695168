"""The optimiser and its learning-rate schedule, built from `config.train`."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from maskrcnn_jax.training.config import TrainConfig


def make_schedule(train: TrainConfig) -> optax.Schedule:
    """Returns the learning rate as a function of the number of steps done.

    A linear warm-up from `warmup_factor` to 1 over `warmup_steps` multiplies either a staircase
    (`steps`: times `decay_factor` from each of `decay_steps` on) or half a cosine (`cosine`: from
    the end of the warm-up down to 0 at `steps`). The first step is step 0. As Detectron2 does. What
    is multiplied is `full_rate`.

    Args:
        train: `config.train`.
    """
    decay = _staircase(train) if train.schedule == "steps" else _cosine(train)
    rate = full_rate(train)

    def learning_rate(step):
        step = jnp.asarray(step, jnp.float32)
        done = jnp.minimum(step / max(train.warmup_steps, 1), 1.0) if train.warmup_steps else 1.0
        warmup = train.warmup_factor + (1.0 - train.warmup_factor) * done
        return rate * warmup * decay(step)

    return learning_rate


def full_rate(train: TrainConfig) -> float:
    """Returns the learning rate after the warm-up and before any decay.

    That is `learning_rate`, which `learning_rate_rule` scales with the batch: linear (Goyal et al.
    2017) or by the square root (Krizhevsky 2014).

    Args:
        train: `config.train`.
    """
    powers = {"none": 0.0, "linear": 1.0, "sqrt": 0.5}
    ratio = train.batch_size / train.reference_batch_size
    return train.learning_rate * ratio ** powers[train.learning_rate_rule]


def _staircase(train: TrainConfig) -> optax.Schedule:
    boundaries = jnp.asarray(tuple(train.decay_steps), jnp.float32)
    return lambda step: train.decay_factor ** jnp.sum(step >= boundaries)


def _cosine(train: TrainConfig) -> optax.Schedule:
    length = max(train.steps - train.warmup_steps, 1)

    def decay(step):
        share = jnp.clip((step - train.warmup_steps) / length, 0.0, 1.0)
        return 0.5 * (1.0 + jnp.cos(jnp.pi * share))

    return decay


def make_optimizer(
    train: TrainConfig, schedule: optax.Schedule, trainable: Any, factors: Any = None
) -> optax.GradientTransformation:
    """Returns the optimiser; it leaves frozen parameters alone and keeps no state for them.

    `sgd` is torch's: the weight decay joins the gradient before the momentum, and the learning
    rate multiplies the momentum. `adamw` is torch's with beta1 = `momentum` and beta2 = 0.999.
    `lamb` (You et al. 2020) gives each array of Adam's update, weight decay included, the norm of
    the array that it changes. With `clip_norm` the whole gradient is first scaled down to that
    norm. Without `decay_norm_and_bias` norms, biases and a ViT's positions have no weight decay.

    Args:
        train: `config.train`.
        schedule: as `make_schedule` returns it.
        trainable: pytree of bool like the parameters.
        factors: pytree likewise, of what multiplies the learning rate of each; None: 1.
    """
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
    update = optax.chain(
        clip,
        *direction,
        optax.scale_by_learning_rate(schedule),
        *([] if factors is None else [_scaled_by(factors)]),
    )
    labels = jax.tree.map(lambda is_trainable: "train" if is_trainable else "freeze", trainable)
    return optax.partition({"train": update, "freeze": optax.set_to_zero()}, labels)


def _scaled_by(factors: Any) -> optax.GradientTransformation:
    def is_frozen(leaf):
        return isinstance(leaf, optax.MaskedNode)

    def scaled(updates, _):
        return jax.tree.map(
            lambda update, factor: update if is_frozen(update) else factor * update,
            updates,
            factors,
            is_leaf=is_frozen,
        )

    return optax.stateless(scaled)


def _kernels(params: Any) -> Any:
    """Scales and biases have one axis; a ViT's positions are a bias of each place."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf.ndim > 1 and path[-1].key != "positions", params
    )
