"""Leaving in time: who sends a signal often kills soon after, whatever is still being done.

Python runs no handler of a signal while XLA compiles, which takes minutes: then a thread looks at
what the signal leaves in a pipe.
"""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maskrcnn_jax.parallel.exit_notice import newest_checkpoint
from maskrcnn_jax.timers import called_after
from maskrcnn_jax.training.run.activity import Activity

_LONG_WORK = ("compilation", "an evaluation")  # what `Activity` calls it; nothing of it is saved


@contextmanager
def leaves_compilation(seconds: float, activity: Activity, folder: Path) -> Iterator[None]:
    """Ends the process some time after SIGTERM or Ctrl-C where it compiles, and cannot hear them.

    Args:
        seconds: `config.train.emergency_seconds`.
        activity: of the thread that trains, the main one.
        folder: of the checkpoints, for the message.
    """
    reads, writes = socket.socketpair()
    for end in (reads, writes):
        end.setblocking(False)
    ended = threading.Event()

    def watch() -> None:
        reads.setblocking(True)
        while received := reads.recv(1):
            number = received[0]
            if number not in (signal.SIGINT, signal.SIGTERM):
                continue
            before = activity.now()
            if before.doing not in _LONG_WORK or ended.wait(seconds):
                continue
            now = activity.now()
            if (now.step, now.doing) == (before.step, before.doing):
                _leave(
                    number,
                    f"{now.doing} has not ended within {seconds:g} s of the signal "
                    "(config.train.emergency_seconds)",
                    folder,
                )

    earlier = signal.set_wakeup_fd(writes.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=watch, name="signals", daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        signal.set_wakeup_fd(earlier)
        writes.close()  # which ends the thread


def _leave(signal_number: int, why: str, folder: Path) -> None:
    then = "The same command resumes from the newest checkpoint, or starts where there is none"
    message = f"\n{why}. {newest_checkpoint(folder)} {then}\n"
    os.write(sys.stderr.fileno(), message.encode())
    os._exit(128 + signal_number)


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
        _leave(
            signal_number,
            f"the last state could not be saved within {seconds:g} s "
            "(config.train.emergency_seconds)",
            folder,
        )

    with called_after(seconds, leave):
        yield
