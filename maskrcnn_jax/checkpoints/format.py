"""What is in one checkpoint, and whether it fits.

STEP/variables/   params and batch_stats: all that inference needs
     optimizer/   step and optimiser state; absent where weights were imported
     ema/         the moving average of what is trained; absent without one
     metadata/    JSON: config, class names, category ids, versions, step, metrics, and the source
                  of imported weights
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import orbax.checkpoint as ocp

from maskrcnn_jax import config_json
from maskrcnn_jax.checkpoints import checksums
from maskrcnn_jax.checkpoints.saved_config import check_classes, check_sections
from maskrcnn_jax.layer_groups import LAYERS

if TYPE_CHECKING:
    from maskrcnn_jax.checkpoints.state import TrainState

_PACKAGES = ("maskrcnn-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def make_manager(folder: Path, keep: int | None, read_only: bool = False) -> ocp.CheckpointManager:
    """Returns Orbax's manager of a folder of checkpoints.

    Args:
        folder: an absolute path; made where it does not exist, unless only read.
        keep: how many of the newest are kept; None: all.
        read_only: nothing in the folder is changed.

    Raises:
        ValueError: a checkpoint says that it was written at a time which there is not.
    """
    try:
        with _without_read_only_warning():
            return _manager(folder, keep, read_only)
    except OverflowError as error:
        raise ValueError(
            f"a checkpoint in {folder} is damaged: the times in its _CHECKPOINT_METADATA are none "
            f"({error}); take another copy of the folder"
        ) from error


@contextmanager
def _without_read_only_warning() -> Iterator[None]:
    """Drops what Orbax says of a folder that is opened to be read: it sounds like a lost right."""

    def is_news(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Given directory is read only")

    logger = logging.getLogger("absl")
    logger.addFilter(is_news)
    try:
        yield
    finally:
        logger.removeFilter(is_news)


def _manager(folder: Path, keep: int | None, read_only: bool) -> ocp.CheckpointManager:
    return ocp.CheckpointManager(
        folder,
        options=ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            create=not read_only,
            read_only=read_only,
            save_interval_steps=0 if read_only else 1,
            cleanup_tmp_directories=not read_only,  # what a kill left half written
        ),
        item_handlers={
            "variables": ocp.StandardCheckpointHandler(),
            "optimizer": ocp.StandardCheckpointHandler(),
            "ema": ocp.StandardCheckpointHandler(),
            "metadata": ocp.JsonCheckpointHandler(),
        },
    )


def items(state: "TrainState") -> dict[str, Any]:
    """Returns the trees of a state (of arrays or of their shapes) that are saved apart."""
    trees = {
        "variables": state.variables,
        "optimizer": {"step": state.step, "opt_state": state.opt_state},
    }
    return trees if state.ema is None else trees | {"ema": state.ema}


def item_trees(
    manager: ocp.CheckpointManager, step: int, sums: dict[str, dict[str, int]]
) -> dict[str, Any]:
    """Returns the trees of shapes and dtypes in a checkpoint, by item.

    Args:
        manager: of the folder.
        step: of the checkpoint.
        sums: as its metadata has them; empty where it was written without.

    Raises:
        ValueError: where there are other arrays than there are sums for.
    """
    saved = manager.item_metadata(step)
    trees = {
        name: saved[name].tree
        for name in ("variables", "optimizer", "ema")
        if name in saved.keys()  # noqa: SIM118 (it is no dict)
    }
    for name, item_sums in sums.items():
        if name not in trees or _leaves(trees[name]).keys() != item_sums.keys():
            raise ValueError(f"its list of arrays in {name} is not the one that was saved")
    return trees


def read_items(
    manager: ocp.CheckpointManager,
    step: int,
    targets: dict[str, Any],
    sums: dict[str, dict[str, int]],
) -> dict[str, Any]:
    """Returns items of a checkpoint, compared with the sums that were saved.

    Args:
        manager: of the folder.
        step: of the checkpoint.
        targets: trees of shapes, dtypes and shardings, by item.
        sums: as for `item_trees`.

    Raises:
        ValueError: naming arrays that are not what was saved.
    """
    arguments = {name: ocp.args.StandardRestore(tree) for name, tree in targets.items()}
    restored = dict(manager.restore(step, args=ocp.args.Composite(**arguments)).items())
    for name, wanted in sums.items():
        if name in restored and (
            wrong := checksums.differing(checksums.checksums(restored[name]), wanted)
        ):
            raise ValueError(
                f"{len(wrong)} of {len(wanted)} arrays in {name} are not what was saved, such as "
                f"{wrong[0]}"
            )
    return restored


def save_weights(folder: Path, variables: dict[str, Any], metadata: dict[str, Any]) -> None:
    """Writes a folder of one checkpoint, of step 0, without a state of training.

    Args:
        folder: an absolute path; made here.
        variables: `{'params', 'batch_stats'}`.
        metadata: as `Checkpoints` takes it, the config as JSON knows it, and what else is to be
            kept.

    Raises:
        OSError: it cannot be written.
    """
    with make_manager(folder, keep=None) as manager:
        manager.save(
            0,
            args=ocp.args.Composite(
                variables=ocp.args.StandardSave(variables),
                metadata=ocp.args.JsonSave(
                    {**metadata, "versions": versions(), "step": 0, "metrics": {}}
                ),
            ),
        )
        manager.wait_until_finished()


def check_structure(found: Any, wanted: Any, where: str) -> None:
    """Checks that the arrays of a checkpoint are those that are to be restored.

    Args:
        found: tree of what is in the checkpoint; its leaves have `shape` and `dtype`.
        wanted: tree of what is wanted; containers may be of other types with the same names.
        where: the checkpoint, for the message.

    Raises:
        ValueError: naming the first few arrays that are missing, unknown or of another shape.
    """
    found, wanted = _leaves(found), _leaves(wanted)
    if found == wanted:
        return
    kinds = (
        [f"{key} is missing" for key in wanted if key not in found],
        [f"{key} is unknown" for key in found if key not in wanted],
        [
            f"{key} is {_describe(found[key])}, not {_describe(wanted[key])}"
            for key in wanted
            if key in found and found[key] != wanted[key]
        ],
    )
    shown = [fault for faults in kinds for fault in faults[:3]]
    rest = sum(map(len, kinds)) - len(shown)
    more = f", and {rest} more" if rest else ""
    raise ValueError(
        f"the checkpoint {where} has other arrays than this model and configuration: "
        f"{', '.join(shown)}{more}. Use the configuration and the version of the package that "
        f"it was written with (metadata), or give another --workdir"
    )


def _leaves(tree: Any) -> dict[str, tuple]:
    """Returns `{dotted path: (shape, dtype)}`."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): (tuple(leaf.shape), str(leaf.dtype))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _describe(leaf: tuple) -> str:
    shape, dtype = leaf
    return f"{dtype}{list(shape)}"


def read_metadata(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
    """Returns a checkpoint's metadata, with tuples for sequences, under today's keys."""
    restored = manager.restore(step, args=ocp.args.Composite(metadata=ocp.args.JsonRestore()))
    check_classes(restored.metadata)
    check_sections(restored.metadata["config"])
    return {
        **restored.metadata,
        "config": _under_todays_keys(config_json.from_json(restored.metadata["config"])),
        "class_names": tuple(restored.metadata["class_names"]),
        "category_ids": tuple(restored.metadata["category_ids"]),
        "init": config_json.from_json(restored.metadata.get("init") or {}) or None,
    }


def _under_todays_keys(config: dict[str, Any]) -> dict[str, Any]:
    """Puts what older versions kept under other keys where it is today."""
    trained = config["model"]["backbone"].pop("trainable_stages", None)
    if trained is not None:  # of five stages, from the last; today `train.layers` says it in a word
        config["train"]["layers"] = {5 - n: word for word, n in LAYERS.items()}[trained]
    flip = config["data"].pop("flip", None)
    if flip is not None:
        config["data"]["augment"] = {"flip": flip}
    return config


def versions() -> dict[str, str]:
    """Returns the installed versions of what a result depends on."""
    found = {}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):  # this package runs from a checkout too
            found[package] = version(package)
    return found
