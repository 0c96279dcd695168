"""What a training step should need of a device's memory, worked out before anything is compiled.

Arguments: the parts of state and batch that the device holds, which follow from the shapes and the
rules of `parallel/mesh.py`.

Temporary, at the start of the backward pass, when most is held:

- what the forward pass keeps for the backward pass. JAX's own trace of the differentiated losses
  has these arrays. Those that are constants, such as the zeros in the gradient of a ReLU, are left
  out; XLA makes them where it needs them.
- the gradient by the largest arrays of RoIs, those of the mask head behind its upsampling.
- with `remat` "all", what the mask head then recomputes.
- with `fsdp`, sharded parameters that have been gathered: what a layer gathers in the forward pass
  serves in the backward pass, so at that moment all that are trained are there. Where the layers
  are recomputed, their parameters are gathered again; then it is the largest alone.
- with `space`, one part of each of these arrays, and the whole pyramid P2 to P5 of the images,
  which RoIAlign reads.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.extend.core import Literal
from jax.sharding import Mesh

from maskrcnn_jax.parallel.mesh import state_sharding

Tree = Any


def argument_bytes(*trees: Tree) -> int:
    """Returns bytes on one device of arrays given as `jax.ShapeDtypeStruct` with a sharding."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(trees)
    )


def temporary_bytes(
    model: nn.Module, variables: Tree, trainable: Tree, batch: dict, mesh: Mesh
) -> int:
    """Returns what the top of this file adds up to.

    Args:
        model: a `MaskRCNN`.
        variables: shapes of its variables.
        trainable: pytree of bool like the parameters.
        batch: shapes of the images of one part of the batch, which `space` devices share.
        mesh: as `make_mesh` returns it.
    """
    config, space = model.config, mesh.shape["space"]
    images = batch["image"].shape[0]
    itemsize = jnp.dtype(config.dtype).itemsize
    slots = int(config.roi.samples_per_image * config.roi.positive_fraction)
    mask_maps = images * slots * config.mask_head.pool_size**2 * config.mask_head.channels
    upsampled = 4 * mask_maps * itemsize
    total = kept_bytes(model, variables, trainable, batch) + upsampled
    if model.remat == "all":
        total += config.mask_head.convs * mask_maps * itemsize + upsampled
    total = total // space + pyramid_bytes(model, batch, mesh)
    return total + _gathered_bytes(model, variables["params"], trainable, mesh)


def pyramid_bytes(model: nn.Module, batch: dict, mesh: Mesh) -> int:
    """Returns bytes of P2 to P5 where devices share images and RoIAlign needs them whole, else 0.

    Args:
        model, batch, mesh: see `temporary_bytes`.
    """
    if mesh.shape["space"] == 1:
        return 0
    images, height, width, _ = batch["image"].shape
    pixels = sum(math.ceil(height / s) * math.ceil(width / s) for s in (4, 8, 16, 32))
    numbers = images * pixels * model.config.fpn.channels
    return numbers * jnp.dtype(model.config.dtype).itemsize


def split_bytes(params: Tree, mesh: Mesh) -> list[int]:
    """Returns, of each parameter in their order, its bytes if devices hold parts of it, else 0."""
    shardings = jax.tree.leaves(state_sharding(params, mesh))
    return [
        0 if split.is_fully_replicated else leaf.size * leaf.dtype.itemsize
        for leaf, split in zip(jax.tree.leaves(params), shardings, strict=True)
    ]


def trained_bytes(params: Tree, trainable: Tree, sizes: list[int] | None = None) -> int:
    """Returns bytes of the parameters that are trained, which are those of the gradient.

    Args:
        params: shapes.
        trainable: pytree of bool like the parameters.
        sizes: bytes to add up instead of each parameter's own.
    """
    sizes = sizes or [leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params)]
    return sum(s for s, t in zip(sizes, jax.tree.leaves(trainable), strict=True) if t)


def _gathered_bytes(model: nn.Module, params: Tree, trainable: Tree, mesh: Mesh) -> int:
    sizes = split_bytes(params, mesh)
    return max(sizes) if model.remat == "all" else trained_bytes(params, trainable, sizes)


def kept_bytes(model: nn.Module, variables: Tree, trainable: Tree, batch: dict) -> int:
    """Returns bytes of the arrays that go from the losses to their gradient, but for constants.

    Args:
        model, variables, trainable: see `temporary_bytes`.
        batch: shapes of images and objects.
    """

    def kept(params, batch_stats, batch, key):
        def total(params):
            params = jax.tree.map(
                lambda p, t: p if t else jax.lax.stop_gradient(p), params, trainable
            )
            (losses, _), _ = model.apply(
                {"params": params, "batch_stats": batch_stats},
                batch,
                key,
                method="losses",
                mutable=["batch_stats"],
            )
            return losses["loss_total"]

        return jax.tree.leaves(jax.vjp(total, params)[1])

    key = jax.eval_shape(lambda: jax.random.key(0))
    traced = jax.make_jaxpr(kept)(variables["params"], variables["batch_stats"], batch, key).jaxpr
    arguments, made_by = set(traced.invars), {}
    for equation in traced.eqns:
        made_by.update(dict.fromkeys(equation.outvars, equation))
    arrays = {x for x in traced.outvars if not isinstance(x, Literal)} - arguments
    return sum(
        array.aval.size * array.aval.dtype.itemsize
        for array in arrays
        if array not in made_by or not _is_constant(made_by[array])
    )


def _is_constant(equation: Any) -> bool:
    return equation.primitive.name == "broadcast_in_dim" and all(
        isinstance(operand, Literal) for operand in equation.invars
    )
