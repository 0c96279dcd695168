"""How a command that may be one of several processes begins and ends."""

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from absl import flags

from maskrcnn_jax.cli.process_flags import cluster
from maskrcnn_jax.config_flags import faulty_flag
from maskrcnn_jax.parallel import processes as distributed
from maskrcnn_jax.parallel.interrupts import Interrupted
from maskrcnn_jax.training.run.progress import NonFiniteLoss


def run(command: Callable[[], None], debug: bool) -> None:
    """Runs a command among the other processes of its run, if there are any, and ends this one.

    An error that the user can mend is a line on stderr. One of several processes that meets an
    error ends at once, since waiting for the others would be waiting for ever.

    The process leaves without taking the interpreter down: threads of TensorFlow, TensorStore and
    JAX that are still there can crash in that, with another status than the command's. So what
    is written must be closed when the command returns.

    Args:
        command: what is to be done.
        debug: show tracebacks.

    Raises:
        Exception: where it is the only process, an error that is no user's.
    """
    sys.unraisablehook = _without_late_writes(sys.unraisablehook)
    leave(status_of(command, debug))


def status_of(command: Callable[[], None], debug: bool) -> int:
    """Runs a command; returns its exit status when everything has been said.

    Args:
        command: as for `run`.
        debug: as for `run`.

    Returns:
        0, 2 after an error that the user can mend, 1 after another, 130 after Ctrl-C, 128 + the
        signal's number where the command has stopped on a signal.

    Raises:
        Exception: as `run`.
    """
    try:
        distributed.join(cluster())
        command()
        distributed.leave()
        return 0
    except Interrupted as interrupted:  # all processes have stopped
        print(f"{distributed.name()}{interrupted}", file=sys.stderr, flush=True)
        distributed.leave()
        return 128 + interrupted.signal_number
    except KeyboardInterrupt:
        print(f"{distributed.name()}interrupted", file=sys.stderr)
        status = 130
    except (ValueError, OSError, NonFiniteLoss, flags.Error) as error:
        if debug:
            traceback.print_exc()
        else:
            text = faulty_flag(error) if isinstance(error, flags.Error) else error
            print(f"{distributed.name()}error: {text}", file=sys.stderr)
        status = 2
    except Exception as error:
        if not distributed.is_one_of_several():
            raise
        traceback.print_exc()
        print(f"{distributed.name()}error: {type(error).__name__}: {error}", file=sys.stderr)
        status = 1
    distributed.let_others_speak()
    return status


def leave(status: int) -> None:
    """Ends the process at once, when all that was printed is out.

    Args:
        status: of the exit.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # closed, or nobody reads it
            stream.flush()
    os._exit(status)


def _without_late_writes(hook: Callable) -> Callable:
    """Returns a hook of errors that nobody can catch, without those of a write that has failed.

    When one array of a checkpoint cannot be written Orbax closes its event loop; TensorStore then
    reports every other array to it in vain, a traceback each, around the warning that counts.
    """

    def report(unraisable: Any) -> None:
        error = unraisable.exc_value
        if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
            hook(unraisable)

    return report
