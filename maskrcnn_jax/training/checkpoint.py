"""Checkpoints: written while training goes on, restored onto any set of devices.

    WORKDIR/checkpoints/STEP/    the newest ones
    WORKDIR/best/STEP/           the one with the best evaluation

A checkpoint gets its name only when it is complete, so a run that is killed while one is being
written leaves the one before it as the newest. What is in a checkpoint: `checkpoint_format.py`.
"""

import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding

from maskrcnn_jax.training import checkpoint_format, config_json
from maskrcnn_jax.training.early_stopping import is_better
from maskrcnn_jax.training.ema import first_average, with_average
from maskrcnn_jax.training.state import TrainState, abstract_variables, make_model

LAST, BEST = "checkpoints", "best"


class Checkpoints:
    """The checkpoints of one run.

    Args:
        workdir: the run's folder; made where it does not exist.
        keep: how many of the newest are kept.
        metadata: written with each: `config` (a ConfigDict), `class_names`, `category_ids`,
            `num_images` (in the training set), `init` (what the run began with).
    """

    def __init__(self, workdir: str | Path, keep: int, metadata: dict[str, Any]):
        if keep < 1:
            raise ValueError(f"config.train.keep_checkpoints is {keep}; it must be at least 1")
        self.workdir = Path(workdir).absolute()
        self._metadata = {
            **metadata,
            "config": config_json.to_json(metadata["config"]),
            "versions": checkpoint_format.versions(),
        }
        self._last = checkpoint_format.make_manager(self.workdir / LAST, keep)
        self._best = checkpoint_format.make_manager(self.workdir / BEST, keep=1)
        self._check_order()

    def latest_step(self) -> int | None:
        """Returns the step of the newest complete checkpoint, or None."""
        return self._last.latest_step()

    def metadata(self) -> dict[str, Any]:
        """Returns the metadata of the newest checkpoint, the config as a plain dict."""
        return checkpoint_format.read_metadata(self._last, self.latest_step())

    def best(self) -> tuple[int | None, dict[str, Any]]:
        """Returns step and metrics of the best checkpoint, or `(None, {})`."""
        step = self._best.latest_step()
        if step is None:
            return None, {}
        return step, checkpoint_format.read_metadata(self._best, step)["metrics"]

    def save(self, state: TrainState, step: int, metrics: dict[str, float]) -> bool:
        """Starts to write a checkpoint and returns while it is being written.

        Args:
            state: may be donated as soon as this returns.
            step: `state.step`, known without waiting for the device.
            metrics: numbers to keep with it.

        Returns:
            False where this step is there already and nothing had to be written.

        Raises:
            RuntimeError: where a newer checkpoint is there, or Orbax wrote nothing.
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
        # The best is never ahead of the newest: a run that is killed here goes on from this step.
        self._last.wait_until_finished()
        saved = self._save(self._best, state, step, metrics)
        # And it is complete before the evaluation is logged, which is then not made again.
        self._best.wait_until_finished()
        return saved

    def restore(self, target: TrainState) -> TrainState:
        """Returns the newest state.

        Args:
            target: its shapes, dtypes and shardings (`sharding.abstract`); the mesh may be another
                than the one it was saved from. A moving average that it has, and the checkpoint
                has not, begins with the checkpoint's variables.

        Raises:
            FileNotFoundError: where there is no checkpoint.
            ValueError: where its structure is another than the target's.
        """
        step = self.latest_step()
        if step is None:
            raise FileNotFoundError(f"no checkpoint in {self.workdir / LAST}")
        saved = self._last.item_metadata(step)
        items = checkpoint_format.items(target)
        if "ema" not in saved.keys():  # noqa: SIM118 (it is no dict)
            items.pop("ema", None)
        for name, item in items.items():
            checkpoint_format.check_structure(
                saved[name].tree, item, f"{self._last.directory / str(step)} ({name})"
            )
        restored = self._last.restore(
            step,
            args=ocp.args.Composite(
                **{name: ocp.args.StandardRestore(item) for name, item in items.items()}
            ),
        )
        ema = restored.ema if "ema" in items else None
        if ema is None and target.ema is not None:
            ema = first_average(restored.variables, target.ema["params"])
        return TrainState(
            step=restored.optimizer["step"],
            opt_state=restored.optimizer["opt_state"],
            ema=ema,
            **restored.variables,
        )

    def wait(self) -> None:
        """Returns when everything that was saved is on disk."""
        self._last.wait_until_finished()
        self._best.wait_until_finished()

    def close(self) -> None:
        """Waits and frees the threads that write."""
        self._last.close()
        self._best.close()

    def _check_order(self) -> None:
        last, best = self._last.latest_step(), self._best.latest_step()
        if best is not None and (last is None or best > last):
            newest = "there is none" if last is None else f"the newest is of step {last}"
            raise ValueError(
                f"{self._best.directory} holds step {best}, but in {self._last.directory} "
                f"{newest}: a run cannot go on from there. Move {self._best.directory} away, or "
                f"give another --workdir"
            )

    def _save(
        self,
        manager: ocp.CheckpointManager,
        state: TrainState,
        step: int,
        metrics: dict[str, float],
    ) -> bool:
        latest = manager.latest_step()
        if latest == step:
            return False
        if latest is not None and latest > step:
            raise RuntimeError(
                f"{manager.directory} holds a checkpoint of step {latest}, newer than step {step} "
                f"that is to be saved; it belongs to another run: move it away"
            )
        metadata = {**self._metadata, "step": step, "metrics": _finite_or_none(metrics)}
        items = checkpoint_format.items(state)
        saved = manager.save(
            step,
            args=ocp.args.Composite(
                metadata=ocp.args.JsonSave(metadata),
                **{name: ocp.args.StandardSave(item) for name, item in items.items()},
            ),
        )
        if not saved:
            raise RuntimeError(f"Orbax did not save step {step} to {manager.directory}")
        return True


def load_for_inference(
    path: str | Path, which: str | int = "last", averaged: bool = True
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads a run's weights, without the optimiser's state, onto the first local device.

    Args:
        path: the run's folder (WORKDIR).
        which: `last`, `best`, or the number of a step.
        averaged: take the moving average of the weights where the run had one.

    Returns:
        The variables `{'params', 'batch_stats'}` and the metadata: `config` (a plain dict, its
        sequences tuples), `class_names`, `category_ids`, `versions`, `step`, `metrics`.

    Raises:
        FileNotFoundError: where there is no such checkpoint; it says which ones there are.
        ValueError: where `which` is none of these, or the model of this version of the package
            has other variables.
    """
    with _find(Path(path).absolute(), which) as (manager, step):
        metadata = checkpoint_format.read_metadata(manager, step)
        model = make_model(metadata["config"]["model"], len(metadata["class_names"]))
        wanted = abstract_variables(model)
        saved, where = manager.item_metadata(step), manager.directory / str(step)
        checkpoint_format.check_structure(saved["variables"].tree, wanted, f"{where} (variables)")
        targets = {"variables": wanted}
        if averaged and "ema" in saved.keys():  # noqa: SIM118 (it is no dict)
            targets["ema"] = saved["ema"].tree
        arguments = {
            name: ocp.args.StandardRestore(_on_first_device(tree)) for name, tree in targets.items()
        }
        restored = manager.restore(step, args=ocp.args.Composite(**arguments))
    if "ema" not in targets:
        return restored.variables, metadata
    return with_average(restored.variables, restored.ema), metadata


def _on_first_device(tree: Any) -> Any:
    """Returns shapes and dtypes with shardings of our own; those saved may name other devices."""
    device = SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), tree
    )


def metadata_to_resume(workdir: str | Path) -> dict[str, Any] | None:
    """Returns the metadata of the checkpoint that a run in this folder goes on from.

    Args:
        workdir: the run's folder, which need not exist; nothing in it is changed.

    Returns:
        As of `Checkpoints.metadata`; None where there is no checkpoint.

    Raises:
        ValueError: where the checkpoint holds weights alone.
    """
    folder = Path(workdir).absolute() / LAST
    if not folder.is_dir():
        return None
    with closing(checkpoint_format.make_manager(folder, keep=None, read_only=True)) as manager:
        step = manager.latest_step()
        if step is None:
            return None
        if not (folder / str(step) / "optimizer").is_dir():
            raise ValueError(
                f"the checkpoint in {folder} holds weights alone, no training run to go on with; "
                f"start from them with --config.init={workdir} and another --workdir"
            )
        return checkpoint_format.read_metadata(manager, step)


@contextmanager
def _find(workdir: Path, which: str | int) -> Iterator[tuple[ocp.CheckpointManager, int]]:
    """Yields a manager that only reads, and the step that `which` means."""
    is_step = isinstance(which, int) or which.isdigit()
    if not is_step and which not in ("last", "best"):
        raise ValueError(f"checkpoint {which!r} was asked for; give last, best or a step's number")
    folder = workdir / (BEST if which == "best" else LAST)
    if which == "best" and (workdir / LAST).is_dir() and not folder.is_dir():
        parts = {path.name for path in (workdir / LAST).glob("*/*")}
        why = "the run has not been evaluated yet"
        if "variables" in parts and "optimizer" not in parts:
            why = f"{workdir} is a converted checkpoint, which has one state alone"
        raise FileNotFoundError(f"no {folder}: {why}; give last")
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no folder {folder}; give the work directory of a training run, the one with "
            f"{LAST}/ in it"
        )
    manager = checkpoint_format.make_manager(folder, keep=None, read_only=True)
    try:
        steps = sorted(manager.all_steps())
        step = int(which) if is_step else (steps[-1] if steps else None)
        if step not in steps:
            there = f"there are {', '.join(map(str, steps))}" if steps else "there is none yet"
            wanted = "complete checkpoint" if step is None else f"checkpoint of step {step}"
            raise FileNotFoundError(f"no {wanted} in {folder}: {there}")
        yield manager, step
    finally:
        manager.close()


def _finite_or_none(metrics: dict[str, float]) -> dict[str, float | None]:
    """JSON has no NaN."""
    return {key: float(v) if math.isfinite(v) else None for key, v in metrics.items()}
