"""Sums by which a restored array is known to be the one that was saved.

The files of a checkpoint notice when they are cut off, but not when a byte of an array changes.
The sum of an array is that of its bits as numbers, each times an odd factor of its place, modulo
2**32: a change of any one number changes it, and how devices share the array does not.
"""

from typing import Any

import jax
import jax.numpy as jnp

_BITS = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}


def checksums(tree: Any) -> dict[str, int]:
    """Returns the sum of every array of a tree, by its dotted path.

    Args:
        tree: pytree of arrays; numbers of up to 32 bits, or bool.
    """
    # A list: one compiled program serves trees of equal arrays, whatever the containers.
    sums = jax.device_get(_sums(jax.tree.leaves(tree)))
    paths = (path for path, _ in jax.tree_util.tree_leaves_with_path(tree))
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path in paths]
    return {name: int(number) for name, number in zip(names, sums, strict=True)}


@jax.jit
def _sums(leaves: list[jax.Array]) -> list[jax.Array]:
    return [_sum(leaf) for leaf in leaves]


def _sum(leaf: jax.Array) -> jax.Array:
    leaf = leaf.astype(jnp.uint8) if leaf.dtype == bool else leaf
    bits = jax.lax.bitcast_convert_type(leaf, _BITS[leaf.dtype.itemsize]).astype(jnp.uint32)
    # By axes and not flattened: reshaping would gather what devices share.
    place, stride = jnp.zeros((), jnp.uint32), 1
    for axis in reversed(range(bits.ndim)):
        place += jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis) * jnp.uint32(stride % 2**32)
        stride *= bits.shape[axis]
    return jnp.sum(bits * (2 * place + 1), dtype=jnp.uint32)


def differing(found: dict[str, int], wanted: dict[str, int]) -> list[str]:
    """Returns the paths whose sums differ, or that only one of the two has."""
    return [
        name for name in sorted(found.keys() | wanted.keys()) if found.get(name) != wanted.get(name)
    ]
