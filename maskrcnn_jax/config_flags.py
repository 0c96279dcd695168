"""The configuration that a command line names: `--config=RECIPE` and `--config.key=value`."""

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from absl import flags
from ml_collections import config_flags

from maskrcnn_jax import recipes
from maskrcnn_jax.config_json import flat

if TYPE_CHECKING:
    from maskrcnn_jax.config import Config


def read(recipe: str | None, keys: Sequence[str] = (), default: "Config | None" = None) -> "Config":
    """Returns a recipe, or another configuration, with single keys changed.

    Args:
        recipe: the value of `--config`, a file or a recipe's name (see `recipes.find`), or None
            where it was not given.
        keys: such as `--config.train.steps=100`; `separate` finds them among other arguments.
        default: what the keys change where there is no recipe; None where a recipe is required.

    Raises:
        ValueError: there is no such recipe or key, or a value is not of the key's type.
    """
    if recipe is None and default is None:
        raise ValueError(f"--config is missing; give a recipe, --config=NAME: {recipes.known()}")
    values = flags.FlagValues()
    file = None if recipe is None else recipes.find(recipe)
    arguments = [*([f"--config={file}"] if file else []), *keys]
    options = {"flag_values": values, "sys_argv": arguments}
    try:
        if file:
            config_flags.DEFINE_config_file("config", **options)
        else:
            config_flags.DEFINE_config_dataclass("config", default, **options)
        values(["", *arguments])
    except (AttributeError, KeyError) as error:  # the last part of the key, or an earlier one
        if not keys:
            raise
        config = read(recipe, (), default)
        raise ValueError(_unknown_key(keys, config)) from error
    except flags.Error as error:
        raise ValueError(faulty_flag(error).replace(f"={file}", f"={recipe}")) from error
    return values.config


def separate(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Divides arguments into keys of the configuration, as `--config.key=value`, and others."""
    keys: list[str] = []
    rest: list[str] = []
    waiting = False  # whether the last key has no value yet
    for argument in arguments:
        if argument.startswith("-") and argument.lstrip("-").startswith(("config.", "noconfig.")):
            keys.append(argument)
            waiting = "=" not in argument
        elif waiting and not argument.startswith("--"):
            keys[-1] += f"={argument}"
            waiting = False
        else:
            rest.append(argument)
            waiting = False
    return keys, rest


def only_keys(arguments: Sequence[str]) -> list[str]:
    """Returns arguments that should all be keys of the configuration.

    Raises:
        ValueError: naming those that are not.
    """
    keys, rest = separate(arguments)
    if rest:
        raise ValueError(f"unknown arguments: {' '.join(rest)}; --help shows the flags")
    return keys


def _unknown_key(keys: Sequence[str], config: "Config") -> str:
    """Returns the message for the first key that a configuration lacks, with the nearest."""
    known = flat({"config": config})
    names = [key.lstrip("-").partition("=")[0] for key in keys]
    names = [name if name in known else name.removeprefix("no") for name in names]
    unknown = next((name for name in names if name not in known), names[0])
    near = difflib.get_close_matches(unknown, known, n=1)
    guess = f"; did you mean {near[0]}?" if near else ""
    return (
        f"there is no key {unknown}{guess} (the command line changes keys that the recipe has; add "
        "others, such as arguments of a reader, to a copy of it)"
    )


def faulty_flag(error: flags.Error) -> str:
    """Returns the message about the value of a flag.

    Args:
        error: as absl raises it; its text ends in the traceback where a recipe raised something. Of
            a ValueError, with which a recipe refuses its argument, the message alone is returned.
    """
    lines = str(error).strip().splitlines()
    kind, _, message = lines[-1].strip().partition(": ")
    return f"{lines[0].split(': Error')[0]}: {message}" if kind == "ValueError" else str(error)
