"""Which device holds what: the mesh, and the one place with the rules of sharding.

Batches are split by image over the mesh axis `data`; the state is on every device. The axes
`fsdp` and `space` (parameters and image rows split over devices) have size 1.
"""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

AXES = ("data", "fsdp", "space")


def make_mesh(mesh: ConfigDict) -> Mesh:
    """Returns the mesh of devices.

    Args:
        mesh: `config.mesh`; `data` is the number of devices, or -1 for all.

    Raises:
        ValueError: where there are fewer devices than asked for.
    """
    devices = jax.devices()
    count = len(devices) if mesh.data == -1 else mesh.data
    if not 1 <= count <= len(devices):
        raise ValueError(
            f"config.mesh.data is {mesh.data}, but there are {len(devices)} devices "
            f"({devices[0].device_kind}); give a number up to that, or -1 for all of them"
        )
    # Auto: with JAX's default, Explicit, the gradients of convolutions do not trace.
    return jax.make_mesh(
        (count, 1, 1), AXES, axis_types=(AxisType.Auto,) * 3, devices=devices[:count]
    )


def state_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of every array of the state: a copy on each device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of every array of a batch: images split over `data`."""
    return NamedSharding(mesh, PartitionSpec("data"))


def local_batch_size(batch_size: int, mesh: Mesh, key: str) -> int:
    """Returns how many images of a global batch this process has to provide.

    Args:
        batch_size: of all processes.
        mesh: as `make_mesh` returns it.
        key: of the configuration, for the message.

    Raises:
        ValueError: where the devices cannot have equal shares.
    """
    devices = mesh.shape["data"]
    if batch_size < 1 or batch_size % devices:
        raise ValueError(
            f"{key} is {batch_size}, which {devices} devices cannot share "
            f"equally; make it a multiple of {devices}, or use fewer devices (config.mesh.data)"
        )
    return batch_size // devices * len(mesh.local_devices)


def shard_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Returns the global batch on the devices.

    Args:
        batch: this process's images, `[B_local, ...]` each, on the host.
        mesh: as `make_mesh` returns it.

    Returns:
        The same keys, `[B, ...]` over all processes.
    """
    sharding = batch_sharding(mesh)
    return {
        key: jax.make_array_from_process_local_data(sharding, value) for key, value in batch.items()
    }


def abstract(tree: Any, mesh: Mesh) -> Any:
    """Returns shapes, dtypes and shardings of a state on this mesh, without arrays.

    Args:
        tree: pytree of arrays or of `jax.ShapeDtypeStruct`.
        mesh: as `make_mesh` returns it.
    """
    sharding = state_sharding(mesh)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
    )
