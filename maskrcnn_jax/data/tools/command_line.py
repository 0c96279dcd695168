"""What the commands of `maskrcnn_jax.data` look at: data by a recipe, or by their format."""

import argparse
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ml_collections import ConfigDict

from maskrcnn_jax import config_flags
from maskrcnn_jax.data import datasets

if TYPE_CHECKING:
    from maskrcnn_jax.config import Config

SPLITS = ("train", "val")
# Arguments of readers that the configuration gives for both splits.
_COMMON = ("on_error", "max_pixels")


class Target(NamedTuple):
    """The configuration, whose `data` section names the data, and which of its splits are meant."""

    config: "Config"
    splits: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser, split_help: str) -> None:
    """Adds the arguments of which `target` takes the values.

    Args:
        parser: of the command.
        split_help: what is meant where `--split` is not given.
    """
    parser.add_argument("--config", metavar="FILE", help="a recipe")
    parser.add_argument("--format", metavar="NAME", help=", ".join(sorted(datasets.READERS)))
    parser.add_argument("--split", choices=(*SPLITS, "both"), help=split_help)


def target(
    options: argparse.Namespace, others: Sequence[str], default_split: str, default: "Config"
) -> Target:
    """Returns what the command line names.

    Args:
        options: with `config`, `format` and `split`, each None unless given.
        others: the further arguments: keys of the configuration, `--config.data...=VALUE`, and
            with `format` arguments of its reader, `--folder=DIR`.
        default_split: train, val or both, where data of a recipe are named without `split`.
        default: the configuration where there is no recipe.

    Raises:
        ValueError: there is no such file, key, format or argument, a value is not of its key's
            type, or no data are named.
    """
    keys, rest = config_flags.separate(others)
    config = config_flags.read(options.config, keys, default=default)
    if options.format:
        return _of_format(config, options.format, options.split, rest)
    if rest:
        raise ValueError(f"unknown arguments: {' '.join(rest)}; readers' arguments need --format")
    if not config.data.format:
        raise ValueError(
            "no data are named: give --config=FILE, a recipe with config.data.format, or "
            "--format=NAME "
            f"and the arguments of its reader; formats: {', '.join(sorted(datasets.READERS))}"
        )
    split = options.split or default_split
    return Target(config, SPLITS if split == "both" else (split,))


def _of_format(config: "Config", form: str, split: str | None, arguments: list[str]) -> Target:
    """Returns data named by format and reader's arguments, at the sizes of the configuration."""
    if form not in datasets.READERS:
        raise ValueError(f"--format={form}; expected one of {', '.join(sorted(datasets.READERS))}")
    options = _reader_options(form, arguments)
    config.data.format = form
    splits = SPLITS if split == "both" else (split,) if split else ()
    if splits and "split" not in datasets.arguments_of(form):
        raise ValueError(
            f"--split={split}: format {form} is not divided by that; give the arguments of the "
            "wanted part alone"
        )
    for name in splits:
        setattr(config.data, name, ConfigDict(options | {"split": name}))
    if not splits:
        config.data.train = ConfigDict(options)
    return Target(config, splits or ("train",))


def _reader_options(form: str, arguments: list[str]) -> dict[str, Any]:
    """Parses arguments of a reader by the types of its parameters."""
    parser = argparse.ArgumentParser(prog=f"--format={form}", add_help=False, allow_abbrev=False)
    for name, parameter in datasets.arguments_of(form).items():
        if name in (*_COMMON, "split"):
            continue
        kind = _value_type(parameter)
        if kind is None:
            raise ValueError(f"--format={form}: its {name!r} needs a recipe; give it as --config")
        parser.add_argument(
            f"--{name}",
            type=kind,
            required=parameter.default is parameter.empty,
            default=argparse.SUPPRESS,
        )
    return vars(parser.parse_args(arguments))


def _value_type(parameter: inspect.Parameter) -> Any:
    """Returns what makes a parameter's value of text; None for values that have no text."""
    if parameter.annotation in (int, float, str):
        return parameter.annotation
    if parameter.annotation is bool:
        return _boolean
    if parameter.annotation == str | Path:
        return str
    if parameter.annotation == Sequence[str]:
        return lambda text: tuple(name for name in text.split(",") if name)
    return None


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() in ("true", "1")
