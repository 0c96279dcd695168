"""Prints every key of the configuration, or of a recipe, with its value and meaning.

python -m maskrcnn_jax.config
python -m maskrcnn_jax.config coco:3x --config.train.batch_size=8
"""

import argparse
import textwrap
from collections.abc import Iterator, Sequence

from maskrcnn_jax import config_flags, recipes
from maskrcnn_jax.cli import command
from maskrcnn_jax.config import Config, get_config
from maskrcnn_jax.config_fields import allowed, fields


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m maskrcnn_jax.config",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("recipe", nargs="?", metavar="RECIPE", help=recipes.known())
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    options, others = parser.parse_known_args(arguments)

    def show() -> None:
        keys = config_flags.only_keys(others)
        config = config_flags.read(options.recipe, keys, default=get_config())
        config.validate()
        print("\n".join(described(config)))
        print(f"\n{recipes.known()}")

    return command.status_of(show, options.debug)


def described(config: Config) -> Iterator[str]:
    """Yields the lines that describe a configuration; `*` marks what differs from the default."""
    defaults = {key: value for key, _, value in fields(get_config(), "config")}
    for key, field, value in fields(config, "config"):
        shown = value.to_dict() if hasattr(value, "to_dict") else value
        changed = "" if value == defaults[key] else f"    * default {defaults[key]!r}"
        yield f"--{key}={shown!r}{changed}"
        words = field.metadata["meaning"]
        if limits := allowed(field):
            words += f"  [{limits}]"
        yield from textwrap.wrap(words, 92, initial_indent="      ", subsequent_indent="      ")
