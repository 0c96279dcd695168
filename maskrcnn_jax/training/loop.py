"""The training run, from top to bottom."""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
from jax.sharding import Mesh

from maskrcnn_jax import config_json
from maskrcnn_jax.checkpoints.layout import LAST
from maskrcnn_jax.checkpoints.manager import Checkpoints
from maskrcnn_jax.checkpoints.state import TrainState
from maskrcnn_jax.files import set_aside, write_atomically
from maskrcnn_jax.models.build import abstract_variables
from maskrcnn_jax.models.mask_rcnn import MaskRCNN
from maskrcnn_jax.parallel import agreement, processes
from maskrcnn_jax.parallel.interrupts import Interrupts
from maskrcnn_jax.parallel.mesh import batch_shards, local_parts
from maskrcnn_jax.parallel.messages import say, warn
from maskrcnn_jax.pretrained.merge import check_fit
from maskrcnn_jax.pretrained.start import Start
from maskrcnn_jax.training import actions, first_state
from maskrcnn_jax.training.actions import Run, TrainingData
from maskrcnn_jax.training.config import TrainConfig
from maskrcnn_jax.training.run.closing_lines import closing_lines
from maskrcnn_jax.training.run.cost import hopeless_on_cpu
from maskrcnn_jax.training.run.emergency import leaves_compilation
from maskrcnn_jax.training.run.lock import only_run_in
from maskrcnn_jax.training.run.log import FOLDER, MetricsLog
from maskrcnn_jax.training.run.preflight import check_writable
from maskrcnn_jax.training.run.profile import Profile
from maskrcnn_jax.training.run.progress import NonFiniteLoss, Progress
from maskrcnn_jax.training.run.schedule import due
from maskrcnn_jax.training.run.summary import describe, parameter_table
from maskrcnn_jax.training.run.watchdog import Watchdog
from maskrcnn_jax.training.settings import check_run
from maskrcnn_jax.training.stages import (
    Stage,
    make_stages,
    never_reached,
    stage_at,
    stage_of_state,
)

if TYPE_CHECKING:
    from maskrcnn_jax.config import Config

# Of which a line is printed before the first of the log, so that one sees that it trains.
_FIRST_STEPS = (1, 2, 5, 10)
# For what is left to do after an error, such as the end of a checkpoint's writing.
_SECONDS_TO_CLEAN_UP = 60.0


def train(
    config: "Config",
    workdir: str | Path,
    data: TrainingData,
    model: MaskRCNN,
    start: Start | None = None,
) -> dict[str, float]:
    """Trains, from the newest checkpoint in the work directory if there is one.

    Args:
        config: the whole configuration, as `start.begin` returns it.
        workdir: gets `config.json`, `checkpoints/`, `best/`, `metrics.jsonl` and `tensorboard/`.
        data: to train and to evaluate on.
        model: the detector that `make_model` makes of the configuration.
        start: as `start.begin` returns it; None: new parameters.

    Returns:
        The metrics of the evaluation after the last step.

    Raises:
        ValueError: where the configuration is faulty or does not fit the checkpoint.
        NonFiniteLoss: naming step, losses and images.
        Interrupted: after SIGTERM or Ctrl-C; the state is saved.
    """
    workdir, start = Path(workdir), start or Start()
    mesh = check_run(config)
    local_batch = config.train.batch_size // batch_shards(mesh) * local_parts(mesh)
    variables = abstract_variables(model)
    if start.weights is not None:
        check_fit(variables, start.weights.variables, start.parts, start.weights.file)
    stages = make_stages(config, model, variables["params"], mesh)
    say(describe(config, mesh, local_batch, data.num_images))
    for line in (*never_reached(stages, config.train.steps), *start.lines):
        say(line)

    check_writable(workdir, first_state.largest(stages, variables), config.train.keep_checkpoints)
    agreement.check_shared(workdir)
    processes.name_checkpoint_in(workdir / LAST)
    facts = {key: getattr(data, key) for key in ("class_names", "category_ids", "num_images")}
    metadata = {"config": config, "init": start.record, **facts}
    with (
        only_run_in(workdir),
        closing(Checkpoints(workdir, config.train.keep_checkpoints, metadata)) as checkpoints,
    ):
        agreement.check_same(_in_common(config, facts, checkpoints))
        if checkpoints.latest_step() is None:
            say(parameter_table(variables["params"], stages[0].trainable))
            say(f"no checkpoint in {checkpoints.workdir / LAST}")
            state = first_state.new(model, stages[0], config.seed, start, data.class_names, mesh)
            step = 0
        else:
            state, step = first_state.newest(checkpoints, config, stages, variables, mesh, facts)
        if jax.process_index() == 0:
            _write_config(workdir / "config.json", config, is_new=step == 0)
        platform = mesh.devices.flat[0].platform
        if line := hopeless_on_cpu(config, platform, config.train.steps - step):
            say(line)
        with _begun(config.train, mesh, data, checkpoints, step) as run:
            try:
                metrics = _train(run, stages, state, step)
            except NonFiniteLoss as error:
                raise actions.with_advice(run, error) from None
    say(closing_lines(workdir, data.report(metrics)))
    return metrics


@contextmanager
def _begun(
    settings: TrainConfig, mesh: Mesh, data: TrainingData, checkpoints: Checkpoints, step: int
) -> Iterator[Run]:
    """Opens what a run needs from a step on, and closes it however the run ends."""
    progress = Progress(step, settings.steps, settings.batch_size)
    with (
        MetricsLog(checkpoints.workdir, step, active=jax.process_index() == 0) as log,
        Profile(settings.profile_steps, checkpoints.workdir / FOLDER, progress.pause) as profile,
        Interrupts() as interrupts,
        closing(data.batches(step)) as batches,
        processes.ends_in_time(_SECONDS_TO_CLEAN_UP),
        Watchdog(progress.activity, settings, checkpoints.workdir),
        leaves_compilation(
            settings.emergency_seconds, progress.activity, checkpoints.workdir / LAST
        ),
    ):
        yield Run(
            settings, mesh, data, checkpoints, log, profile, progress, interrupts, batches, set()
        )


def _train(run: Run, stages: Sequence[Stage], state: TrainState, step: int) -> dict[str, float]:
    """Trains from a step to the last; returns the last evaluation's metrics."""
    settings, stage = run.settings, stage_of_state(stages, step)
    evaluated_step = int(agreement.of_first({"step": run.log.evaluated_step})["step"])
    # Where a run that has stopped early is started again.
    reason = actions.early_end(run) if evaluated_step == step > 0 else ""
    while True:
        if signal_number := run.interrupts.agreed():
            raise actions.stopped(run, signal_number, state, step)
        is_last = step == settings.steps or bool(reason)
        is_evaluated = is_last or due(step, settings.eval_every, after=evaluated_step)
        if is_evaluated or due(step, settings.checkpoint_every):
            actions.save(run, state, step)
        if is_evaluated:
            metrics = actions.evaluate(run, state, step)
            if step > evaluated_step:  # else a finished run, evaluated again
                actions.log_evaluation(run, state, step, metrics)
                reason = actions.early_end(run)
        if is_last or reason:
            actions.finish(run, state, step, reason)
            return metrics

        if stage is not stage_at(stages, step):
            stage = stage_at(stages, step)
            state = actions.enter(run, stage, state, step)
        batch, info = actions.next_batch(run)
        step += 1
        run.profile.before_step(step, state)
        state, step_metrics = actions.do_step(run, stage, state, batch)
        run.profile.after_step(step, state)
        run.progress.add(step, step_metrics, info)
        if due(step, settings.log_every) or step == settings.steps:
            actions.log_steps(run, step, info["epoch"])
        elif step - run.progress.start_step in _FIRST_STEPS and step < settings.log_every:
            actions.say_step(run, step, info["epoch"])


def _write_config(path: Path, config: "Config", is_new: bool) -> None:
    """Writes the configuration; what a new run finds in its place may be somebody's own file."""
    text = json.dumps(config_json.to_json(config), indent=2) + "\n"
    if is_new and path.is_file() and path.read_bytes() != text.encode():
        warn(f"{path} was there before this run: it is now {set_aside(path)}")
    write_atomically(path, text)


def _in_common(config: "Config", facts: dict[str, Any], checkpoints: Checkpoints) -> dict[str, Any]:
    """Returns what must be the same for all processes; where the data lie may differ."""
    own = ("data.train.", "data.val.", "data.workers", "data.engine")
    keys = config_json.flat(config)
    return {
        "the configuration": {k: v for k, v in keys.items() if not k.startswith(own)},
        "classes and number of training images": facts,
        "the newest and the best checkpoint": (checkpoints.latest_step(), checkpoints.best()[0]),
    }
