"""One run at a time in a work directory: two would clear away each other's checkpoints."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

import jax

from maskrcnn_jax.training import agreement

FILE = ".lock"


@contextmanager
def only_run_in(workdir: Path) -> Iterator[None]:
    """Holds a work directory for this run, as long as it lives.

    Process 0 holds it, and the kernel gives it free however that process ends. On a disk that knows
    no locks it is not held.

    Args:
        workdir: an existing folder; `.lock` is written there.

    Raises:
        ValueError: in every process, where another run has it.
    """
    file, holder = None, ""
    if jax.process_index() == 0:
        file = open(workdir / FILE, "a+", encoding="utf-8")  # noqa: SIM115
        holder = _lock(file)
    try:
        if agreement.of_first({"is held": bool(holder)})["is held"]:
            raise ValueError(
                f"another run{holder} is writing to {workdir}. Wait for its end, or give another "
                f"--workdir"
            )
        yield
    finally:
        if file is not None:
            file.close()


def _lock(file: TextIO) -> str:
    """Returns who has the lock, empty where it is this process now."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        return f" ({file.read().strip() or 'of an unknown process'})"
    except OSError:  # some network disks
        return ""
    with suppress(OSError):  # a full disk: the name is a courtesy
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
    return ""
