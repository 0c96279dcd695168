"""How every command begins and ends."""

import argparse
import faulthandler
import inspect
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from absl import flags, logging

from maskrcnn_jax.console import safe_streams
from maskrcnn_jax.visualization.style import COLOR_BY, PALETTES, Style, palette

# What requirements-light.txt leaves out; prepared datasets need them.
_NOT_IN_LIGHT = ("tensorflow", "tensorflow_datasets")
_UNREAD = 141  # the status that shells give a program whose output nobody reads any more


def parser(
    description: str | None, prog: str | None = None, epilog: str | None = None
) -> argparse.ArgumentParser:
    """Returns the parser of a command, with what every command takes.

    Args:
        description: of the command, the docstring of its module.
        prog: how it is started; by default the name of the program.
        epilog: the last lines of its help.
    """
    made = argparse.ArgumentParser(
        prog=prog,
        description=inspect.cleandoc(description or ""),
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_debug(made)
    return made


def add_debug(parser: argparse.ArgumentParser) -> None:
    """Adds `--debug`."""
    parser.add_argument(
        "--debug", action="store_true", help="show the traceback of an error, and libraries' logs"
    )


def add_config(parser: argparse.ArgumentParser) -> None:
    """Adds `--config`, whose value `config_flags.read` takes."""
    parser.add_argument(
        "--config",
        metavar="RECIPE",
        help="a recipe's name (coco, coco:3x) or file; --config.KEY=VALUE changes one of its keys",
    )


def add_cache(parser: argparse.ArgumentParser) -> None:
    """Adds `--compilation_cache`, whose value `use_compilation_cache` takes."""
    parser.add_argument(
        "--compilation_cache", metavar="DIR", help="the folder of compiled programs, or off"
    )


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Adds `--workdir` and `--checkpoint`, which name a trained model."""
    parser.add_argument(
        "--workdir", metavar="DIR", required=True, help="the folder of the training run"
    )
    parser.add_argument(
        "--checkpoint",
        metavar="NAME",
        default="last",
        help="last, best or the number of a step (last)",
    )


def add_tta(parser: argparse.ArgumentParser) -> None:
    """Adds `--tta`, whose value `test_time.parse_views` takes."""
    parser.add_argument(
        "--tta",
        metavar="VIEWS",
        help="test-time augmentation: flip, scales besides 1, or both, as flip,0.8,1.25; each view "
        "costs the time of an image",
    )


def add_drawing(parser: argparse.ArgumentParser) -> None:
    """Adds what `drawing_style` takes."""
    group = parser.add_argument_group("how objects are drawn")
    for name, what in (
        ("masks", "masks"),
        ("boxes", "boxes"),
        ("names", "names of classes"),
        ("scores", "scores"),
    ):
        group.add_argument(
            f"--{name}", action=argparse.BooleanOptionalAction, default=True, help=f"draw {what}"
        )
    group.add_argument(
        "--color_by",
        choices=COLOR_BY,
        default=Style.color_by,
        help="a colour for every object or for every class (instance)",
    )
    group.add_argument(
        "--palette",
        metavar="COLOURS",
        help=f"{', '.join(PALETTES)}, or a list such as ff0000,0066cc; used in turn",
    )
    group.add_argument(
        "--line_width", type=int, metavar="N", help="pixels (1 for each 600 of the long side)"
    )
    group.add_argument(
        "--opacity",
        type=float,
        metavar="FRACTION",
        default=Style.opacity,
        help=f"of the tint of masks, 0 to 1 ({Style.opacity})",
    )
    group.add_argument(
        "--splash", action="store_true", help="instead of all that: objects in colour on grey"
    )


def drawing_style(options: argparse.Namespace) -> Style:
    """Returns the style that flags describe; raises ValueError where one does not fit."""
    return Style(
        masks=options.masks,
        boxes=options.boxes,
        names=options.names,
        scores=options.scores,
        color_by=options.color_by,
        palette=palette(options.palette) if options.palette is not None else None,
        line_width=options.line_width,
        opacity=options.opacity,
        splash=options.splash,
    )


def status_of(
    command: Callable[[], int | None],
    debug: bool,
    quiet: int = logging.ERROR,
    interrupted: str = "interrupted",
    who: Callable[[], str] = str,
) -> int:
    """Runs a command; returns its exit status when everything has been said.

    An error that the user can fix is one line on stderr.

    Args:
        command: what is to be done; returns its exit status, None for 0.
        debug: show tracebacks, and the logs of libraries.
        quiet: otherwise, the level of those logs that are shown.
        interrupted: what is printed on Ctrl-C.
        who: gives what a line on stderr begins with.

    Returns:
        The command's status, 2 after an error that the user can fix, 130 after Ctrl-C, or 141
        where nobody reads what is printed any more.

    Raises:
        Exception: an error of another kind.
    """
    logging.use_absl_handler()
    if not debug:
        logging.set_verbosity(quiet)
    with suppress(OSError, ValueError):  # stderr is no file, as in a test
        faulthandler.enable()
    with safe_streams():  # names of files, and what is in them, are anybody's
        return _status_of(command, debug, interrupted, who)


def _status_of(
    command: Callable[[], int | None], debug: bool, interrupted: str, who: Callable[[], str]
) -> int:
    try:
        return command() or 0
    except KeyboardInterrupt:
        print(f"{who()}{interrupted}", file=sys.stderr)
        return 130
    except BrokenPipeError as error:
        if not _is_unread(sys.stdout):
            print(f"{who()}error: {error}", file=sys.stderr)
            return 2
        return _UNREAD
    except (ValueError, OSError, FloatingPointError, flags.Error) as error:
        if debug:
            traceback.print_exc()
        else:
            print(f"{who()}error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if debug or error.name not in _NOT_IN_LIGHT:
            raise
        print(
            f"{who()}error: this needs the package {error.name}, which is not installed: "
            f"pip install -r requirements.txt",
            file=sys.stderr,
        )
        return 2


def _is_unread(stream: TextIO) -> bool:
    """Returns whether nobody reads a stream any more, as after `| head`; it is silent from then."""
    try:
        print(file=stream, flush=True)
        return False
    except BrokenPipeError:
        with suppress(OSError, ValueError):  # Python flushes it again when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return True


def leave(status: int) -> None:
    """Ends the process at once, when all that was printed is out.

    Args:
        status: of the exit.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # closed, or nobody reads it
            stream.flush()
    os._exit(status)
