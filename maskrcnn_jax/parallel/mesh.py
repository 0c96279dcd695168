"""Which device holds what: the mesh, and the one place with the rules of sharding.

Images of a batch are sharded over the mesh axes `data` and `fsdp`, the rows of each over `space`.
The state is replicated, but for its large arrays, which are sharded over `fsdp`. How the arrays
between image and loss are sharded: `parallel/partition.py`.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from maskrcnn_jax.parallel.config import MeshConfig
from maskrcnn_jax.parallel.partition import AXES, BATCH_AXES, SPACE_AXIS

# Arrays of fewer numbers are not worth the communication of their parts.
_MIN_SPLIT = 2**14


def make_mesh(mesh: MeshConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Returns the mesh of devices: data x fsdp x space.

    The devices of a process lie together, those along `space` in one process. So each process reads
    whole images, and the images of process p come before those of process p + 1.

    Args:
        mesh: `config.mesh`: devices along each axis; -1 for `data` takes all that are left.
        devices: to choose from, such as those of a topology that programs are only compiled for;
            None: all of JAX's.

    Raises:
        ValueError: where the sizes do not fit the devices.
    """
    devices = jax.devices() if devices is None else devices
    devices = sorted(devices, key=lambda device: (device.process_index, device.id))
    sizes = _sizes(mesh, len(devices))
    count = math.prod(sizes)
    given = " x ".join(f"{axis} {size}" for axis, size in zip(AXES, sizes, strict=True))
    if count > len(devices):
        raise ValueError(
            f"config.mesh asks for {count} devices ({given}), but there are {len(devices)} "
            f"({devices[0].device_kind}); make an axis smaller, or data -1 for all that are left"
        )
    of_process = Counter(device.process_index for device in devices)
    if count < len(devices) and len(of_process) > 1:
        raise ValueError(
            f"config.mesh has {count} devices ({given}), but the {len(of_process)} processes "
            f"have {len(devices)}, and all must be used; make config.mesh.data -1"
        )
    local = min(of_process.values())
    if local % sizes[-1]:
        raise ValueError(
            f"config.mesh.space is {sizes[-1]}, but each process has {local} "
            f"device(s); the devices that share an image must be of one process: make it a divisor"
        )
    # Auto: with JAX's default, Explicit, the gradients of convolutions do not trace.
    return Mesh(
        np.array(devices[:count]).reshape(sizes), AXES, axis_types=(AxisType.Auto,) * len(AXES)
    )


def _sizes(mesh: MeshConfig, num_devices: int) -> tuple[int, ...]:
    """Returns how many devices lie along each axis."""
    sizes = {axis: getattr(mesh, axis) for axis in AXES}
    for axis, size in sizes.items():
        if size < 1 and (axis, size) != ("data", -1):
            raise ValueError(
                f"config.mesh.{axis} is {size}, but there are {num_devices} devices; give a number "
                f"from 1 on{', or -1 for all that are left' if axis == 'data' else ''}"
            )
    if sizes["data"] == -1:
        others = sizes["fsdp"] * sizes[SPACE_AXIS]
        if num_devices % others:
            raise ValueError(
                f"config.mesh.fsdp x space is {sizes['fsdp']} x {sizes[SPACE_AXIS]}, which does "
                f"not divide the {num_devices} devices; change these, or give the number for data"
            )
        sizes["data"] = num_devices // others
    return tuple(sizes.values())


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array of which every device has a copy."""
    return NamedSharding(mesh, P())


def state_sharding(tree: Any, mesh: Mesh) -> Any:
    """Returns the sharding of every array of a state, or of a part of it: the rule is by shape.

    A large array is split along its longest axis that the devices along `fsdp` can share equally.
    So parameters, the optimiser's momenta and averages of one shape lie alike.

    Args:
        tree: pytree of arrays or of `jax.ShapeDtypeStruct`.
        mesh: as `make_mesh` returns it.
    """
    return jax.tree.map(lambda leaf: NamedSharding(mesh, _spec(leaf.shape, mesh)), tree)


def _spec(shape: tuple[int, ...], mesh: Mesh) -> P:
    parts = mesh.shape["fsdp"]
    axes = [axis for axis, size in enumerate(shape) if size % parts == 0]
    if parts == 1 or not axes or math.prod(shape) < _MIN_SPLIT:
        return P()
    longest = max(axes, key=lambda axis: shape[axis])
    return P(*[None] * longest, "fsdp")


def as_state(tree: Any, mesh: Mesh) -> Any:
    """Returns a state, or a part of it, inside of a compiled step, split as `state_sharding` says.

    What is only needed in parts need not be computed whole on any device.
    """
    return jax.lax.with_sharding_constraint(tree, state_sharding(tree, mesh))


def make_state(make: Callable[..., Any], mesh: Mesh, *arguments: Any, donate: bool = False) -> Any:
    """Returns `make(*arguments)`, a state that no device ever holds more of than its own parts.

    Args:
        make: what can be compiled.
        mesh: as `make_mesh` returns it.
        arguments: of `make`.
        donate: whether the arrays of the first argument may be reused; they are gone then.
    """
    shardings = state_sharding(jax.eval_shape(make, *arguments), mesh)
    compiled = jax.jit(make, out_shardings=shardings, donate_argnums=(0,) if donate else ())
    return compiled(*arguments)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array of which each image has a part, such as its boxes."""
    return NamedSharding(mesh, P(BATCH_AXES))


def image_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of the images themselves: their rows are sharded, too."""
    return NamedSharding(mesh, P(BATCH_AXES, SPACE_AXIS))


def batch_shards(mesh: Mesh) -> int:
    """Returns the number of parts that the images of a batch are sharded into."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def local_batch_size(batch_size: int, mesh: Mesh, key: str) -> int:
    """Returns how many images of a global batch this process has to provide.

    Args:
        batch_size: of all processes.
        mesh: as `make_mesh` returns it.
        key: of the configuration, for the message.

    Raises:
        ValueError: where the devices cannot have equal shares.
    """
    parts = batch_shards(mesh)
    if batch_size < 1 or batch_size % parts:
        raise ValueError(
            f"{key} is {batch_size}, which {parts} devices cannot share "
            f"equally; make it a multiple of {parts}, or use fewer devices (config.mesh.data)"
        )
    return batch_size // parts * local_parts(mesh)


def local_parts(mesh: Mesh) -> int:
    """Returns how many of the parts of a batch are this process's."""
    return len(mesh.local_devices) // mesh.shape[SPACE_AXIS]


def check_buckets(buckets: Iterable[tuple[int, int]], mesh: Mesh) -> None:
    """Refuses buckets of which devices cannot share the rows.

    Args:
        buckets: `config.data.buckets`, heights and widths.
        mesh: as `make_mesh` returns it.

    Raises:
        ValueError: naming the bucket.
    """
    space = mesh.shape[SPACE_AXIS]
    for height, width in buckets:
        if height % space:
            raise ValueError(
                f"config.data.buckets has {height}x{width}, of which {space} devices cannot share "
                f"the {height} rows equally; make the height a multiple of {math.lcm(32, space)}, "
                f"or config.mesh.space a power of two"
            )


def shard_batch(batch: dict[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Returns the global batch on the devices.

    Args:
        batch: this process's images, `[B_local, ...]` each, on the host.
        mesh: as `make_mesh` returns it.

    Returns:
        The same keys, `[B, ...]` over all processes, in their order.
    """
    shardings = {"image": image_sharding(mesh)}
    return {
        key: jax.make_array_from_process_local_data(
            shardings.get(key, batch_sharding(mesh)), np.asarray(value)
        )
        for key, value in batch.items()
    }


def abstract(tree: Any, mesh: Mesh) -> Any:
    """Returns shapes, dtypes and shardings of a state on this mesh, without arrays.

    Args:
        tree: pytree of arrays or of `jax.ShapeDtypeStruct`.
        mesh: as `make_mesh` returns it.
    """
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        tree,
        state_sharding(tree, mesh),
    )
