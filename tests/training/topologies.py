"""Saves or restores a state as one of several processes; a program, as their number is fixed.

    python -m tests.training.topologies save|restore FOLDER PORT PROCESSES INDEX DATA FSDP

Prints the sha256 of the whole state.
"""

import hashlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils

from maskrcnn_jax.checkpoints.manager import Checkpoints
from maskrcnn_jax.checkpoints.state import create
from maskrcnn_jax.config import get_config
from maskrcnn_jax.parallel.config import MeshConfig
from maskrcnn_jax.parallel.mesh import abstract, make_mesh, make_state

METADATA = {"config": get_config(), "class_names": ("a",), "category_ids": (1,), "num_images": 1}


def example_state(mesh, seed):
    """Arrays of several shapes, of which the largest are split along `fsdp`."""

    def make(key):
        kernel, bias, mean = jax.random.split(key, 3)
        params = {
            "kernel": jax.random.normal(kernel, (3, 128, 256)),
            "bias": jax.random.normal(bias, (5,)),
        }
        stats = {"mean": jax.random.normal(mean, (7, 3))}
        state = create({"params": params, "batch_stats": stats}, optax.trace(0.9))
        momenta = jax.tree.map(lambda x: jnp.sin(3 * x), state.params)
        opt_state = state.opt_state._replace(trace=momenta)
        return state.replace(step=state.step + 7, opt_state=opt_state)

    return make_state(make, mesh, jax.random.key(seed))


def digest(state):
    """Returns the sha256 of all bits of a state, whichever devices hold them."""
    whole = multihost_utils.process_allgather(state, tiled=True)
    content = b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(whole))
    return hashlib.sha256(content).hexdigest()


def main(task, folder, port, processes, index, data, fsdp):
    jax.distributed.initialize(f"localhost:{port}", int(processes), int(index))
    mesh = make_mesh(MeshConfig(**{"data": int(data), "fsdp": int(fsdp), "space": 1}))
    checkpoints = Checkpoints(folder, 3, METADATA)
    state = example_state(mesh, seed=1)
    if task == "save":
        checkpoints.save(state, 7, {})
        checkpoints.wait()
    else:
        state = checkpoints.restore(abstract(example_state(mesh, seed=2), mesh))
    kernel = state.params["kernel"]
    share = kernel.addressable_shards[0].data.size / kernel.size
    print("digest", digest(state), checkpoints.latest_step(), checkpoints.failures(), share)
    checkpoints.close()
    jax.distributed.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
