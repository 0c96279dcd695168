"""Whether the run's folder can be written, asked before the first step and not hours later."""

import errno
import math
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from maskrcnn_jax.checkpoints.layout import BEST, LAST
from maskrcnn_jax.parallel.messages import warn


def check_writable(workdir: str | Path, state: Any, keep: int) -> None:
    """Checks that the folders of a run can be made and written, and hold at least a checkpoint.

    Process 0 alone tries; all learn the result.

    Args:
        workdir: the run's folder; made where it does not exist.
        state: the shapes and dtypes of what a checkpoint holds.
        keep: `config.train.keep_checkpoints`.

    Raises:
        OSError: in every process, saying what is in the way.
    """
    error = None
    if jax.process_index() == 0:
        try:
            _probe(Path(workdir).absolute(), state_bytes(state), keep)
        except OSError as failure:
            error = failure
    failed = error is not None
    if jax.process_count() > 1:
        failed = bool(multihost_utils.broadcast_one_to_all(np.array(failed)))
    if failed:
        raise error or OSError(f"process 0 cannot write to {workdir}; its message says why")


def state_bytes(state: Any) -> int:
    """Returns the bytes of all arrays of a tree, which a checkpoint hardly compresses."""
    leaves = jax.tree.leaves(state)
    return sum(math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in leaves)


def _probe(workdir: Path, num_bytes: int, keep: int) -> None:
    for folder in (workdir, workdir / LAST, workdir / BEST):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # The name cannot be foreseen: a link of a known name would lead elsewhere.
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(os.urandom(4096))
        except OSError as error:
            raise OSError(
                error.errno,
                f"the run's folder cannot be written: {error.strerror} ({folder}). {_cure(error)}, "
                f"or give another --workdir",
            ) from error
    free = shutil.disk_usage(workdir).free
    if free < num_bytes:
        raise OSError(
            errno.ENOSPC,
            f"a checkpoint of this run takes {_size(num_bytes)}, but on the disk of {workdir} "
            f"only {_size(free)} are free. Make room, or give another --workdir",
        )
    there = sum(1 for path in workdir.glob("*/*") if path.name.isdecimal())
    # Those kept, the best, and one of each that is written before an older one goes.
    missing = max(keep + 3 - there, 1)
    if free < missing * num_bytes:
        warn(
            f"{workdir} has {_size(free)} free, but up to {missing} more checkpoints of "
            f"{_size(num_bytes)} are to be kept there; make room, or lower "
            f"config.train.keep_checkpoints"
        )


def _cure(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "Make room"
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return "A file of that name is in the way: move it"
    return "Change its permissions"


def _size(num_bytes: int) -> str:
    unit, size = ("GiB", 2**30) if num_bytes >= 2**30 else ("MiB", 2**20)
    return f"{num_bytes / size:,.1f} {unit}"
