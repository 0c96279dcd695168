"""Which parameters are trained when: `config.train.layers`.

    3+                              from the first step to the last
    heads:2000, 4+:6000, all        until step 2000, until step 6000, to the end

A stage begins with a new state of the optimiser, as if the run had been started again from its
weights; the learning rate follows the steps of the whole run. `models/trainable.py` says what the
words mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import optax
from flax import linen as nn
from jax.sharding import Mesh

from maskrcnn_jax.checkpoints.ema import averaged_parameters
from maskrcnn_jax.checkpoints.state import TrainState
from maskrcnn_jax.layer_groups import parse_layers
from maskrcnn_jax.models.trainable import trainable_mask
from maskrcnn_jax.parallel.mesh import batch_shards, make_state
from maskrcnn_jax.training.config import TrainConfig
from maskrcnn_jax.training.layer_decay import layer_factors
from maskrcnn_jax.training.optimizer import make_optimizer, make_schedule
from maskrcnn_jax.training.train_step import TrainStep, make_train_step

if TYPE_CHECKING:
    from maskrcnn_jax.config import Config


@dataclass(frozen=True, eq=False)
class Stage:
    """A part of a run in which the same parameters are trained.

    Attributes:
        layers: a group of `layer_groups.LAYERS`.
        start: steps done before it.
        trainable: pytree of bool like the parameters.
        optimizer: of these.
        averaged: what has a moving average, in this stage and all others, as
            `ema.averaged_parameters` returns it; None without one.
        train_step: compiled when it is first called.
    """

    layers: str
    start: int
    trainable: Any
    optimizer: optax.GradientTransformation
    averaged: dict[str, Any] | None
    train_step: TrainStep


def make_stages(config: "Config", model: nn.Module, params: Any, mesh: Mesh) -> tuple[Stage, ...]:
    """Returns the stages of a run, in their order.

    Args:
        config: the whole configuration.
        model: the detector.
        params: its parameters, or their shapes.
        mesh: of the devices.

    Raises:
        ValueError: where the configuration makes no stages, optimiser, schedule, parts of a batch
            or average.
    """
    check_accumulation(config.train, mesh)
    schedule = make_schedule(config.train)
    parts = parse_layers(config.train.layers)
    masks = [trainable_mask(params, config.model, layers) for layers, _ in parts]
    decay = config.train.layer_decay
    factors = None if decay == 1 else layer_factors(params, config.model.backbone, decay)
    averaged = averaged_parameters(masks) if config.train.ema_decay else None
    stages = []
    for (layers, start), trainable in zip(parts, masks, strict=True):
        optimizer = make_optimizer(config.train, _after(start, schedule), trainable, factors)
        step = make_train_step(
            model,
            optimizer,
            schedule,
            trainable,
            config.seed,
            mesh,
            accumulate=config.train.accumulate,
            ema_decay=config.train.ema_decay,
        )
        stages.append(Stage(layers, start, trainable, optimizer, averaged, step))
    return tuple(stages)


def never_reached(stages: Sequence[Stage], steps: int) -> list[str]:
    """Returns a sentence for each stage that would begin only when the run has ended."""
    return [
        f"config.train.layers: the run ends before step {stage.start}, where {stage.layers} begins"
        for stage in stages
        if stage.start >= steps
    ]


def stage_at(stages: Sequence[Stage], step: int) -> Stage:
    """Returns the stage that makes the next step when `step` of them are done."""
    return [stage for stage in stages if stage.start <= step][-1]


def stage_of_state(stages: Sequence[Stage], step: int) -> Stage:
    """Returns the stage of which the state after `step` steps is: that of the last of them.

    At the end of a stage it is still that stage's; the change is made before the next step.
    """
    return stage_at(stages, max(step - 1, 0))


def _after(start: int, schedule: optax.Schedule) -> optax.Schedule:
    """Returns the schedule for an optimiser that counts its steps from the start of its stage."""
    return lambda count: schedule(count + start)


def entered(stage: Stage, state: TrainState, mesh: Mesh) -> TrainState:
    """Returns the state with which a later stage begins; the one given is donated."""
    return make_state(
        lambda state: state.replace(opt_state=stage.optimizer.init(state.params)),
        mesh,
        state,
        donate=True,
    )


def check_accumulation(train: TrainConfig, mesh: Mesh) -> None:
    """Checks that the devices have equal parts of an accumulated batch.

    Args:
        train: `config.train`.
        mesh: of the devices.

    Raises:
        ValueError: naming the key.
    """
    shards = batch_shards(mesh)
    if train.batch_size % (train.accumulate * shards):
        raise ValueError(
            f"config.train.accumulate is {train.accumulate}, but {train.batch_size} images "
            f"(config.train.batch_size) on {shards} device(s) cannot be divided into that many "
            "equal "
            f"parts; make it a divisor of {train.batch_size // shards}"
        )
