"""Whether the devices do what they should: they are there, add up, and know bfloat16."""

import statistics
import time
from collections import Counter

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from maskrcnn_jax.compilation import scatter_fault
from maskrcnn_jax.parallel.config import MeshConfig
from maskrcnn_jax.parallel.mesh import make_mesh

_NUMBERS = 2**20  # of the all-reduce that is timed: 4 MiB on each device


def devices() -> dict[str, str]:
    """Returns the devices of all processes, and the memory of this one's where they tell."""
    kinds = Counter(f"{device.device_kind} ({device.platform})" for device in jax.devices())
    facts = {
        "process": f"{jax.process_index()} of {jax.process_count()}",
        "devices": ", ".join(f"{count} x {kind}" for kind, count in kinds.items()),
    }
    for device in jax.local_devices():
        stats = device.memory_stats() or {}
        if "bytes_limit" in stats:
            used, limit = stats.get("bytes_in_use", 0) / 2**30, stats["bytes_limit"] / 2**30
            facts[f"memory of {device}"] = f"{used:.2f} of {limit:.1f} GiB in use"
    if len(facts) == 2:
        facts["memory"] = "not reported by these devices"
    return facts


def collective() -> dict[str, str]:
    """Adds over all devices, and compares with the sum by hand.

    Raises:
        ArithmeticError: where a device has another sum.
    """
    mesh = make_mesh(MeshConfig())
    number = mesh.size
    add = jax.jit(
        jax.shard_map(
            lambda x: jax.lax.psum(x, "data"), mesh=mesh, in_specs=P("data"), out_specs=P("data")
        )
    )
    squares = _split(np.arange(1, number + 1, dtype=np.float32)[:, None] ** 2, mesh)
    expected = number * (number + 1) * (2 * number + 1) / 6
    for shard in add(squares).addressable_shards:
        if (found := float(np.asarray(shard.data)[0, 0])) != expected:
            raise ArithmeticError(
                f"the sum of the squares to {number} is {expected:g}, but {shard.device} has "
                f"{found:g}: the connection between devices is at fault"
            )
    large = _split(np.ones((number, _NUMBERS), np.float32), mesh)
    seconds = statistics.median(_seconds_of(lambda: add(large)) for _ in range(4))
    return {
        "sum over all devices": f"right, on {number}",
        "all-reduce of 4 MiB": f"{1e3 * seconds:.2f} ms",
    }


def _split(array: np.ndarray, mesh: Mesh) -> jax.Array:
    """Returns an array of which each device has a row."""
    return jax.make_array_from_callback(
        array.shape, NamedSharding(mesh, P("data")), lambda index: array[index]
    )


def _seconds_of(call) -> float:
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began


def scatter() -> dict[str, str]:
    """Knows the versions of jaxlib that add to rows too slowly on these devices.

    Raises:
        RuntimeError: where this is one of them.
    """
    if fault := scatter_fault(jax.devices()[0].platform, jaxlib.__version__):
        raise RuntimeError(fault)
    return {"additions to rows": "no fault is known of this jaxlib"}


def bfloat16() -> dict[str, str]:
    """Multiplies matrices in bfloat16, and compares with float64 on the host.

    Raises:
        ArithmeticError: where the product is further off than 8 bits of mantissa explain.
    """
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((256, 256)) for _ in range(2))
    low = [jnp.asarray(matrix, jnp.bfloat16) for matrix in (a, b)]
    product = jax.jit(jnp.matmul)(*low)
    error = float(np.abs(np.asarray(product, np.float64) - a @ b).max() / np.abs(a @ b).max())
    if product.dtype != jnp.bfloat16 or not error < 0.02:
        raise ArithmeticError(
            f"a product of bfloat16 matrices came as {product.dtype}, off by {100 * error:.1f} % "
            f"of its largest number; train with config.model.dtype=float32"
        )
    return {"matrix product": f"off by {100 * error:.2f} % of its largest number"}


def tensorflow() -> dict[str, str]:
    """Reads a few numbers through tf.data, and looks at the devices that TensorFlow holds.

    TensorFlow may be absent.

    Raises:
        RuntimeError: where it holds an accelerator.
    """
    try:
        from maskrcnn_jax.data.input import tfdata  # takes seconds, and is not needed for the rest
    except ModuleNotFoundError as error:
        if error.name != "tensorflow":
            raise
        return {"tf.data": "not installed: a pool of threads prepares the batches"}

    tf = tfdata.tf
    held = [
        device.name for device in tf.config.get_visible_devices() if device.device_type != "CPU"
    ]
    if held:
        raise RuntimeError(
            f"TensorFlow sees {', '.join(held)} and would take memory there; install the CPU build "
            f"(requirements.txt), or import maskrcnn_jax.data.input.tfdata before TensorFlow "
            "is used"
        )
    numbers = list(tf.data.Dataset.range(4).map(lambda x: 2 * x).as_numpy_iterator())
    if numbers != [0, 2, 4, 6]:
        raise RuntimeError(f"tf.data doubled 0 to 3 as {numbers}")
    return {"accelerators held": "none", "tf.data": "works"}
