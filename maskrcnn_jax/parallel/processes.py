"""One run as several processes, on one machine or on many.

JAX connects them: process 0 runs the service by which all find each other, and which notices when
one is gone. What they have to decide together is in `agreement.py`.
"""

import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jax
from jax.experimental import multihost_utils

from maskrcnn_jax.parallel.exit_notice import ExitNotice
from maskrcnn_jax.parallel.interrupts import Interrupted

# Process 0 waits so long before it leaves with an error, and the service that all need with it:
# others that have met the same error can then say so themselves.
_SECONDS_FOR_OTHERS = 3.0
_exit_notice: ExitNotice | None = None


@dataclass(frozen=True)
class Cluster:
    """How the processes of a run find each other.

    Attributes:
        coordinator: HOST:PORT on which process 0 listens.
        num_processes: of the whole run.
        process_id: of this one, 0 to num_processes - 1.
        local_devices: indices of the machine's accelerators for this process; None: all of them.
        detect: take what is not given from the environment (Slurm, Open MPI, Cloud TPU, ...).
        initialization_timeout: seconds in which all processes have to be there.
        heartbeat_timeout: seconds of silence after which a process counts as gone.
    """

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    local_devices: tuple[int, ...] | None = None
    detect: bool = False
    initialization_timeout: int = 600
    heartbeat_timeout: int = 60


def join(cluster: Cluster) -> None:
    """Connects this process with the others of its run, and prints who it is.

    To be called before anything uses a device. Does nothing where the process is the only one.

    Args:
        cluster: how they find each other.

    Raises:
        ValueError: where that is not complete, or there is no cluster to be detected.
        OSError: where process 0 cannot listen at the coordinator's port.
    """
    if not _is_several(cluster):
        return
    global _exit_notice
    number = "" if cluster.process_id is None else f" {cluster.process_id}"
    _exit_notice = ExitNotice(f"process{number} ({socket.gethostname()})")
    _exit_notice.set_message(_words_on_joining(cluster))
    # JAX would catch SIGTERM from here on, and so keep it from ending the process.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            cluster.coordinator,
            cluster.num_processes,
            cluster.process_id,
            cluster.local_devices,
            None if cluster.detect else "deactivate",
            initialization_timeout=cluster.initialization_timeout,
            heartbeat_timeout_seconds=cluster.heartbeat_timeout,
        )
        print(_first_line(cluster.coordinator or "detected"), flush=True)
    except Exception as error:
        forget()
        raise _explained(error, cluster) from error
    _exit_notice.set_message(
        "ended early: by an error, by a signal, or because another process is gone; see above, and "
        "what the others have printed. None continues alone: all end within "
        f"{cluster.heartbeat_timeout} s (--heartbeat_timeout). The same commands start all of them "
        "again, and training resumes from its newest checkpoint."
    )


def name_checkpoint_in(folder: str | Path) -> None:
    """Has a process that ends too early name the newest checkpoint there is then.

    Args:
        folder: of the checkpoints.
    """
    if _exit_notice is not None:
        _exit_notice.name_checkpoint_in(folder)


def leave() -> None:
    """Parts from the other processes, when they too have come to their end."""
    if is_one_of_several():
        multihost_utils.sync_global_devices("end of the run")
        jax.distributed.shutdown()
    forget()


def forget() -> None:
    """From here on it is no accident if this process ends."""
    global _exit_notice
    if _exit_notice is not None:
        _exit_notice.cancel()
        _exit_notice = None


def let_others_speak() -> None:
    """Waits before process 0 ends with an error that the others may not share.

    They end too: at once where this is process 0, else when its heartbeat is missed.
    """
    if is_one_of_several() and jax.process_index() == 0:
        time.sleep(_SECONDS_FOR_OTHERS)


@contextmanager
def ends_in_time(seconds: float) -> Iterator[None]:
    """An error within it ends one of several processes, even if cleaning up waits for the others.

    Args:
        seconds: for the cleaning up.
    """
    try:
        yield
    except Interrupted:  # that of all processes
        raise
    except Exception:
        if is_one_of_several():
            report = traceback.format_exc()
            timer = threading.Timer(seconds, lambda: (sys.stderr.write(report), os._exit(1)))
            timer.daemon = True
            timer.start()
        raise


def is_one_of_several() -> bool:
    """Returns whether there are other processes; no device is touched to know it."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def name() -> str:
    """Returns `process i: ` to begin a line with, or nothing where there is only one."""
    return f"process {jax.process_index()}: " if is_one_of_several() else ""


def _is_several(cluster: Cluster) -> bool:
    """Returns whether there is anything to join; checks what is given.

    Raises:
        ValueError: naming the flag.
    """
    given = {
        "--coordinator": cluster.coordinator,
        "--num_processes": cluster.num_processes,
        "--process_id": cluster.process_id,
    }
    missing = [flag for flag, value in given.items() if value is None]
    if cluster.detect or not missing:
        _check_values(cluster)
        return True
    if len(missing) < len(given):
        raise ValueError(
            f"{', '.join(missing)} must be given too: several processes need --coordinator="
            f"HOST:PORT, --num_processes=N and --process_id=I, or --distributed=auto where the "
            f"cluster tells them"
        )
    if cluster.local_devices is not None:
        raise ValueError("--local_devices says what one of several processes uses, but this is one")
    return False


def _check_values(cluster: Cluster) -> None:
    host, colon, port = (cluster.coordinator or "host:1").rpartition(":")
    if not (host and colon and port.isdecimal() and 0 < int(port) < 2**16):
        raise ValueError(
            f"--coordinator is {cluster.coordinator!r}; expected HOST:PORT, the host of process 0 "
            f"and a port free there, such as node1:12355"
        )
    count, index = cluster.num_processes, cluster.process_id
    if count is not None and count < 1:
        raise ValueError(f"--num_processes is {count}; at least 1 is expected")
    if count is not None and index is not None and not 0 <= index < count:
        raise ValueError(
            f"--process_id is {index}, but --num_processes is {count}: expected 0 to {count - 1}"
        )
    for flag in ("initialization_timeout", "heartbeat_timeout"):
        if getattr(cluster, flag) < 1:
            raise ValueError(f"--{flag} is {getattr(cluster, flag)}; at least 1 second is expected")


def _words_on_joining(cluster: Cluster) -> str:
    return (
        f"ended before all {cluster.num_processes or ''} processes had found each other, for which "
        f"they have {cluster.initialization_timeout} s (--initialization_timeout). Check that each "
        f"was started, all with the same coordinator ({cluster.coordinator or 'detected'}) and "
        f"number of processes and each with a number of its own, and that every host can reach "
        f"the coordinator's port."
    )


def _first_line(coordinator: str) -> str:
    devices = ", ".join(str(device) for device in jax.local_devices())
    return (
        f"process {jax.process_index()} of {jax.process_count()} on {socket.gethostname()}: "
        f"{jax.local_device_count()} local devices ({devices}), {jax.device_count()} in all; "
        f"coordinator {coordinator}"
    )


def _explained(error: Exception, cluster: Cluster) -> Exception:
    """Returns the error that a user can do something about."""
    if isinstance(error, ValueError) and cluster.detect:
        return ValueError(
            f"--distributed=auto, but no cluster was detected ({error}): JAX knows Slurm, Open "
            f"MPI, Cloud TPU, GKE and Kubernetes by their environment. Elsewhere give "
            f"--coordinator, --num_processes and --process_id, and one process needs none of them"
        )
    if "Failed to start RPC server" in str(error):
        return OSError(
            f"process 0 cannot listen at the port of {cluster.coordinator}: another program has "
            f"it, such as an earlier run that has not ended; give another --coordinator"
        )
    return error
