"""What a run has at hand, and what it does around its steps."""

import signal
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from maskrcnn_jax.checkpoints.best import is_better
from maskrcnn_jax.checkpoints.layout import LAST
from maskrcnn_jax.checkpoints.manager import Checkpoints
from maskrcnn_jax.checkpoints.state import TrainState
from maskrcnn_jax.console import said_if_slow
from maskrcnn_jax.parallel import agreement
from maskrcnn_jax.parallel.exit_notice import newest_checkpoint
from maskrcnn_jax.parallel.interrupts import Interrupted, Interrupts
from maskrcnn_jax.parallel.mesh import shard_batch
from maskrcnn_jax.parallel.messages import say, say_of_all, warn
from maskrcnn_jax.training.config import TrainConfig
from maskrcnn_jax.training.early_stopping import reason_to_stop
from maskrcnn_jax.training.run.emergency import leaves_in_time
from maskrcnn_jax.training.run.log import MetricsLog
from maskrcnn_jax.training.run.profile import Profile
from maskrcnn_jax.training.run.progress import (
    COUNTS,
    USUAL,
    NonFiniteLoss,
    Progress,
    is_sound,
)
from maskrcnn_jax.training.stages import Stage, entered

Batches = Generator[tuple[dict, dict], None, None]  # each with its info


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
        report: gives these metrics in words.
        pictures: gives the pictures of the last evaluation, PNG files by name; asked of process 0.
    """

    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    num_images: int
    batches: Callable[[int], Batches]
    evaluate: Callable[[dict[str, Any], Callable[[], None]], dict[str, float]]
    report: Callable[[dict[str, float]], str]
    pictures: Callable[[], Mapping[str, bytes]] = dict


@dataclass(frozen=True)
class Run:
    """What is at hand from the first step to the last.

    Attributes:
        settings: `config.train`.
        mesh: of the devices.
        data: to train and to evaluate on.
        checkpoints: of the work directory.
        log: of metrics.
        profile: traces the steps that are asked for.
        progress: of the steps, with their losses and times.
        interrupts: by signals.
        batches: this process's, with their info, from the first step on.
        compiled: the stages and buckets whose programs there are.
    """

    settings: TrainConfig
    mesh: Mesh
    data: TrainingData
    checkpoints: Checkpoints
    log: MetricsLog
    profile: Profile
    progress: Progress
    interrupts: Interrupts
    batches: Batches
    compiled: set[tuple[Stage, tuple[int, int]]]


def save(run: Run, state: TrainState, step: int) -> None:
    """Saves a checkpoint of a step whose losses are finite.

    Where its loss is far above that of the steps before, and another checkpoint stands, that one
    is kept instead: it would go in the end, and leave nothing but what has come to grief.
    """
    run.progress.fetch()  # a state whose loss is not finite is never saved
    metrics = run.progress.to_save()
    if _is_lost(run, step):
        stands = run.checkpoints.latest_step()
        warn(
            f"the loss at step {step}, {metrics['loss_total']:g}, is far above the usual "
            f"{metrics[USUAL]:g}: this state is not saved, and the checkpoint of step {stands} "
            f"stays. {_start_again(run, stands)}"
        )
        return
    with run.progress.activity.doing("a checkpoint"):
        run.checkpoints.save(state, step, metrics)


def _is_lost(run: Run, step: int) -> bool:
    """Returns whether the state of a step is not worth the checkpoint that stands."""
    if is_sound(run.progress.to_save()):
        return False
    run.checkpoints.wait()  # the one that stands may still be written
    return run.checkpoints.latest_step() not in (None, step)


def with_advice(run: Run, error: NonFiniteLoss) -> NonFiniteLoss:
    """Returns the error with what to start from: the newest checkpoint whose losses were sound."""
    run.checkpoints.wait()
    steps = run.checkpoints.steps(lambda metadata: is_sound(metadata["metrics"]))
    if not steps:
        return NonFiniteLoss(f"{error}. There is no checkpoint with sound losses: start again")
    return NonFiniteLoss(
        f"{error}. The newest checkpoint with sound losses is of step {steps[-1]}. "
        f"{_start_again(run, steps[-1])}"
    )


def _start_again(run: Run, step: int | None) -> str:
    workdir = run.checkpoints.workdir
    rate = run.settings.learning_rate / 2
    if step == run.checkpoints.latest_step():
        return (
            "To resume from it more carefully, give the same command with "
            f"--config.train.learning_rate={rate:g}"
        )
    return (
        f"To start from its weights, give the same command with --config.init={workdir}@{step} "
        f"--workdir={workdir}-from-{step} --config.train.learning_rate={rate:g}"
    )


def evaluate(run: Run, state: TrainState, step: int) -> dict[str, float]:
    """Evaluates, and keeps the state if it is the best so far."""
    metric = run.settings.best_metric
    with run.progress.pause("an evaluation"):
        try:
            with run.interrupts.at_once() as check:
                metrics = agreement.of_first(run.data.evaluate(state.eval_variables, check))
        except Interrupted as interrupted:
            raise stopped(run, interrupted.signal_number, state, step) from None
        is_best = run.checkpoints.save_best(state, step, metrics, metric)
    is_best = is_best and is_better(metric, metrics[metric], None)  # the first is kept in any case
    shown = dict.fromkeys(("bbox/AP", "segm/AP", "loss_total", metric))
    words = "  ".join(f"{key} {metrics[key]:.4f}" for key in shown if key in metrics)
    say(f"evaluation at step {step}: {words}{'  (best so far)' if is_best else ''}")
    return metrics


def log_evaluation(run: Run, state: TrainState, step: int, metrics: dict[str, float]) -> None:
    """Writes an evaluation's numbers and pictures, and where asked for the weights' histograms."""
    run.log.write("eval", step, metrics)
    with run.progress.pause("the pictures of an evaluation"):
        if jax.process_index() == 0:
            run.log.write_pictures(step, run.data.pictures())
        if run.settings.histograms:
            run.log.write_histograms(step, _weights(state))


def _weights(state: TrainState) -> dict[str, np.ndarray]:
    """Returns every array of the parameters on the host, by its path; in all processes together."""
    arrays = {}
    for path, leaf in flatten_dict(state.params, sep="/").items():
        if not leaf.is_fully_addressable:
            leaf = multihost_utils.process_allgather(leaf, tiled=True)
        arrays[path] = np.asarray(leaf)
    return arrays


def early_end(run: Run) -> str:
    """Returns why the run ends early, empty where it continues; process 0 decides."""
    reason = reason_to_stop(run.log.evaluations, run.settings)
    ends = agreement.of_first({"ends": bool(reason)})["ends"]
    return (reason or "stopped early") if ends else ""


def finish(run: Run, state: TrainState, step: int, reason: str) -> None:
    """Says why a run ends before its last step, and waits until its last checkpoint is whole."""
    if step < run.settings.steps:
        say(reason)
    with run.progress.pause("the last checkpoint"):  # there is no step any more
        if _is_lost(run, step):  # which has been said
            run.checkpoints.wait()
        else:
            run.checkpoints.check_complete(state, step, run.progress.to_save())


def enter(run: Run, stage: Stage, state: TrainState, step: int) -> TrainState:
    """Returns the state with which a stage begins; the one given is donated."""
    with run.progress.pause("the next stage's state"):
        state = entered(stage, state, run.mesh)
    say(f"step {step}: what is trained changes to {stage.layers}")
    return state


def next_batch(run: Run) -> tuple[dict, dict]:
    """Returns the next batch and its info; says which images were skipped."""
    with run.progress.waiting():
        batch, info = next(run.batches)
    for fault in info["skipped"]:
        say_of_all(f"skipped {fault}")
    return batch, info


def do_step(
    run: Run, stage: Stage, state: TrainState, batch: dict[str, Any]
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Dispatches one step; says how long it took to compile where its bucket is new.

    With the first bucket of a stage, what saving needs is compiled, too: no step waits for it then,
    nor does a state that has to be saved in a hurry.
    """
    batch = shard_batch(batch, run.mesh)
    height, width = batch["image"].shape[1:3]
    bucket = height, width
    if (stage, bucket) in run.compiled:
        return stage.train_step(state, batch)
    is_first = all(of_stage is not stage for of_stage, _ in run.compiled)
    run.compiled.add((stage, bucket))
    with run.progress.pause("compilation"):
        began = time.monotonic()
        waiting = said_if_slow(f"compiling the training step for images of {height} x {width}")
        with waiting if jax.process_index() == 0 else nullcontext():
            result = stage.train_step(state, batch)  # returns when it has compiled
        seconds = time.monotonic() - began
        if is_first:
            run.checkpoints.prepare(result[0])
    say(f"bucket {bucket[0]}x{bucket[1]}: compiled in {seconds:.1f} s")
    return result


def log_steps(run: Run, step: int, epoch: int) -> None:
    """Writes and says the means over the steps since the last time."""
    run.progress.fetch()
    row = run.progress.row(step, epoch)
    row |= agreement.total({key: row[key] for key in COUNTS})
    row["checkpoint_failures"] = float(run.checkpoints.failures())
    run.log.write("train", step, row)
    say(run.progress.line(step, row))


def say_step(run: Run, step: int, epoch: int) -> None:
    """Says what `log_steps` would, and leaves the means to it; waits for the step."""
    run.progress.fetch()
    say(run.progress.line(step, run.progress.so_far(step, epoch)))


def stopped(run: Run, signal_number: int, state: TrainState, step: int) -> Interrupted:
    """Saves the state and returns the exception that ends an interrupted run, once all is on disk.

    Where that takes too long, the process leaves instead.
    """
    checkpoints, folder = run.checkpoints, run.checkpoints.workdir / LAST
    with leaves_in_time(run.settings.emergency_seconds, signal_number, folder):
        save(run, state, step)
        checkpoints.wait()
    saved = f"saved in {folder}"
    if checkpoints.latest_step() != step:
        saved = f"NOT saved. {newest_checkpoint(folder)}"
    name = signal.Signals(signal_number).name
    return Interrupted(
        signal_number,
        f"stopped by {name} after step {step}; {saved.removesuffix('.')}. The same command resumes "
        f"from there",
    )
