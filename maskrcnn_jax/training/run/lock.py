"""One run at a time in a work directory: two would clear away each other's checkpoints."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import jax

from maskrcnn_jax.files import own, refuse_links
from maskrcnn_jax.parallel import agreement
from maskrcnn_jax.parallel.messages import warn

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

FILE = ".lock"
# What a run writes into its folder, but for files that take the place of what is there.
_WRITTEN = (FILE, "checkpoints", "best", "damaged", "earlier", "eval", "tensorboard")


@contextmanager
def only_run_in(workdir: str | Path) -> Iterator[None]:
    """Holds a work directory for this run, as long as it lives.

    Process 0 holds it, and the kernel releases it however that process ends. Where there are no
    locks (some network disks, Windows), that is reported on stderr, and the run continues without.

    Args:
        workdir: an existing folder; `.lock` is written there.

    Raises:
        ValueError: in every process, where another run has it.
        OSError: there are links where a run writes.
    """
    path, file, holder = Path(workdir).absolute() / FILE, None, ""
    refuse_links(*(path.parent / name for name in _WRITTEN))
    if jax.process_index() == 0:
        file, holder = _lock(path)
    try:
        _refuse(path.parent, holder)
        if file is not None:
            with suppress(OSError):  # a full disk: the name is a courtesy
                os.ftruncate(file, 0)
                os.write(file, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        if file is not None:
            os.close(file)


def check_free(workdir: str | Path) -> None:
    """Checks that no run holds a work directory, before anything is read or written.

    And that nothing in it is a link: a folder that somebody else has packed could have a run
    overwrite any file of its user.

    Args:
        workdir: a folder, which need not exist.

    Raises:
        ValueError: in every process, where a run has it.
        OSError: there are links where a run writes.
    """
    path, file, holder = Path(workdir).absolute() / FILE, None, ""
    refuse_links(*(path.parent / name for name in _WRITTEN))
    if jax.process_index() == 0 and path.is_file():
        file, holder = _lock(path)
    if file is not None:
        os.close(file)
    _refuse(path.parent, holder)


def _refuse(workdir: Path, holder: str) -> None:
    if agreement.of_first({"is held": bool(holder)})["is held"]:
        raise ValueError(
            f"another run ({holder or 'process 0 says which'}) is writing to {workdir}. Wait for "
            f"its end, or give another --workdir"
        )


def _lock(path: Path) -> tuple[int | None, str]:
    """Returns the file that is locked now, or None; and who holds it where another does."""
    file: int | None = None
    try:
        if fcntl is None:
            raise OSError("this platform has no locks of files")
        file = own(path, os.O_RDWR | os.O_CREAT)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return file, ""
    except BlockingIOError:
        assert file is not None  # it was opened before it was locked
        holder = os.read(file, 300).decode(errors="replace").strip()
        os.close(file)
        return None, holder or "its process is not known"
    except OSError as error:
        if file is not None:
            os.close(file)
        warn(f"{path} cannot be locked ({error}): start no second run with this --workdir")
        return None, ""
