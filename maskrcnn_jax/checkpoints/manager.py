"""Checkpoints: written while training continues, restored onto any set of devices.

    WORKDIR/checkpoints/STEP/    the newest ones
    WORKDIR/best/STEP/           the one with the best evaluation
    WORKDIR/damaged/STEP/        what could not be read, moved out of the way

A checkpoint gets its name only when it is complete, so a run that is killed while one is being
written leaves the one before it as the newest. What is in a checkpoint: `checkpoints/format.py`.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from maskrcnn_jax import config_json
from maskrcnn_jax.checkpoints import format as checkpoint_format
from maskrcnn_jax.checkpoints.best import is_better
from maskrcnn_jax.checkpoints.checksums import checksums
from maskrcnn_jax.checkpoints.damage import attempt
from maskrcnn_jax.checkpoints.ema import first_average
from maskrcnn_jax.checkpoints.folder import CheckpointFolder, DamagedCheckpoint
from maskrcnn_jax.checkpoints.layout import BEST, DAMAGED, EARLIER, LAST
from maskrcnn_jax.checkpoints.state import TrainState
from maskrcnn_jax.parallel.agreement import any_process
from maskrcnn_jax.parallel.exit_notice import newest_checkpoint
from maskrcnn_jax.parallel.messages import warn


class Checkpoints:
    """The checkpoints of one run.

    Where several processes train together all of them call each method, equally often.

    Args:
        workdir: the run's folder; made where it does not exist.
        keep: how many of the newest are kept.
        metadata: written with each: `config` (the whole one), `class_names`, `category_ids`,
            `num_images` (in the training set), `init` (what the run began with).

    Raises:
        ValueError: where there is a best checkpoint but none to resume from.
    """

    def __init__(self, workdir: str | Path, keep: int, metadata: dict[str, Any]):
        if keep < 1:
            raise ValueError(f"config.train.keep_checkpoints is {keep}; it must be at least 1")
        self.workdir = Path(workdir).absolute()
        self._metadata = {
            **metadata,
            "config": config_json.to_json(metadata["config"]),
            "versions": checkpoint_format.versions(),
            "processes": jax.process_count(),
            "devices": jax.device_count(),
        }
        self._last = CheckpointFolder(self.workdir / LAST, keep)
        self._best = CheckpointFolder(self.workdir / BEST, keep=1)
        if self._best.latest_step() is not None and self._last.latest_step() is None:
            raise ValueError(self._only_best())

    def latest_step(self) -> int | None:
        """Returns the step of the newest complete checkpoint, or None."""
        return self._last.latest_step()

    def steps(self, chosen: Callable[[dict[str, Any]], bool]) -> list[int]:
        """Returns the steps of those complete checkpoints whose metadata are wanted, oldest first.

        One whose metadata cannot be read is not among them.

        Args:
            chosen: of the metadata.
        """
        found = []
        for step in self._last.steps():
            read = partial(checkpoint_format.read_metadata, self._last.manager, step)
            with suppress(DamagedCheckpoint):
                if chosen(self._read(self._last, step, read)):
                    found.append(step)
        return found

    def metadata(self) -> dict[str, Any]:
        """Returns the metadata of the newest checkpoint, the config as a plain dict.

        Raises:
            FileNotFoundError: where there is none.
            DamagedCheckpoint: where it cannot be read.
        """
        step = self.latest_step()
        if step is None:
            raise FileNotFoundError(f"{self.workdir} has no checkpoint yet")
        return self._read(
            self._last, step, partial(checkpoint_format.read_metadata, self._last.manager, step)
        )

    def best(self) -> tuple[int | None, dict[str, Any]]:
        """Returns step and metrics of the best checkpoint, or `(None, {})`.

        One that cannot be read is set aside.
        """
        step = self._best.latest_step()
        if step is None:
            return None, {}
        try:
            read = partial(checkpoint_format.read_metadata, self._best.manager, step)
            return step, self._read(self._best, step, read)["metrics"]
        except DamagedCheckpoint as damaged:
            place = self._best.set_aside(step, self.workdir / DAMAGED)
            warn(f"{damaged}. It is now {place}; the next evaluation counts as the best")
            return None, {}

    def failures(self) -> int:
        """Returns how many checkpoints could not be written so far."""
        return self._last.failures() + self._best.failures()

    def prepare(self, state: TrainState) -> None:
        """Compiles what `save` needs for states like this one, which takes seconds.

        Args:
            state: of the structure, shapes and shardings of those to be saved.
        """
        for item in checkpoint_format.items(state).values():
            checksums(item)

    def save(self, state: TrainState, step: int, metrics: dict[str, float]) -> bool:
        """Starts to write a checkpoint and returns while it is being written.

        Where writing fails, now or later, that is reported on stderr, the older checkpoints stay,
        and the next one is tried.

        Args:
            state: may be donated as soon as this returns.
            step: `state.step`, known without waiting for the device.
            metrics: numbers to keep with it.

        Returns:
            False where this step is there already and nothing had to be written.

        Raises:
            RuntimeError: where a newer checkpoint is there.
        """
        return self._save(self._last, state, step, metrics)

    def save_best(
        self, state: TrainState, step: int, metrics: dict[str, float], metric: str
    ) -> bool:
        """Writes the state to WORKDIR/best if its metric is the best so far (`is_better`).

        Args:
            state: as for `save`, which must have been called for this step before.
            step: as for `save`.
            metrics: the evaluation's.
            metric: which of them decides.

        Returns:
            Whether it was the best.

        Raises:
            ValueError: where there is no such metric.
        """
        if metric not in metrics:
            raise ValueError(
                f"config.train.best_metric is {metric!r}, which is not among the metrics of the "
                f"evaluation: {', '.join(metrics)}"
            )
        best_step, best = self.best()
        if best_step is not None and not is_better(metric, metrics[metric], best.get(metric)):
            return False
        # A run that is killed here resumes from this step.
        self._last.settle()
        if best_step is not None and (best_step > step or metric not in best):
            # It was ahead of the newest, and the run has since taken another way; or it was the
            # best by another metric.
            place = self._best.set_aside(best_step, self.workdir / EARLIER)
            warn(f"the best checkpoint of an earlier course of this run is now {place}")
        saved = self._save(self._best, state, step, metrics)
        # And it is complete before the evaluation is logged, which is then not made again.
        return self._best.settle() and saved

    def restore(self, target: TrainState) -> TrainState:
        """Returns the newest state.

        Args:
            target: its shapes, dtypes and shardings (`mesh.abstract`); the mesh may be another
                than the one it was saved from. A moving average that it has, and the checkpoint
                has not, begins with the checkpoint's variables.

        Raises:
            FileNotFoundError: where there is no checkpoint.
            ValueError: where its structure is another than the target's.
            DamagedCheckpoint: where it cannot be read, or is not what was saved.
        """
        step, manager = self.latest_step(), self._last.manager
        if step is None:
            raise FileNotFoundError(f"no checkpoint in {self.workdir / LAST}")
        sums = self.metadata().get("checksums", {})
        read = partial(checkpoint_format.item_trees, manager, step, sums)
        saved, where = self._read(self._last, step, read), self._last.directory / str(step)
        wanted = checkpoint_format.items(target)
        if "ema" not in saved:
            wanted.pop("ema", None)
        for name, item in wanted.items():
            checkpoint_format.check_structure(saved[name], item, f"{where} ({name})")
        read = partial(checkpoint_format.read_items, manager, step, wanted, sums)
        items = self._read(self._last, step, read)
        ema = items.get("ema")
        if ema is None and target.ema is not None:
            ema = first_average(items["variables"], target.ema["params"])
        return TrainState(
            step=items["optimizer"]["step"],
            opt_state=items["optimizer"]["opt_state"],
            ema=ema,
            **items["variables"],
        )

    def set_aside(self, damaged: DamagedCheckpoint) -> None:
        """Moves a damaged checkpoint out of the way of the one before it, and says so.

        Args:
            damaged: as `metadata` or `restore` raises it.

        Raises:
            ValueError: where there is no older one; nothing is moved then.
        """
        older = [step for step in self._last.steps() if step < damaged.step]
        if not older:
            raise ValueError(
                f"{damaged}, and there is no older one to resume from. Put back a copy of it, or "
                f"give another --workdir to start again"
            ) from damaged
        place = self._last.set_aside(damaged.step, self.workdir / DAMAGED)
        warn(f"{damaged}. It is now {place}; the run resumes from step {older[-1]}")

    def wait(self) -> None:
        """Returns when everything that was saved is on disk, or has failed and been reported."""
        self._last.settle()
        self._best.settle()

    def check_complete(self, state: TrainState, step: int, metrics: dict[str, float]) -> None:
        """Returns when a step is on disk; where its writing has failed, it is tried again.

        Args:
            state: as for `save`, which has been called for this step.
            step: as for `save`.
            metrics: as for `save`.

        Raises:
            OSError: where it cannot be written.
        """
        self.wait()
        self.save(state, step, metrics)
        self.wait()
        if self.latest_step() != step:
            raise OSError(
                f"the state after step {step} could not be saved (see above). "
                f"{newest_checkpoint(self.workdir / LAST)} Fix what is wrong with "
                f"{self.workdir}; the same command then resumes from there"
            )

    def close(self) -> None:
        """Waits and frees the threads that write."""
        self._last.close()
        self._best.close()

    def _only_best(self) -> str:
        step, best, last = self._best.latest_step(), self._best.directory, self._last.directory
        return (
            f"{best} holds step {step}, but there is no checkpoint in {last}: a run would start "
            f"from step 0 beside it. To resume from the best, move {best / str(step)} to "
            f"{last / str(step)}; to start again, give another --workdir"
        )

    def _save(
        self, folder: CheckpointFolder, state: TrainState, step: int, metrics: dict[str, float]
    ) -> bool:
        if folder.has(step):
            return False
        latest = folder.latest_step()
        if latest is not None and latest > step:
            raise RuntimeError(
                f"{folder.directory} holds a checkpoint of step {latest}, newer than step {step} "
                f"that is to be saved; it belongs to another run: move it away"
            )
        items = checkpoint_format.items(state)
        metadata = {
            **self._metadata,
            "step": step,
            "metrics": _finite_or_none(metrics),
            "checksums": {name: checksums(item) for name, item in items.items()},
        }
        arguments = {name: ocp.args.StandardSave(item) for name, item in items.items()}
        folder.save(step, {"metadata": ocp.args.JsonSave(metadata), **arguments})
        return True

    def _read(self, folder: CheckpointFolder, step: int, read: Callable[[], Any]) -> Any:
        """Returns what a function reads from a checkpoint, if all processes can read it."""
        result, fault = attempt(read)
        if any_process(fault is not None):
            why = fault or "another process cannot read it"
            raise DamagedCheckpoint(
                step, f"the checkpoint {folder.directory / str(step)} is damaged: {why}"
            )
        return result


def _finite_or_none(metrics: dict[str, float]) -> dict[str, float | None]:
    """JSON has no NaN."""
    return {key: float(v) if math.isfinite(v) else None for key, v in metrics.items()}
