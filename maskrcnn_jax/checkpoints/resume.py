"""What a run resumes from, and whether its configuration may."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from maskrcnn_jax.checkpoints import format as checkpoint_format
from maskrcnn_jax.checkpoints.damage import first_line, is_passing
from maskrcnn_jax.checkpoints.layout import LAST
from maskrcnn_jax.config_json import differences, section
from maskrcnn_jax.files import check_regular

# What a run that is resumed must have in common with its checkpoint: the state's structure, the
# data and their order follow from it. Everything else may change, and the change is printed.
FIXED = ("seed", "model", "data", "train.batch_size", "train.optimizer", "train.layers")
FREE = (
    "data.val",
    "data.workers",
    "data.prefetch",
    "data.engine",
    "data.on_error",
    "data.max_pixels",
    "model.detections",
    "model.box_head.class_image_counts",
    "model.rpn.pre_nms_top_n_eval",
    "model.rpn.post_nms_top_n_eval",
)


def metadata_to_resume(workdir: str | Path) -> dict[str, Any] | None:
    """Returns the metadata of the checkpoint that a run in this folder resumes from.

    Args:
        workdir: the run's folder, which need not exist; nothing in it is changed.

    Returns:
        See `Checkpoints.metadata`; None where there is no checkpoint. Where that of the newest
        cannot be read, it is that of the newest that can.

    Raises:
        ValueError: where the checkpoint holds weights alone, or there is none that can be read.
    """
    folder = Path(workdir).absolute() / LAST
    if not folder.is_dir():
        return None
    check_regular(folder)
    faults = []
    with closing(checkpoint_format.make_manager(folder, keep=None, read_only=True)) as manager:
        for step in sorted(manager.all_steps(), reverse=True):
            try:
                metadata = checkpoint_format.read_metadata(manager, step)
            except Exception as error:
                if is_passing(error):
                    raise
                faults.append(f"{folder / str(step)}: {first_line(error)}")
                continue
            if not (folder / str(step) / "optimizer").is_dir() and "source" in metadata:
                raise ValueError(
                    f"the checkpoint in {folder} holds weights alone, no training run to "
                    f"resume; start from them with --config.init={workdir} and another --workdir"
                )
            return metadata
    if faults:
        raise ValueError(
            f"none of the checkpoints in {folder} can be read ({'; '.join(faults)}). Put back a "
            f"copy of one, or give another --workdir to start again"
        )
    return None


def check_resumable(now: Any, saved: Mapping[str, Any], where: str) -> list[str]:
    """Checks that a run may resume from a checkpoint under today's configuration.

    The string values of `data.train` may change: they say where the data lie.

    Args:
        now: the whole configuration asked for.
        saved: the configuration in the checkpoint, as `to_json` returned it; keys that came later
            have their defaults.
        where: the checkpoint's folder, for the message.

    Returns:
        The differences that do no harm, each as `config.train.steps: 100 -> 200`.

    Raises:
        ValueError: naming every key that differs and must not.
    """
    harmless: list[str] = []
    fatal: list[str] = []
    for key, old, new in differences(section(type(now), saved), now):
        line = f"config.{key}: {_show(old)} -> {_show(new)}"
        is_place = key.startswith("data.train.") and isinstance(old, str) and isinstance(new, str)
        is_fixed = _under(key, FIXED) and not _under(key, FREE) and not is_place
        (fatal if is_fixed else harmless).append(line)
    if fatal:
        raise ValueError(
            f"the checkpoint in {where} is of a run with another configuration; what differs "
            f"(checkpoint -> now): {'; '.join(fatal)}. Put these keys back, or start "
            f"a new run from its weights: --config.init={Path(where).parent} and another --workdir"
        )
    return harmless


def _under(key: str, parents: tuple[str, ...]) -> bool:
    return any(key == parent or key.startswith(f"{parent}.") for parent in parents)


def _show(value: Any) -> str:
    return "absent" if value is ... else repr(value)
