"""What several processes must do alike: they agree on it, or find out that they do not.

Every process has to take part in every collective operation, in the same order. So each branch of
the run must be taken by all or by none of them.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec


class Agreement:
    """The largest of the numbers that the processes have, the same for all at the same time.

    Asked once a step, it does not keep the devices waiting: with several processes the answer
    is to what was asked the time before.
    """

    def __init__(self):
        self._answer: jax.Array | None = None
        if jax.process_count() > 1:
            mesh = Mesh(np.array(jax.devices()), ("devices",))
            self._split = NamedSharding(mesh, PartitionSpec("devices"))
            self._largest = jax.jit(jnp.max, out_shardings=NamedSharding(mesh, PartitionSpec()))

    def __call__(self, number: int) -> int:
        """Returns what all have agreed on; to be called by all processes equally often.

        Args:
            number: this process's.
        """
        if jax.process_count() == 1:
            return number
        mine = np.full(jax.local_device_count(), number, np.int32)
        asked = self._largest(jax.make_array_from_process_local_data(self._split, mine))
        answer, self._answer = self._answer, asked
        return 0 if answer is None else int(answer)


def total(counts: Mapping[str, float]) -> dict[str, float]:
    """Returns the sums over all processes.

    Args:
        counts: this process's, with the same keys in each.
    """
    if jax.process_count() == 1:
        return dict(counts)
    sums = multihost_utils.process_allgather(np.array(list(counts.values()), np.float32)).sum(0)
    return dict(zip(counts, sums.tolist(), strict=True))


def of_first(numbers: Mapping[str, float]) -> dict[str, float]:
    """Returns process 0's numbers, to the bit, in all processes.

    Args:
        numbers: this process's, with the same keys in each.
    """
    if jax.process_count() == 1:
        return dict(numbers)
    mine = np.array(list(numbers.values()), np.float64).view(np.uint32)  # JAX has no float64 here
    first = np.ascontiguousarray(multihost_utils.broadcast_one_to_all(mine))
    return dict(zip(numbers, first.view(np.float64).tolist(), strict=True))


def check_same(facts: Mapping[str, Any]) -> None:
    """Checks that all processes begin with the same.

    Args:
        facts: by what the user calls them; of what JSON knows.

    Raises:
        ValueError: in every process, naming what differs.
    """
    if jax.process_count() == 1:
        return
    digests = [
        np.frombuffer(hashlib.sha256(json.dumps(fact, default=str).encode()).digest(), np.uint8)
        for fact in facts.values()
    ]
    everywhere = multihost_utils.process_allgather(np.stack(digests))  # [processes, facts, 32]
    others = [
        f"{name} (process {', '.join(map(str, np.flatnonzero(differs)))})"
        for name, differs in zip(facts, (everywhere != everywhere[0]).any(2).T, strict=True)
        if differs.any()
    ]
    if others:
        raise ValueError(
            f"the processes of a run must have the same of everything, but these differ from "
            f"process 0: {'; '.join(others)}. Start all with the same command, but for "
            f"--process_id, the same data and a work directory that all of them share"
        )


def check_shared(folder: str | Path) -> None:
    """Checks that a folder is one and the same for all processes.

    Args:
        folder: made where it does not exist.

    Raises:
        ValueError: in every process, naming those that see another folder.
        OSError: in process 0, where the folder cannot be written.
    """
    if jax.process_count() == 1:
        return
    number = np.frombuffer(os.urandom(4), np.uint32)[0]
    number = int(multihost_utils.broadcast_one_to_all(number))
    mark = Path(folder) / f".shared-by-all-processes-{number}"
    if jax.process_index() == 0:
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    multihost_utils.sync_global_devices("mark made")
    seen = multihost_utils.process_allgather(np.array(mark.exists()))
    if jax.process_index() == 0:
        mark.unlink()
    if not seen.all():
        without = ", ".join(map(str, np.flatnonzero(~seen)))
        raise ValueError(
            f"process {without} does not see what process 0 writes to {Path(folder).absolute()}: "
            f"the work directory must be on a disk that all hosts share; give another --workdir"
        )


def any_process(is_true: bool) -> bool:
    """Returns whether it is true in any process; all of them ask."""
    if jax.process_count() == 1:
        return is_true
    return bool(multihost_utils.process_allgather(np.array(is_true)).any())


def wait_for_all(what: str) -> None:
    """Returns when all processes have come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)
