"""Keys of `config.model` that the user gives because weights need them otherwise."""

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.models.config import ModelConfig


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
        overrides: keys of `config.model`, by dotted names.

    Raises:
        ValueError: naming the key.
    """
    model = ModelConfig()
    set_values(model, overrides, "model")
    model.validate("model")
