"""A configuration as JSON, and whether two of them belong to the same training run."""

import math
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict, FrozenConfigDict

# What a run that is resumed must have in common with its checkpoint: the state's structure, the
# data and their order follow from it. Everything else may change, and the change is printed.
FIXED = ("seed", "model", "data", "train.batch_size", "train.optimizer", "train.layers")
FREE = (
    "data.val",
    "data.workers",
    "data.prefetch",
    "data.on_error",
    "data.max_pixels",
    "model.detections",
    "model.rpn.pre_nms_top_n_eval",
    "model.rpn.post_nms_top_n_eval",
)


def to_json(config: ConfigDict) -> dict[str, Any]:
    """Returns the configuration as what JSON knows: dicts, lists, numbers, strings, null.

    Raises:
        ValueError: for a value that JSON would not give back.
    """
    return _plain(config, "config")


def _plain(value: Any, key: str) -> Any:
    if isinstance(value, ConfigDict | FrozenConfigDict | dict):
        return {name: _plain(value[name], f"{key}.{name}") for name in value}
    if isinstance(value, tuple | list):
        return [_plain(item, key) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{key} is {value}; it must be a finite number")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(
        f"{key} is a {type(value).__name__}; a configuration holds only numbers, strings, "
        f"booleans, None, tuples and further keys"
    )


def from_json(values: dict[str, Any]) -> dict[str, Any]:
    """Returns what `to_json` was given, as a plain dict; sequences become tuples again."""
    return {
        name: from_json(value) if isinstance(value, dict) else _tuples(value)
        for name, value in values.items()
    }


def with_defaults(values: dict[str, Any], defaults: ConfigDict) -> dict[str, Any]:
    """Returns a configuration with the keys that did not exist yet when it was written.

    Args:
        values: as `from_json` returns it.
        defaults: of all keys there are today.
    """
    filled = from_json(to_json(defaults))
    for name, value in values.items():
        is_section = isinstance(value, dict) and isinstance(defaults.get(name), ConfigDict)
        filled[name] = with_defaults(value, defaults[name]) if is_section else value
    return filled


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def check_resumable(now: ConfigDict, saved: dict[str, Any], where: str) -> list[str]:
    """Checks that a run may go on from a checkpoint under today's configuration.

    The string values of `data.train` may change: they say where the data lie.

    Args:
        now: the configuration asked for.
        saved: the configuration in the checkpoint.
        where: the checkpoint's folder, for the message.

    Returns:
        The differences that do no harm, each as `train.steps: 100 -> 200`.

    Raises:
        ValueError: naming every key that differs and must not.
    """
    harmless: list[str] = []
    fatal: list[str] = []
    for key, old, new in differences(saved, now):
        line = f"{key}: {_show(old)} -> {_show(new)}"
        is_place = key.startswith("data.train.") and isinstance(old, str) and isinstance(new, str)
        is_fixed = _under(key, FIXED) and not _under(key, FREE) and not is_place
        (fatal if is_fixed else harmless).append(line)
    if fatal:
        raise ValueError(
            f"the checkpoint in {where} is of a run with another configuration; what differs "
            f"(checkpoint -> now): {'; '.join(fatal)}. Put these keys back, or give another "
            f"--workdir to start a new run"
        )
    return harmless


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """Returns `(dotted key, old value, new value)` for all that differs; `...` where absent."""
    old, new = flat(old), flat(new)
    keys = list(old) + [key for key in new if key not in old]
    return [
        (key, old.get(key, ...), new.get(key, ...))
        for key in keys
        if old.get(key) != new.get(key)  # an absent key is as one without a value
    ]


def flat(values: dict[str, Any]) -> dict[str, Any]:
    """Returns a configuration, or a section of one, by dotted keys; sequences become tuples."""
    return dict(_flat(values, ""))


def _flat(values: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name in values:
        value = values[name]
        if isinstance(value, ConfigDict | FrozenConfigDict | dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _tuples(value)


def _under(key: str, parents: tuple[str, ...]) -> bool:
    return any(key == parent or key.startswith(f"{parent}.") for parent in parents)


def _show(value: Any) -> str:
    return "absent" if value is ... else repr(value)
