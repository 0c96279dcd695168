"""The training run, from top to bottom."""

import json
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from maskrcnn_jax import config_json
from maskrcnn_jax.checkpoints.best import is_better
from maskrcnn_jax.checkpoints.manager import LAST, Checkpoints
from maskrcnn_jax.checkpoints.state import TrainState
from maskrcnn_jax.files import set_aside, write_atomically
from maskrcnn_jax.models.build import abstract_variables, make_model
from maskrcnn_jax.parallel import agreement
from maskrcnn_jax.parallel import mesh as sharding
from maskrcnn_jax.parallel import processes as distributed
from maskrcnn_jax.parallel.exit_notice import newest_checkpoint
from maskrcnn_jax.parallel.interrupts import Interrupted, Interrupts
from maskrcnn_jax.parallel.messages import say, say_of_all, warn
from maskrcnn_jax.pretrained.merge import check_fit
from maskrcnn_jax.pretrained.start import Start
from maskrcnn_jax.training import first_state
from maskrcnn_jax.training.early_stopping import reason_to_stop
from maskrcnn_jax.training.run.closing_lines import farewell
from maskrcnn_jax.training.run.emergency import leaves_in_time
from maskrcnn_jax.training.run.lock import only_run_in
from maskrcnn_jax.training.run.log import MetricsLog
from maskrcnn_jax.training.run.preflight import check_writable
from maskrcnn_jax.training.run.progress import COUNTS, Progress
from maskrcnn_jax.training.run.schedule import due
from maskrcnn_jax.training.run.summary import describe, parameter_table
from maskrcnn_jax.training.run.watchdog import Watchdog
from maskrcnn_jax.training.settings import check_run
from maskrcnn_jax.training.stages import (
    Stage,
    entered,
    make_stages,
    never_reached,
    stage_at,
    stage_of_state,
)
from maskrcnn_jax.training.train_step import TrainStep

# For what is left to do after an error, such as the end of a checkpoint's writing.
_SECONDS_TO_CLEAN_UP = 60.0


@dataclass(frozen=True)
class TrainingData:
    """What the run needs of its data, given from outside: this package knows no tf.data.

    Attributes:
        class_names: K names.
        category_ids: K ids, as results are to be written.
        num_images: in the training set.
        batches: gives, from a step on, this process's `(batch, info)` without end, as
            `data.pipeline.train_batches` does.
        evaluate: gives the metrics of variables, as `evaluation.evaluate` does; the second
            argument is to be called before each batch, equally often in all processes.
    """

    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    num_images: int
    batches: Callable[[int], Iterator[tuple[dict, dict]]]
    evaluate: Callable[[dict[str, Any], Callable[[], None]], dict[str, float]]


def train(
    config: ConfigDict, workdir: str | Path, data: TrainingData, start: Start | None = None
) -> dict[str, float]:
    """Trains, from the newest checkpoint in the work directory if there is one.

    Args:
        config: the whole configuration, as `initial.begin` returns it.
        workdir: gets `config.json`, `checkpoints/`, `best/`, `metrics.jsonl` and `tensorboard/`.
        data: to train and to evaluate on.
        start: as `initial.begin` returns it; None: new parameters.

    Returns:
        The metrics of the evaluation after the last step.

    Raises:
        ValueError: where the configuration is faulty or does not fit the checkpoint.
        NonFiniteLoss: naming step, losses and images.
        Interrupted: after SIGTERM or Ctrl-C; the state is saved.
    """
    workdir, start = Path(workdir), start or Start()
    mesh = check_run(config)
    local_batch = (
        config.train.batch_size // sharding.batch_shards(mesh) * sharding.local_parts(mesh)
    )
    model = make_model(config.model, len(data.class_names), config.train.remat)
    variables = abstract_variables(model)
    if start.weights is not None:
        check_fit(variables, start.weights.variables, start.parts, start.weights.file)
    stages = make_stages(config, model, variables["params"], mesh)
    say(describe(config, mesh, local_batch, data.num_images))
    say(parameter_table(variables["params"], stages[0].trainable))
    for line in (*never_reached(stages, config.train.steps), *start.lines):
        say(line)

    check_writable(workdir, first_state.largest(stages, variables), config.train.keep_checkpoints)
    agreement.check_shared(workdir)
    distributed.name_checkpoint_in(workdir / LAST)
    facts = {key: getattr(data, key) for key in ("class_names", "category_ids", "num_images")}
    metadata = {"config": config, "init": start.record, **facts}
    with (
        only_run_in(workdir),
        closing(Checkpoints(workdir, config.train.keep_checkpoints, metadata)) as checkpoints,
    ):
        agreement.check_same(_in_common(config, facts, checkpoints))
        if checkpoints.latest_step() is None:
            say(f"no checkpoint in {checkpoints.workdir / LAST}")
            state = first_state.new(model, stages[0], config.seed, start, data.class_names, mesh)
            step = 0
        else:
            state, step = first_state.newest(checkpoints, config, stages, variables, mesh, facts)
        if jax.process_index() == 0:
            _write_config(workdir / "config.json", config, is_new=step == 0)
        metrics = _run(config, data, checkpoints, stages, state, step, mesh)
    say(farewell(workdir, metrics))
    return metrics


def _run(
    config: ConfigDict,
    data: TrainingData,
    checkpoints: Checkpoints,
    stages: Sequence[Stage],
    state: TrainState,
    step: int,
    mesh: Mesh,
) -> dict[str, float]:
    """Trains from a step to the last; returns the last evaluation's metrics."""
    settings = config.train
    progress = Progress(step, settings.steps, settings.batch_size)
    stage, buckets = stage_of_state(stages, step), set()  # that have been compiled
    with (
        MetricsLog(checkpoints.workdir, step, active=jax.process_index() == 0) as log,
        Interrupts() as interrupts,
        closing(data.batches(step)) as batches,
        distributed.ends_in_time(_SECONDS_TO_CLEAN_UP),
        Watchdog(progress.activity, settings, checkpoints.workdir),
    ):
        evaluated_step = int(agreement.of_first({"step": log.evaluated_step})["step"])
        # Where a run that has stopped early is started again.
        reason = _early_end(log, settings) if evaluated_step == step > 0 else ""
        while True:
            stop = interrupts.agreed()  # once: a signal may come between the lines below
            is_last = step == settings.steps or bool(reason)
            is_evaluated = is_last or due(step, settings.eval_every, after=evaluated_step)
            is_saved = is_evaluated or due(step, settings.checkpoint_every)
            if stop:
                raise _stopped(stop, checkpoints, state, step, progress, settings)
            if is_saved:
                progress.fetch()  # a state whose loss is not finite is never saved
                with progress.activity.doing("a checkpoint"):
                    checkpoints.save(state, step, progress.latest)
            if is_evaluated:
                with progress.pause("an evaluation"):
                    metrics = _evaluate(
                        data, checkpoints, state, step, progress, settings, interrupts
                    )
                if step > evaluated_step:  # else a finished run, evaluated once more
                    log.write("eval", step, metrics)
                    reason = _early_end(log, settings)
            if is_last or reason:
                if step < settings.steps:
                    say(reason)
                with progress.pause("the last checkpoint"):  # there is no step any more
                    checkpoints.check_complete(state, step, progress.latest)
                return metrics

            if stage is not (next_stage := stage_at(stages, step)):
                with progress.pause("the next stage's state"):
                    state, buckets = entered(next_stage, state, mesh), set()
                    stage = next_stage
                say(f"step {step}: what is trained changes to {stage.layers}")
            with progress.waiting():
                batch, info = next(batches)
            for fault in info["skipped"]:
                say_of_all(f"skipped {fault}")
            state, step_metrics = _step(
                stage.train_step, state, batch, mesh, buckets, checkpoints, progress
            )
            step += 1
            progress.add(step, step_metrics, info)
            if due(step, settings.log_every) or step == settings.steps:
                progress.fetch()
                row = progress.row(step, info["epoch"])
                row |= agreement.total({key: row[key] for key in COUNTS})
                row["checkpoint_failures"] = float(checkpoints.failures())
                log.write("train", step, row)
                say(progress.line(step, row))


def _step(
    train_step: TrainStep,
    state: TrainState,
    batch: dict[str, Any],
    mesh: Mesh,
    buckets: set[tuple[int, int]],
    checkpoints: Checkpoints,
    progress: Progress,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Dispatches one step; says how long it took to compile where its bucket is new.

    With the first bucket of a stage, what saving needs is compiled, too: no step waits for it then,
    nor does a state that has to be saved in a hurry.
    """
    batch = sharding.shard_batch(batch, mesh)
    bucket = batch["image"].shape[1:3]
    if bucket in buckets:
        return train_step(state, batch)
    buckets.add(bucket)
    with progress.pause("compilation"):
        began = time.monotonic()
        result = train_step(state, batch)  # returns when it has compiled
        seconds = time.monotonic() - began
        if len(buckets) == 1:
            checkpoints.prepare(result[0])
    say(f"bucket {bucket[0]}x{bucket[1]}: compiled in {seconds:.1f} s")
    return result


def _evaluate(
    data: TrainingData,
    checkpoints: Checkpoints,
    state: TrainState,
    step: int,
    progress: Progress,
    settings: ConfigDict,
    interrupts: Interrupts,
) -> dict[str, float]:
    """Evaluates, and keeps the state if it is the best so far."""
    try:
        with interrupts.at_once() as check:
            metrics = agreement.of_first(data.evaluate(state.eval_variables, check))
    except Interrupted as interrupted:
        raise _stopped(
            interrupted.signal_number, checkpoints, state, step, progress, settings
        ) from None
    metric = settings.best_metric
    is_best = checkpoints.save_best(state, step, metrics, metric)
    is_best = is_best and is_better(metric, metrics[metric], None)  # the first is kept in any case
    shown = dict.fromkeys(("bbox/AP", "segm/AP", "loss_total", metric))
    words = "  ".join(f"{key} {metrics[key]:.4f}" for key in shown if key in metrics)
    say(f"evaluation at step {step}: {words}{'  (best so far)' if is_best else ''}")
    return metrics


def _early_end(log: MetricsLog, settings: ConfigDict) -> str:
    """Returns why the run ends before its last step, empty where it goes on; process 0 decides."""
    reason = reason_to_stop(log.evaluations, settings)
    ends = agreement.of_first({"ends": bool(reason)})["ends"]
    return (reason or "stopped early") if ends else ""


def _stopped(
    signal_number: int,
    checkpoints: Checkpoints,
    state: TrainState,
    step: int,
    progress: Progress,
    settings: ConfigDict,
) -> Interrupted:
    """Saves the state and returns the exception that ends an interrupted run, once all is on disk.

    Where that takes too long, the process leaves instead.
    """
    folder = checkpoints.workdir / LAST
    with leaves_in_time(settings.emergency_seconds, signal_number, folder):
        progress.fetch()  # a state whose loss is not finite is never saved
        checkpoints.save(state, step, progress.latest)
        checkpoints.wait()
    saved = f"saved in {folder}"
    if checkpoints.latest_step() != step:
        saved = f"NOT saved. {newest_checkpoint(folder)}"
    name = signal.Signals(signal_number).name
    return Interrupted(
        signal_number,
        f"stopped by {name} after step {step}; {saved.removesuffix('.')}. The same command goes on "
        f"from there",
    )


def _write_config(path: Path, config: ConfigDict, is_new: bool) -> None:
    """Writes the configuration; what a new run finds in its place may be somebody's own file."""
    text = json.dumps(config_json.to_json(config), indent=2) + "\n"
    if is_new and path.is_file() and path.read_bytes() != text.encode():
        warn(f"{path} was there before this run: it is now {set_aside(path)}")
    write_atomically(path, text)


def _in_common(
    config: ConfigDict, facts: dict[str, Any], checkpoints: Checkpoints
) -> dict[str, Any]:
    """Returns what must be the same for all processes; where the data lie may differ."""
    own = ("data.train.", "data.val.", "data.workers")
    keys = config_json.flat(config)
    return {
        "the configuration": {k: v for k, v in keys.items() if not k.startswith(own)},
        "classes and number of training images": facts,
        "the newest and the best checkpoint": (checkpoints.latest_step(), checkpoints.best()[0]),
    }
