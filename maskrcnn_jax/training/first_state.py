"""The state that a run begins with: a new one, with or without weights, or a checkpoint's."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
from jax.sharding import Mesh

from maskrcnn_jax.checkpoints.folder import DamagedCheckpoint
from maskrcnn_jax.checkpoints.layout import LAST
from maskrcnn_jax.checkpoints.manager import Checkpoints
from maskrcnn_jax.checkpoints.resume import check_resumable
from maskrcnn_jax.checkpoints.state import TrainState, create
from maskrcnn_jax.models.build import initial_variables
from maskrcnn_jax.models.config import ALL_PARTS
from maskrcnn_jax.models.mask_rcnn import MaskRCNN
from maskrcnn_jax.parallel.mesh import abstract, make_state
from maskrcnn_jax.parallel.messages import say
from maskrcnn_jax.pretrained.merge import classes_line, merged
from maskrcnn_jax.pretrained.start import Start
from maskrcnn_jax.pretrained.weights import Weights
from maskrcnn_jax.training.stages import Stage, stage_of_state

if TYPE_CHECKING:
    from maskrcnn_jax.config import Config


def new(
    model: MaskRCNN,
    stage: Stage,
    seed: int,
    start: Start,
    class_names: Sequence[str],
    mesh: Mesh,
) -> TrainState:
    """Returns the state before the first step.

    Args:
        model: the detector.
        stage: the first one.
        seed: `config.seed`, of the new parameters.
        start: the weights among them, which fit (`merge.check_fit`).
        class_names: K names.
        mesh: of the devices.
    """
    # Every process computes the same arrays, each for its own devices.
    variables = jax.device_get(initial_variables(model, jax.random.key(seed)))
    if start.weights is None:
        say(f"starting with new parameters, seed {seed}")
    else:
        variables = merged(
            variables,
            start.weights.variables,
            start.parts,
            class_names,
            start.weights.class_names,
        )
        parts = [part for part in ALL_PARTS if part in variables["params"]]
        say(_words(start, start.weights, seed, class_names, parts))
    return make_state(partial(_create, stage), mesh, variables)


def _words(
    start: Start, weights: Weights, seed: int, class_names: Sequence[str], parts: Sequence[str]
) -> str:
    """Returns what was taken from where, and what is new of all parts."""
    lines = [
        f"starting from {weights.file} ({weights.kind} {weights.part}, sha256 "
        f"{weights.sha256[:12]}); taken: {', '.join(start.parts)}"
    ]
    if rest := [part for part in parts if part not in start.parts]:
        lines.append(f"new, seed {seed}: {', '.join(rest)}")
    if {"box_head", "mask_head"} & set(start.parts):
        lines.append(classes_line(class_names, weights.class_names))
    return "\n  ".join(lines)


def newest(
    checkpoints: Checkpoints,
    config: "Config",
    stages: Sequence[Stage],
    variables: dict[str, Any],
    mesh: Mesh,
    data: dict[str, Any],
) -> tuple[TrainState, int]:
    """Returns the state of the newest checkpoint that can be read, and its step.

    Those that cannot are set aside, each with a warning.

    Args:
        checkpoints: of the run, at least one.
        config: the whole configuration.
        stages: of the run.
        variables: the model's shapes and dtypes.
        mesh: of the devices.
        data: `class_names`, `category_ids` and `num_images` of the training data.

    Raises:
        ValueError: where the configuration or the data do not fit the checkpoint, or none can be
            read.
    """
    while True:
        step = checkpoints.latest_step()
        assert step is not None
        stage = stage_of_state(stages, step)
        expected = jax.eval_shape(partial(_create, stage), variables)
        try:
            return restored(checkpoints, config, expected, mesh, data), step
        except DamagedCheckpoint as damaged:
            checkpoints.set_aside(damaged)


def _create(stage: Stage, variables: dict[str, Any]) -> TrainState:
    return create(variables, stage.optimizer, stage.averaged)


def restored(
    checkpoints: Checkpoints,
    config: "Config",
    expected: TrainState,
    mesh: Mesh,
    data: dict[str, Any],
) -> TrainState:
    """Returns the state of the newest checkpoint, and says what is other than it was.

    Args:
        checkpoints: of the run, at least one.
        config: the whole configuration.
        expected: the shapes and dtypes of the state.
        mesh: of the devices.
        data: `class_names`, `category_ids` and `num_images` of the training data.

    Raises:
        ValueError: where the configuration or the data do not fit the checkpoint.
        DamagedCheckpoint: where it cannot be read.
    """
    step, saved = checkpoints.latest_step(), checkpoints.metadata()
    assert step is not None
    where = checkpoints.workdir / LAST
    otherwise = f"start from its weights: --config.init={checkpoints.workdir} and another --workdir"
    for key in ("class_names", "category_ids"):
        if saved[key] != tuple(data[key]):
            raise ValueError(
                f"the checkpoint in {where} was trained with {key} {saved[key]}, but the data have "
                f"{tuple(data[key])}; give the same data, or {otherwise}"
            )
    changes = check_resumable(config, saved["config"], str(where))
    if step > config.train.steps:
        raise ValueError(
            f"the checkpoint in {where} is of step {step}, beyond config.train.steps = "
            f"{config.train.steps}; raise that, or {otherwise}"
        )
    if saved["num_images"] != data["num_images"]:
        changes.append(
            f"training images: {saved['num_images']} -> {data['num_images']} (their order is "
            f"another)"
        )
    if bool(config.train.ema_decay) != bool(saved["config"].get("train", {}).get("ema_decay")):
        average = "starts from the weights" if config.train.ema_decay else "is dropped"
        changes.append(f"the moving average {average}")
    state = checkpoints.restore(abstract(expected, mesh))
    say(f"resuming from step {step}, restored from {where / str(step)}")
    best_step, _ = checkpoints.best()
    if best_step is not None and best_step > step:
        say(
            f"  the best checkpoint is of step {best_step}, ahead of this one: it stays, and is "
            f"replaced where an evaluation is better"
        )
    for change in changes:
        say(f"  changed since then: {change}")
    return state


def largest(stages: Sequence[Stage], variables: dict[str, Any]) -> TrainState:
    """Returns the shapes and dtypes of the state in that stage in which it is largest.

    Args:
        stages: of the run.
        variables: the model's shapes and dtypes.
    """
    states = (jax.eval_shape(partial(_create, stage), variables) for stage in stages)
    return max(states, key=lambda state: sum(leaf.size for leaf in jax.tree.leaves(state)))
