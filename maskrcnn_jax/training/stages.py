"""Which parameters are trained when: `config.train.layers`.

    3+                              from the first step to the last
    heads:2000, 4+:6000, all        until step 2000, until step 6000, to the end

A stage begins with a new state of the optimiser, as if the run had been started again from its
weights; the learning rate follows the steps of the whole run. `models/trainable.py` says what the
words mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optax
from flax import linen as nn
from jax.sharding import Mesh
from ml_collections import ConfigDict

from maskrcnn_jax.checkpoints.state import TrainState
from maskrcnn_jax.models.ema import averaged_parameters
from maskrcnn_jax.models.trainable import LAYERS, trainable_mask
from maskrcnn_jax.parallel import mesh as sharding
from maskrcnn_jax.training.optimizer import make_optimizer, make_schedule
from maskrcnn_jax.training.train_step import TrainStep, make_train_step


@dataclass(frozen=True, eq=False)
class Stage:
    """A part of a run in which the same parameters are trained.

    Attributes:
        layers: a key of `LAYERS`.
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


def make_stages(config: ConfigDict, model: nn.Module, params: Any, mesh: Mesh) -> tuple[Stage, ...]:
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
    check_stages(config.train, mesh)
    schedule = make_schedule(config.train)
    parts = parse(config.train.layers)
    masks = [trainable_mask(params, config.model, layers) for layers, _ in parts]
    averaged = averaged_parameters(masks) if config.train.ema_decay else None
    stages = []
    for (layers, start), trainable in zip(parts, masks, strict=True):
        optimizer = make_optimizer(config.train, _after(start, schedule), trainable)
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


def parse(text: str) -> list[tuple[str, int]]:
    """Returns the layers of each stage that `config.train.layers` names, and the step before it.

    Raises:
        ValueError: for unknown layers, or steps that are missing, surplus or not increasing.
    """
    stages, start = [], 0
    parts = [part.strip() for part in text.split(",")]
    for number, part in enumerate(parts, 1):
        layers, colon, until = (word.strip() for word in part.partition(":"))
        if layers not in LAYERS:
            _refuse(text, f"{layers!r} is none of them")
        stages.append((layers, start))
        if number == len(parts):
            if colon:
                _refuse(text, f"the last stage goes to the end of the run; take {until!r} away")
        elif until.isdecimal() and int(until) > start:
            start = int(until)
        else:
            _refuse(
                text, f"{part!r} must end in a step above {start}, like {layers}:{start + 1000}"
            )
    return stages


def never_reached(stages: Sequence[Stage], steps: int) -> list[str]:
    """Returns a sentence for each stage that would begin only when the run has ended."""
    return [
        f"train.layers: the run ends before step {stage.start}, where {stage.layers} begins"
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
    return sharding.make_state(
        lambda state: state.replace(opt_state=stage.optimizer.init(state.params)),
        mesh,
        state,
        donate=True,
    )


def check_stages(train: ConfigDict, mesh: Mesh) -> None:
    """Checks the stages, the parts of a batch and the average that a configuration asks for.

    Args:
        train: `config.train`.
        mesh: of the devices.

    Raises:
        ValueError: naming the key.
    """
    parse(train.layers)
    shards = sharding.batch_shards(mesh)
    if train.accumulate < 1 or train.batch_size % (train.accumulate * shards):
        raise ValueError(
            f"config.train.accumulate is {train.accumulate}, but {train.batch_size} images "
            f"(config.train.batch_size) on {shards} device(s) do not fall into so many equal "
            f"parts; make it a divisor of {train.batch_size // shards}"
        )
    if not 0 <= train.ema_decay < 1:
        raise ValueError(
            f"config.train.ema_decay is {train.ema_decay}; it must lie in [0, 1), such as 0.999, "
            f"or be 0 for no average"
        )


def _refuse(text: str, fault: str) -> None:
    raise ValueError(
        f"config.train.layers is {text!r}: {fault}. Give one of {', '.join(LAYERS)}, or stages "
        f"such as 'heads:2000, 4+:6000, all'"
    )
