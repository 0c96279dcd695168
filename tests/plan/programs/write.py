"""Writes the programs beside it: `python -m tests.plan.programs.write`, with the extra `plan`.

Two functions, each compiled for TPUs and for GPUs: `example` has everything in it that a plan looks
for on one chip, `shared` what 8 chips exchange. Only what the tests read is kept of the text.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from maskrcnn_jax.parallel.config import MeshConfig
from maskrcnn_jax.parallel.mesh import make_mesh
from maskrcnn_jax.plan import targets

FOLDER = Path(__file__).parent


def example(x: Array, y: Array, index: Array) -> tuple[Array, ...]:
    """Has a loop of 7 rounds, one of an unknown number, a sort, a gather, a scatter, a transpose.

    Args:
        x: [512, 256] float32.
        y: [256, 256] float32.
        index: [8192] int32.
    """
    x = jax.lax.fori_loop(0, 7, lambda _, x: jnp.tanh(x @ y), x)
    x = jax.lax.while_loop(lambda x: x.sum() > 0, lambda x: jnp.cos(x @ y), x)
    rows = x[index]
    added = jnp.zeros_like(x).at[index].add(rows * rows)
    return jnp.sort(x, axis=0), rows, rows.T, added


def shared(mesh: Mesh, kernel: Array, x: Array) -> Array:
    """A step of gradient descent: a kernel split over `fsdp`, images over all axes.

    Args:
        mesh: data 2 x fsdp 2 x space 2.
        kernel: [3, 3, 128, 256] float32.
        x: [8, 64, 64, 128] float32.
    """

    def loss(kernel):
        y = jax.lax.conv_general_dilated(
            x, on(mesh, kernel, P()), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jnp.square(jnp.tanh(on(mesh, y, IMAGES))).sum()

    return on(mesh, kernel - 0.1 * jax.grad(loss)(kernel), KERNEL)


IMAGES, KERNEL = P(("data", "fsdp"), "space"), P(None, None, "fsdp")


def on(mesh: Mesh, x: Array, spec: P) -> Array:
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))


def main() -> None:
    for name in ("v5e", "h100"):
        mesh = make_mesh(MeshConfig(), targets.devices(targets.parse(name)))
        shapes = (((512, 256), "f4", P()), ((256, 256), "f4", P()), ((8192,), "i4", P()))
        write(name, mesh, example, shapes)
    for name in ("v5e:2x4", "h100:8"):
        axes = MeshConfig(fsdp=2, space=2)
        mesh = make_mesh(axes, targets.devices(targets.parse(name)))
        shapes = (((3, 3, 128, 256), "f4", KERNEL), ((8, 64, 64, 128), "f4", IMAGES))
        write(f"{name.partition(':')[0]}_8", mesh, partial(shared, mesh), shapes)


def write(name: str, mesh: Mesh, function: Callable, shapes: Sequence[tuple]) -> None:
    arrays = [
        jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, spec))
        for shape, dtype, spec in shapes
    ]
    platform = "cuda" if mesh.devices.flat[0].platform == "gpu" else "tpu"
    program = jax.jit(function).trace(*arrays).lower(lowering_platforms=(platform,)).compile()
    (FOLDER / f"{name}.hlo").write_text(shortened(program.as_text()))


def shortened(text: str) -> str:
    """Returns a program without what no test reads."""
    text = re.sub(r"\n(FileNames|FunctionNames|FileLocations|StackFrames)\n(.+\n)*", "\n", text)
    text = re.sub(r' (stack_frame_id=\d+|(scheduling|deduplicated)_name="[^"]*")', "", text)
    attributes = r", (sharding|frontend_attributes)=\{.*?\}(?=, metadata|$)"
    text = re.sub(attributes, "", text, flags=re.MULTILINE)
    text = re.sub(r", backend_config=(\{.*\})$", _kept, text, flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", text)


def _kept(backend_config: re.Match) -> str:
    kept = re.findall(
        r'"estimated_cycles":"\d+"|"known_trip_count":\{"n":"\d+"\}', backend_config[1]
    )
    return f", backend_config={{{','.join(kept)}}}" if kept else ""


if __name__ == "__main__":
    main()
