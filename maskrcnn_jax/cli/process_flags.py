"""The flags of a command that can run as several processes."""

from absl import flags

from maskrcnn_jax.parallel.processes import Cluster

_DISTRIBUTED = flags.DEFINE_enum(
    "distributed",
    "off",
    ("off", "auto"),
    "auto: the processes of this run are found from the environment, as Slurm, Open MPI, Cloud "
    "TPU, GKE and Kubernetes set it.",
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of process 0, where this is one of several processes."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Processes of this run.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")
_LOCAL_DEVICES = flags.DEFINE_list(
    "local_devices", None, "Indices of this host's accelerators for this process; all by default."
)
_INITIALIZATION_TIMEOUT = flags.DEFINE_integer(
    "initialization_timeout", 600, "Seconds in which all processes have to be there."
)
_HEARTBEAT_TIMEOUT = flags.DEFINE_integer(
    "heartbeat_timeout", 60, "Seconds of silence after which a process counts as gone."
)


def cluster() -> Cluster:
    """Returns what the flags say about the processes of this run.

    Raises:
        ValueError: where `--local_devices` are no numbers.
    """
    devices = _LOCAL_DEVICES.value
    if devices is not None and not all(device.isdecimal() for device in devices):
        raise ValueError(
            f"--local_devices is {','.join(devices)}; expected indices of devices, such as 0,1"
        )
    return Cluster(
        coordinator=_COORDINATOR.value,
        num_processes=_NUM_PROCESSES.value,
        process_id=_PROCESS_ID.value,
        local_devices=None if devices is None else tuple(map(int, devices)),
        detect=_DISTRIBUTED.value == "auto",
        initialization_timeout=_INITIALIZATION_TIMEOUT.value,
        heartbeat_timeout=_HEARTBEAT_TIMEOUT.value,
    )
