"""The configuration that a command line names: `--config=RECIPE` and `--config.key=value`."""

from collections.abc import Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from maskrcnn_jax import recipes


def read(
    recipe: str | None, keys: Sequence[str] = (), default: ConfigDict | None = None
) -> ConfigDict:
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
            config_flags.DEFINE_config_dict("config", default, **options)
        values(["", *arguments])
    except (AttributeError, KeyError) as error:  # the last part of the key, or an earlier one
        raise ValueError(unknown_key(error)) from error
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


def unknown_key(error: AttributeError | KeyError) -> str:
    """Returns the message for a key that a configuration lacks, with the key that is like it.

    Args:
        error: as `ml_collections.config_flags` raises it.
    """
    cause = error.args[0]  # a KeyError whose text has both keys, or that text
    key = cause.args[0] if isinstance(cause, KeyError) else cause
    return (
        f"the configuration has no key {' '.join(str(key).split())} (the command line changes keys "
        "that the recipe has; add others, such as arguments of a reader, to a copy of it)"
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
