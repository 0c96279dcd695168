"""How a command that may be one of several processes begins and ends."""

import sys
import traceback
from collections.abc import Callable
from typing import Any

from absl import logging

from maskrcnn_jax.cli import command
from maskrcnn_jax.parallel import processes
from maskrcnn_jax.parallel.interrupts import Interrupted


def run(
    work: Callable[[], None],
    debug: bool,
    cluster: Callable[[], processes.Cluster] = processes.Cluster,
    quiet: int = logging.ERROR,
) -> None:
    """Runs a command among the other processes of its run, if there are any, and ends this one.

    An error that the user can fix is a line on stderr. One of several processes that meets an
    error ends at once, since waiting for the others would be waiting for ever.

    The process leaves without taking the interpreter down: threads of TensorFlow, TensorStore and
    JAX that are still there can crash in that, with another status than the command's. So what
    is written must be closed when the command returns.

    Args:
        work: what is to be done.
        debug: show tracebacks.
        cluster: gives the processes of the run; by default this is the only one.
        quiet: the level of libraries' logs that are shown without `debug`.

    Raises:
        Exception: where it is the only process, an error that the user cannot fix.
    """
    sys.unraisablehook = _without_late_writes(sys.unraisablehook)
    command.leave(status_of(work, debug, cluster, quiet))


def status_of(
    work: Callable[[], None],
    debug: bool,
    cluster: Callable[[], processes.Cluster] = processes.Cluster,
    quiet: int = logging.ERROR,
) -> int:
    """Runs a command; returns its exit status when everything has been said.

    Args:
        work: as for `run`, like the others.
        debug: show tracebacks.
        cluster: gives the processes of the run.
        quiet: the level of libraries' logs that are shown.

    Returns:
        0, 2 after an error that the user can fix, 1 after another, 130 after Ctrl-C, 128 + the
        signal's number where the command has stopped on a signal.

    Raises:
        Exception: as `run`.
    """

    def among_others() -> None:
        processes.join(cluster())
        work()
        processes.leave()

    try:
        status = command.status_of(among_others, debug, quiet, who=processes.name)
    except Interrupted as interrupted:  # all processes have stopped
        print(f"{processes.name()}{interrupted}", file=sys.stderr, flush=True)
        processes.leave()
        return 128 + interrupted.signal_number
    except Exception as error:
        if not processes.is_one_of_several():
            raise
        traceback.print_exc()
        print(f"{processes.name()}error: {type(error).__name__}: {error}", file=sys.stderr)
        status = 1
    if status:
        processes.let_others_speak()
    return status


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
