"""A configuration as JSON and by dotted keys."""

import dataclasses
import difflib
import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from ml_collections import ConfigDict, FrozenConfigDict

from maskrcnn_jax.config_fields import is_section

S = TypeVar("S")


def to_json(config: Any) -> dict[str, Any]:
    """Returns the configuration as what JSON knows: dicts, lists, numbers, strings, null.

    Raises:
        ValueError: for a value that JSON would not give back.
    """
    return _plain(config, "config")


def _plain(value: Any, key: str) -> Any:
    if (items := _items(value)) is not None:
        return {name: _plain(item, f"{key}.{name}") for name, item in items.items()}
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


def from_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what `to_json` was given, as a plain dict; sequences become tuples again."""
    return {
        name: from_json(value) if isinstance(value, dict) else _tuples(value)
        for name, value in values.items()
    }


def section(kind: type[S], values: Mapping[str, Any], key: str = "config") -> S:
    """Returns a section of the configuration with the values given, and defaults for the others.

    Args:
        kind: the section's class, `ModelConfig` say.
        values: as `to_json` returns them, perhaps of a version with fewer keys: what these meant
            then (`before` of their `setting`) is kept.
        key: of the section, for the message.

    Raises:
        ValueError: naming a key that the section does not have.
    """
    made: Any = kind()
    for field in dataclasses.fields(made):
        if field.name not in values and field.metadata.get("before") is not None:
            setattr(made, field.name, field.metadata["before"])
    for name, value in values.items():
        if name not in (names := [field.name for field in dataclasses.fields(made)]):
            raise ValueError(f"there is no key {key}.{name}{_near(key, name, names)}")
        now = getattr(made, name)
        if is_section(now):
            if not isinstance(value, Mapping):
                raise ValueError(f"{key}.{name} is {value!r}; it is a section of keys")
            value = section(type(now), value, f"{key}.{name}")
        elif isinstance(now, ConfigDict):
            value = ConfigDict(from_json(value)) if isinstance(value, Mapping) else value
        setattr(made, name, _tuples(value))
    return made


def copied(config: S) -> S:
    """Returns a copy of a configuration that shares nothing with it."""
    return section(type(config), to_json(config))


def set_values(config: Any, values: Mapping[str, Any], key: str = "config") -> None:
    """Sets keys of a section.

    Args:
        config: the section; it is changed.
        values: by dotted keys within it, "backbone.depth" say.
        key: of the section, "config.model" say.

    Raises:
        ValueError: naming a key that does not exist, or a value of another type than its.
    """
    known = flat(config)
    for dotted, value in values.items():
        if dotted not in known:
            raise ValueError(f"there is no key {key}.{dotted}{_near(key, dotted, known)}")
        *parents, name = dotted.split(".")
        place = config
        for parent in parents:
            place = getattr(place, parent)
        setattr(place, name, _of_type_of(_tuples(value), known[dotted], f"{key}.{dotted}"))


def _of_type_of(value: Any, example: Any, key: str) -> Any:
    """Returns a value as the type that an example has; a whole number may stand for a float."""
    if type(example) is float and type(value) is int:
        return float(value)
    if type(value) is not type(example):
        raise ValueError(
            f"{key} cannot be {value!r}; expected a {type(example).__name__} such as {example!r}"
        )
    return value


def _near(section_key: str, key: str, known: Any) -> str:
    """Returns what the user may have meant, for the message about an unknown key."""
    if inside := [f"{section_key}.{name}" for name in known if name.startswith(f"{key}.")]:
        return f" to set, but a section with {', '.join(inside)}"
    near = difflib.get_close_matches(key, list(known), n=1)
    return (
        f"; did you mean {section_key}.{near[0]}?"
        if near
        else "; `python -m maskrcnn_jax.config` lists all"
    )


def _items(value: Any) -> dict[str, Any] | None:
    """Returns the keys and values of a section or mapping; None of anything else."""
    if is_section(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, ConfigDict | FrozenConfigDict | Mapping):
        return {name: value[name] for name in value}
    return None


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def differences(old: Any, new: Any) -> list[tuple[str, Any, Any]]:
    """Returns `(dotted key, old value, new value)` for all that differs; `...` where absent."""
    old, new = flat(old), flat(new)
    keys = list(old) + [key for key in new if key not in old]
    return [
        (key, old.get(key, ...), new.get(key, ...))
        for key in keys
        if old.get(key) != new.get(key)  # an absent key is as one without a value
    ]


def flat(config: Any) -> dict[str, Any]:
    """Returns a configuration, or a section of one, by dotted keys; sequences become tuples."""
    return dict(_flat(config, ""))


def _flat(config: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in (_items(config) or {}).items():
        if _items(value) is not None:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _tuples(value)
