"""The flags of a command that can run as several processes."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it imports JAX, which the doctor does in a check of its own
    from maskrcnn_jax.parallel.processes import Cluster


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags whose values `cluster` takes."""
    group = parser.add_argument_group("several processes")
    group.add_argument(
        "--distributed",
        choices=("off", "auto"),
        default="off",
        help="auto: the processes of this run are found from the environment, as Slurm, Open MPI, "
        "Cloud TPU, GKE and Kubernetes set it",
    )
    group.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help="of process 0, where this is one of several processes",
    )
    group.add_argument("--num_processes", type=int, metavar="N", help="processes of this run")
    group.add_argument("--process_id", type=int, metavar="I", help="which of them this is, from 0")
    group.add_argument(
        "--local_devices",
        metavar="I,J",
        help="indices of this host's accelerators for this process; all by default",
    )
    group.add_argument(
        "--initialization_timeout",
        type=int,
        default=600,
        metavar="SECONDS",
        help="in which all processes have to be there (600)",
    )
    group.add_argument(
        "--heartbeat_timeout",
        type=int,
        default=60,
        metavar="SECONDS",
        help="of silence after which a process counts as gone (60)",
    )


def are_given(options: argparse.Namespace) -> bool:
    """Returns whether any of the flags says that there are several processes."""
    names = ("coordinator", "num_processes", "process_id", "local_devices")
    given = [getattr(options, name) for name in names]
    return options.distributed != "off" or any(value is not None for value in given)


def cluster(options: argparse.Namespace) -> Cluster:
    """Returns what the flags say about the processes of this run.

    Args:
        options: as a parser with `add_arguments` gives them.

    Raises:
        ValueError: where `--local_devices` are no numbers.
    """
    from maskrcnn_jax.parallel.processes import Cluster

    devices = options.local_devices
    indices = None if devices is None else devices.split(",")
    if indices is not None and not all(index.isdecimal() for index in indices):
        raise ValueError(f"--local_devices is {devices}; expected indices of devices, such as 0,1")
    return Cluster(
        coordinator=options.coordinator,
        num_processes=options.num_processes,
        process_id=options.process_id,
        local_devices=None if indices is None else tuple(map(int, indices)),
        detect=options.distributed == "auto",
        initialization_timeout=options.initialization_timeout,
        heartbeat_timeout=options.heartbeat_timeout,
    )
