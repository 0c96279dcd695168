"""Whether the processes of a run find each other."""

from collections.abc import Callable

import jax

from maskrcnn_jax.doctor import environment
from maskrcnn_jax.parallel import processes


def join(cluster: Callable[[], processes.Cluster] | None) -> dict[str, str]:
    """Connects this process with the others that the command line names.

    Args:
        cluster: gives what the command line says of them; None where this is the only one.

    Raises:
        ValueError, OSError: where that fails.
    """
    seen = environment.clusters()
    facts = {"cluster seen": ", ".join(seen) or "none"}
    if cluster:
        processes.join(cluster())
        facts["joined"] = f"process {jax.process_index()} of {jax.process_count()}"
    elif seen:
        facts["joined"] = "no: this process looks at itself alone; --distributed=auto joins all"
    return facts


def leave() -> dict[str, str]:
    """Parts from the other processes."""
    processes.leave()
    return {"parted": "all processes have come to the end"}
