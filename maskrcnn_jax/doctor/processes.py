"""Whether the processes of a run find each other."""

import jax
from absl import flags

from maskrcnn_jax.cli.process_flags import cluster
from maskrcnn_jax.doctor import environment
from maskrcnn_jax.parallel import processes as distributed


def join(arguments: list[str]) -> dict[str, str]:
    """Connects this process with the others that the command line names.

    Args:
        arguments: flags of `process_flags`; none where this process is the only one.

    Raises:
        ValueError, OSError: where that fails.
    """
    seen = environment.clusters()
    facts = {"cluster seen": ", ".join(seen) or "none"}
    if arguments:
        strange = flags.FLAGS(["doctor", *arguments])[1:]
        if strange:
            raise ValueError(f"unknown arguments: {' '.join(strange)}")
        distributed.join(cluster())
        facts["joined"] = f"process {jax.process_index()} of {jax.process_count()}"
    elif seen:
        facts["joined"] = "no: this process looks at itself alone; --distributed=auto joins all"
    return facts


def leave() -> dict[str, str]:
    """Parts from the other processes."""
    distributed.leave()
    return {"parted": "all processes have come to the end"}
