"""Reading a run's weights from outside the run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.sharding import SingleDeviceSharding

from maskrcnn_jax.checkpoints import format as checkpoint_format
from maskrcnn_jax.checkpoints.damage import attempt
from maskrcnn_jax.checkpoints.ema import check_average, with_average
from maskrcnn_jax.checkpoints.layout import BEST, LAST
from maskrcnn_jax.checkpoints.saved_config import detector_config
from maskrcnn_jax.files import check_regular
from maskrcnn_jax.memory import check_detector
from maskrcnn_jax.models.build import abstract_variables, make_model


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
        where = manager.directory / str(step)
        metadata = _sound(lambda: checkpoint_format.read_metadata(manager, step), where)
        config, _ = detector_config(metadata, where, check_detector)
        model = make_model(config, len(metadata["class_names"]))
        wanted, sums = abstract_variables(model), metadata.pop("checksums", {})
        saved = _sound(lambda: checkpoint_format.item_trees(manager, step, sums), where)
        checkpoint_format.check_structure(saved["variables"], wanted, f"{where} (variables)")
        targets = {"variables": wanted}
        if averaged and "ema" in saved:
            check_average(saved["ema"], wanted, f"{where} (ema)")
            targets["ema"] = saved["ema"]
        targets = {name: _on_first_device(tree) for name, tree in targets.items()}
        restored = _sound(lambda: checkpoint_format.read_items(manager, step, targets, sums), where)
    if "ema" not in restored:
        return restored["variables"], metadata
    return with_average(restored["variables"], restored["ema"]), metadata


def _sound(read: Callable[[], Any], where: Path) -> Any:
    """Returns what a function reads of a checkpoint; raises ValueError where that is damaged."""
    result, fault = attempt(read)
    if fault is not None:
        raise ValueError(f"the weights in {where} are damaged: {fault}; take another checkpoint")
    return result


def _on_first_device(tree: Any) -> Any:
    """Returns shapes and dtypes with shardings of our own; those saved may name other devices."""
    device = SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), tree
    )


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
    check_regular(folder)
    manager = checkpoint_format.make_manager(folder, keep=None, read_only=True)
    try:
        steps = sorted(manager.all_steps())
        step = int(which) if is_step else (steps[-1] if steps else None)
        if step is None or step not in steps:
            there = f"there are {', '.join(map(str, steps))}" if steps else "there is none yet"
            wanted = "complete checkpoint" if step is None else f"checkpoint of step {step}"
            raise FileNotFoundError(f"no {wanted} in {folder}: {there}")
        yield manager, step
    finally:
        manager.close()
