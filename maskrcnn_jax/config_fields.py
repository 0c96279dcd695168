"""What a field of the configuration declares beside its default, and how values are held to it.

A section is a dataclass whose fields are made by `setting`, with their meaning and allowed values,
so that `python -m maskrcnn_jax.config` can print them and one function can check them all.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from ml_collections import ConfigDict

T = TypeVar("T")

_INTERVAL = re.compile(r"([\[(])(\S+), (\S+)([\])])")


def setting(
    default: T,
    meaning: str,
    *,
    choices: Sequence[Any] = (),
    within: str = "",
    weights: Sequence[str] | None = None,
    before: T | None = None,
) -> T:
    """Returns a field of a section.

    Args:
        default: its value unless a recipe or the command line gives another one. A mapping, which
            may be changed, is copied for each section.
        meaning: what the value does, with its unit.
        choices: all values there are, of a tuple those of its items.
        within: the interval that a number, or each number of a tuple, lies in, such as "[0, 1)".
        weights: parts of the detector whose trained weights need this value, so that it comes with
            them; empty where it is the user's choice. Every field of the model says so.
        before: what a stored configuration means that does not have the field, where that is not
            the default.
    """
    metadata: dict[str, Any] = {"meaning": meaning, "choices": tuple(choices), "within": within}
    metadata |= {"weights": weights, "before": before}
    if isinstance(default, Mapping | ConfigDict):
        copy: Any = type(default)
        return dataclasses.field(default_factory=lambda: copy(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def is_section(value: Any) -> bool:
    """Returns whether a value of a configuration is a section with fields of its own."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def fields(section: Any, key: str) -> Iterator[tuple[str, dataclasses.Field, Any]]:
    """Yields `(dotted key, field, value)` of a section and the sections inside it.

    Args:
        section: a dataclass.
        key: its own key, "config.model" say.
    """
    for field in dataclasses.fields(section):
        value, name = getattr(section, field.name), f"{key}.{field.name}"
        if is_section(value):
            yield from fields(value, name)
        else:
            yield name, field, value


def check_fields(section: Any, key: str) -> None:
    """Checks every value of a section by its type, its choices and its interval.

    A list becomes a tuple, as do texts with commas between them, and a dict a ConfigDict, whose
    keys the command line can change.

    Args:
        section: a dataclass.
        key: its key on the command line, "config.model" say.

    Raises:
        ValueError: naming the key, the value and what is expected.
    """
    types = get_type_hints(type(section))
    for field in dataclasses.fields(section):
        value, name = getattr(section, field.name), f"{key}.{field.name}"
        if dataclasses.is_dataclass(types[field.name]):
            if not isinstance(value, types[field.name]):
                raise ValueError(f"{name} is {value!r}; it is a section of keys, each set apart")
            check_fields(value, name)
            continue
        if types[field.name] is ConfigDict and isinstance(value, Mapping):
            value = ConfigDict(value)
            setattr(section, field.name, value)
        if isinstance(value, list):
            value = _tuples(value)
            setattr(section, field.name, value)
        if types[field.name] == tuple[str, ...] and isinstance(value, tuple) and len(value) == 1:
            value = tuple(str(value[0]).split(","))  # as the command line gives a,b
            setattr(section, field.name, value)
        if not _is_a(value, types[field.name]):
            raise ValueError(f"{name} is {value!r}; expected {_noun(types[field.name])}")
        _check_value(name, field, value)


def _check_value(key: str, field: dataclasses.Field, value: Any) -> None:
    """Checks one value by its field's choices and interval.

    Raises:
        ValueError: as `check_fields`.
    """
    choices, within = field.metadata.get("choices"), field.metadata.get("within")
    values = value if isinstance(value, tuple) else (value,)
    if choices and not set(values) <= set(choices):
        raise ValueError(f"{key} is {value!r}; expected {allowed(field)}")
    if within and not all(_is_within(number, within) for number in values):
        raise ValueError(f"{key} is {value!r}; expected {allowed(field)}")


def allowed(field: dataclasses.Field) -> str:
    """Returns in words which values a field may have; empty where its type says all."""
    if choices := field.metadata.get("choices"):
        return " | ".join(map(str, choices))
    if not (within := field.metadata.get("within")):
        return ""
    low, least, most, _ = _ends(within)
    if most == "inf":
        return f"at least {least}" if low == "[" else f"above {least}"
    return f"within {within}"


def _ends(within: str) -> tuple[str, ...]:
    """Returns the brackets and ends of an interval: `[`, least, most, `)`."""
    found = _INTERVAL.fullmatch(within)
    assert found is not None, within
    return found.groups()


def _is_within(number: float, within: str) -> bool:
    low, least, most, high = _ends(within)
    above = number >= float(least) if low == "[" else number > float(least)
    below = number <= float(most) if high == "]" else number < float(most)
    return above and below and math.isfinite(number)


def _is_a(value: Any, kind: Any) -> bool:
    """Returns whether a value is of an annotated type; a whole number is a float as well."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if len(arguments) == 2 and arguments[1] is ...:
            return all(_is_a(item, arguments[0]) for item in value)
        return len(value) == len(arguments) and all(map(_is_a, value, arguments))
    if kind is float:
        return type(value) in (int, float)
    if kind in (int, bool, str, NoneType):
        return type(value) is kind
    return isinstance(value, origin or kind)


def _noun(kind: Any) -> str:
    """Returns a type in words."""
    words = {int: "a whole number", float: "a number", str: "text", bool: "True or False"}
    return words.get(kind) or ("a tuple" if get_origin(kind) is tuple else "keys with values")


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value
