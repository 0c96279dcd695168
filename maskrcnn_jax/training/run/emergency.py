"""Leaving in time: who sends a signal often kills soon after, whatever is still being written."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maskrcnn_jax.parallel.exit_notice import newest_checkpoint


@contextmanager
def leaves_in_time(seconds: float, signal_number: int, folder: Path) -> Iterator[None]:
    """Ends the process, with a message, if what is done within it takes too long.

    A checkpoint that is then half written is cleared away by the next run.

    Args:
        seconds: `config.train.emergency_seconds`.
        signal_number: the exit status is 128 + this.
        folder: of the checkpoints, for the message.
    """

    def leave() -> None:
        message = (
            f"\nthe last state could not be saved within {seconds:g} s "
            f"(config.train.emergency_seconds). {newest_checkpoint(folder)} The same command goes "
            f"on from there\n"
        )
        os.write(sys.stderr.fileno(), message.encode())
        os._exit(128 + signal_number)

    timer = threading.Timer(seconds, leave)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
