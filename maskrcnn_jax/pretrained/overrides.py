"""Keys of `config.model` that somebody gives because weights need them otherwise."""

import ast
import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from maskrcnn_jax import config_json
from maskrcnn_jax.config import get_config


def parsed(settings: Sequence[str]) -> dict[str, Any]:
    """Returns what `--set model.KEY=VALUE` says, by keys without `model.`.

    Args:
        settings: the texts behind each `--set`; a value that is no literal of Python is a string.

    Raises:
        ValueError: one is not of that form.
    """
    values = {}
    for setting in settings:
        key, separator, text = setting.partition("=")
        if not separator or not key.startswith("model."):
            raise ValueError(f"--set {setting}: expected model.KEY=VALUE")
        try:
            values[key.removeprefix("model.")] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            values[key.removeprefix("model.")] = text
    return values


def check(overrides: Mapping[str, Any]) -> None:
    """Checks that keys exist and that their values have the right types.

    Args:
        overrides: keys of `config.model`, flattened.

    Raises:
        ValueError: naming the key.
    """
    config = get_config().model
    known = config_json.flat(config)
    for key, value in overrides.items():
        if key not in known:
            raise ValueError(f"there is no key model.{key}{_hint(key, known)}")
        try:
            config.update_from_flattened_dict({key: value})
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"model.{key} cannot be {value!r}; expected a {type(known[key]).__name__} such as "
                f"{known[key]!r}"
            ) from error


def put(config: ConfigDict, overrides: Mapping[str, Any]) -> None:
    """Sets keys of `config.model` that `check` has found right."""
    config.update_from_flattened_dict(dict(overrides))


def _hint(key: str, known: Mapping[str, Any]) -> str:
    if inside := [name for name in known if name.startswith(f"{key}.")]:
        return f" to set, but a section with {', '.join(f'model.{name}' for name in inside)}"
    near = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean model.{near[0]}?" if near else "; maskrcnn_jax/config.py has them all"
