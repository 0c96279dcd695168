"""Which part of an array each device works on, told to the compiler where it matters.

A step for several devices is one program on whole arrays, which the compiler splits. The functions
here say how; where a step has not said `with over(mesh):` while it is traced they do nothing, so
models call them without knowing of devices.

- Images of a batch are shared out over the axes `data` and `fsdp` of the mesh.
- The rows of one image, and of its feature maps, are shared out over `space`. The neighbours'
  rows that a convolution needs are exchanged by the compiler.
- RoIs of an image are shared out over `space`, too: they need the whole image's features, but the
  heads work on each of them alone.
- Parameters may be stored in parts, over `fsdp`; a layer works with the whole of its own.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
from jax import Array
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

BATCH_AXES = ("data", "fsdp")
SPACE_AXIS = "space"

# With fewer rows of a feature map on each device, gradients of strided convolutions were wrong by
# up to 630 % while the loss was right (jax 0.10.2 and 0.12, XLA's partitioning of convolutions).
MIN_ROWS = 2

_mesh: ContextVar[Mesh | None] = ContextVar("mesh", default=None)


@contextmanager
def over(mesh: Mesh | None) -> Iterator[None]:
    """Splits what is traced inside over a mesh with the axes `data`, `fsdp` and `space`."""
    token = _mesh.set(mesh if mesh is not None and mesh.size > 1 else None)
    try:
        yield
    finally:
        _mesh.reset(token)


def batch_shards() -> int:
    """Returns the number of parts that the images of a batch are shared out in."""
    mesh = _mesh.get()
    return 1 if mesh is None else mesh.shape["data"] * mesh.shape["fsdp"]


def images(x: Array) -> Array:
    """Returns `[B, ...]` with the images shared out and each of them whole."""
    return _split(x, P(BATCH_AXES))


def rows(x: Array, fewest: int | None = None) -> Array:
    """Returns `[B, H, ...]` with the images shared out, and the rows of each where there are many.

    Args:
        x: feature maps.
        fewest: rows of the smallest map that is made of `x` in one piece with it, such as the
            output of a strided convolution; `H` unless given. Where a device would have less than
            two of these, images stay whole.
    """
    mesh = _mesh.get()
    fewest = x.shape[1] if fewest is None else fewest
    if mesh is None or fewest < MIN_ROWS * mesh.shape[SPACE_AXIS]:
        return images(x)
    return _split(x, P(BATCH_AXES, SPACE_AXIS))


def rois(x: Array) -> Array:
    """Returns `[B, N, ...]` with the images shared out, and their N RoIs where that is possible."""
    return _split(x, P(BATCH_AXES, SPACE_AXIS)) if _rois_are_split(x.shape[1]) else images(x)


def flat_rois(x: Array) -> Array:
    """Returns `[B, N, ...]` as `[B * N, ...]`, in an order in which no RoI changes its device."""
    batch, number = x.shape[:2]
    if not _rois_are_split(number):
        return x.reshape(batch * number, *x.shape[2:])
    mesh = _mesh.get()
    space, shards = mesh.shape[SPACE_AXIS], batch_shards()
    x = x.reshape(shards, batch // shards, space, number // space, *x.shape[2:])
    x = x.swapaxes(1, 2).reshape(batch * number, *x.shape[4:])
    return _split(x, P((*BATCH_AXES, SPACE_AXIS)))


def unflat_rois(x: Array, batch: int) -> Array:
    """Returns `[B * N, ...]` of `flat_rois` as `[B, N, ...]`."""
    number = x.shape[0] // batch
    if not _rois_are_split(number):
        return x.reshape(batch, number, *x.shape[1:])
    mesh = _mesh.get()
    space, shards = mesh.shape[SPACE_AXIS], batch_shards()
    x = x.reshape(shards, space, batch // shards, number // space, *x.shape[1:])
    return rois(x.swapaxes(1, 2).reshape(batch, number, *x.shape[4:]))


def whole(parameter: Array) -> Array:
    """Returns a parameter, of which the devices along `fsdp` may store parts, on all of them."""
    mesh = _mesh.get()
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
        mesh = _mesh.get()
        mapped, arguments = jax.vmap(function), jax.lax.stop_gradient(arguments)
        if mesh is not None:
            split = P(BATCH_AXES)
            # The mesh's axes are all its own inside: what the devices of one image get is equal.
            mapped = jax.shard_map(
                mapped, mesh=mesh, in_specs=split, out_specs=split, check_vma=False
            )
        return mapped(*arguments)

    return batched


def _rois_are_split(number: int) -> bool:
    mesh = _mesh.get()
    return mesh is not None and mesh.shape[SPACE_AXIS] > 1 and number % mesh.shape[SPACE_AXIS] == 0


def _split(x: Array, spec: P) -> Array:
    mesh = _mesh.get()
    return x if mesh is None else jax.lax.with_sharding_constraint(x, NamedSharding(mesh, spec))
