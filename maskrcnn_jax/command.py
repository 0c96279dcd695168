"""How a command that may be one of several processes begins and ends."""

import sys
import traceback
from collections.abc import Callable

from absl import flags

from maskrcnn_jax.flag_errors import faulty_flag
from maskrcnn_jax.process_flags import cluster
from maskrcnn_jax.training import distributed
from maskrcnn_jax.training.interrupts import Interrupted
from maskrcnn_jax.training.progress import NonFiniteLoss


def run(command: Callable[[], None], debug: bool) -> None:
    """Runs a command among the other processes of its run, if there are any.

    An error that the user can mend is a line on stderr. One of several processes that meets an
    error ends at once, since waiting for the others would be waiting for ever.

    Args:
        command: what is to be done.
        debug: show tracebacks.

    Raises:
        SystemExit: with 2 after such an error, 130 after Ctrl-C, 128 + the signal's number where
            the command has stopped on a signal.
    """
    try:
        distributed.join(cluster())
        command()
        distributed.leave()
        return
    except Interrupted as interrupted:  # all processes have stopped
        print(f"{distributed.name()}{interrupted}", file=sys.stderr, flush=True)
        distributed.leave()
        sys.exit(128 + interrupted.signal_number)
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
    if distributed.is_one_of_several():
        distributed.exit_alone(status)
    sys.exit(status)
