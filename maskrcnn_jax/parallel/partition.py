"""Which part of an array each device works on, given to the compiler where it matters.

A step for several devices is one program on whole arrays, which the compiler splits. The functions
here say how. They read the mesh that is in force while they are traced, set by `with over(mesh):`
(or by `jax.set_mesh`); without one they do nothing, so models call them without knowing of devices.
JAX keeps that mesh among what identifies a compiled function, so a function that was compiled
without it is compiled again inside.

- Images of a batch are sharded over the axes `data` and `fsdp` of the mesh.
- The rows of one image, and of its feature maps, are sharded over `space`. The neighbours' rows
  that a convolution needs are exchanged by the compiler.
- RoIs of an image are sharded over `space`, too: they need the whole image's features, but the
  heads work on each of them alone.
- Parameters may be sharded over `fsdp`; a layer works with the whole of its own.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import jax
from jax import Array
from jax.sharding import AbstractMesh, AxisType, Mesh
from jax.sharding import PartitionSpec as P

BATCH_AXES = ("data", "fsdp")
SPACE_AXIS = "space"
AXES = (*BATCH_AXES, SPACE_AXIS)

# With fewer rows of a feature map on each device, gradients of strided convolutions were wrong by
# up to 630 % while the loss was right (jax 0.10.2 and 0.12, XLA's partitioning of convolutions).
MIN_ROWS = 2

_NO_MESH = AbstractMesh((), ())


def over(mesh: Mesh | AbstractMesh | None) -> AbstractContextManager:
    """Splits what is traced inside over a mesh with the axes `data`, `fsdp` and `space`.

    Args:
        mesh: with axes of type Auto; None or a single device: nothing is split.
    """
    if mesh is None or mesh.size <= 1:
        return jax.sharding.use_abstract_mesh(_NO_MESH)
    return jax.sharding.use_abstract_mesh(mesh.abstract_mesh)


def _mesh() -> AbstractMesh | None:
    """Returns the mesh in force, if there is something to be said about it.

    Inside of `jax.shard_map` its axes are Manual: each device has its own arrays already.
    """
    mesh = jax.sharding.get_abstract_mesh()
    is_ours = set(mesh.axis_names) == set(AXES) and set(mesh.axis_types) == {AxisType.Auto}
    return mesh if is_ours and mesh.size > 1 else None


def is_split() -> bool:
    """Returns whether what is traced is split over several devices."""
    return _mesh() is not None


def batch_shards() -> int:
    """Returns the number of parts that the images of a batch are sharded in."""
    mesh = _mesh()
    return 1 if mesh is None else mesh.shape["data"] * mesh.shape["fsdp"]


def images(x: Array) -> Array:
    """Returns `[B, ...]` with the images sharded and each of them whole."""
    return _split(x, P(BATCH_AXES))


def rows(x: Array, fewest: int | None = None) -> Array:
    """Returns `[B, H, ...]` with the images sharded, and the rows of each where there are many.

    Args:
        x: feature maps.
        fewest: rows of the smallest map that is made of `x` in one piece with it, such as the
            output of a strided convolution; `H` unless given. Where a device would have less than
            two of these, images stay whole.
    """
    mesh = _mesh()
    fewest = x.shape[1] if fewest is None else fewest
    if mesh is None or fewest < MIN_ROWS * mesh.shape[SPACE_AXIS]:
        return images(x)
    return _split(x, P(BATCH_AXES, SPACE_AXIS))


def rois(x: Array) -> Array:
    """Returns `[B, N, ...]` with the images sharded, and their N RoIs where that is possible."""
    return _split(x, P(BATCH_AXES, SPACE_AXIS)) if rois_are_split(x.shape[1]) else images(x)


def flat_rois(x: Array) -> Array:
    """Returns `[B, N, ...]` as `[B * N, ...]`, in an order in which no RoI changes its device."""
    batch, number = x.shape[:2]
    mesh = _mesh()
    if mesh is None or not rois_are_split(number):
        return x.reshape(batch * number, *x.shape[2:])
    space, shards = mesh.shape[SPACE_AXIS], batch_shards()
    x = x.reshape(shards, batch // shards, space, number // space, *x.shape[2:])
    x = x.swapaxes(1, 2).reshape(batch * number, *x.shape[4:])
    return _split(x, P((*BATCH_AXES, SPACE_AXIS)))


def unflat_rois(x: Array, batch: int) -> Array:
    """Returns `[B * N, ...]` of `flat_rois` as `[B, N, ...]`."""
    number = x.shape[0] // batch
    mesh = _mesh()
    if mesh is None or not rois_are_split(number):
        return x.reshape(batch, number, *x.shape[1:])
    space, shards = mesh.shape[SPACE_AXIS], batch_shards()
    x = x.reshape(shards, space, batch // shards, number // space, *x.shape[1:])
    return rois(x.swapaxes(1, 2).reshape(batch, number, *x.shape[4:]))


def whole(parameter: Array) -> Array:
    """Returns a parameter, of which the devices along `fsdp` may store parts, on all of them."""
    mesh = _mesh()
    return parameter if mesh is None or mesh.shape["fsdp"] == 1 else _split(parameter, P())


def per_image(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function of one image as one of a batch: every device does its images' alone.

    The compiler, left alone with `jax.vmap`, splits sorts, gathers and loops over images badly: it
    brings whole batches together. No gradient flows through the result.

    Args:
        function: of arrays that have no batch axis, to arrays.

    Returns:
        The same with a leading axis B everywhere.
    """

    def batched(*arguments):
        mesh = _mesh()
        mapped, arguments = jax.vmap(function), jax.lax.stop_gradient(arguments)
        if mesh is not None:
            split = P(BATCH_AXES)
            # The mesh's axes are all its own inside: what the devices of one image get is equal.
            mapped = jax.shard_map(mapped, in_specs=split, out_specs=split, check_vma=False)
        return mapped(*arguments)

    return batched


def alone(
    function: Callable[..., Any], arguments: Sequence[str], result: str, number: int
) -> Callable[..., Any]:
    """Returns a function that every device runs on its own images and RoIs.

    For what the compiler cannot split by itself, such as a kernel.

    Args:
        function: of arrays or trees of them.
        arguments: for each of its arguments, `images` for `[B, ...]` or `rois` for `[B, N, ...]`.
        result: likewise; images that RoIs of several devices belong to are added up over these.
        number: N.
    """
    mesh = _mesh()
    if mesh is None:
        return function
    is_split = rois_are_split(number)
    specs = {"images": P(BATCH_AXES), "rois": P(BATCH_AXES, SPACE_AXIS if is_split else None)}

    def on_device(*arrays):
        mine = function(*arrays)
        return jax.lax.psum(mine, SPACE_AXIS) if is_split and result == "images" else mine

    in_specs = tuple(specs[kind] for kind in arguments)
    return jax.shard_map(on_device, in_specs=in_specs, out_specs=specs[result], check_vma=False)


def rois_are_split(number: int) -> bool:
    """Returns whether several devices share the `number` RoIs of an image."""
    mesh = _mesh()
    return mesh is not None and mesh.shape[SPACE_AXIS] > 1 and number % mesh.shape[SPACE_AXIS] == 0


def _split(x: Array, spec: P) -> Array:
    return x if _mesh() is None else jax.lax.with_sharding_constraint(x, spec)
