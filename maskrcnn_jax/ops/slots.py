"""Work on padded slots that stops where the used ones end."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

# Detections of an image are rarely a multiple of anything; larger blocks waste more of the last.
_BLOCK = 16


def on_used_slots(function: Callable[..., Any], used: jax.Array, *arrays: jax.Array) -> Any:
    """Applies a function that works on each slot alone, in a program for a CPU to used ones only.

    There, blocks of slots are worked on one after the other, up to the last that is used in any
    image. Elsewhere all slots are worked on at once: an accelerator has the units for it, and a
    loop of unknown length makes a GPU's host wait.

    Args:
        function: of arrays [B, n, ...]; returns a tree of arrays [B, n, ...].
        used: [B, N] bool, whether somebody asks for the slot's result.
        arrays: [B, N, ...] each.

    Returns:
        The tree of function(*arrays), [B, N, ...]; slots that are not used have any value.
    """
    return jax.lax.platform_dependent(
        used,
        *arrays,
        cpu=lambda used, *arrays: _in_blocks(function, used, *arrays),
        default=lambda used, *arrays: function(*arrays),
    )


def _in_blocks(function, used, *arrays):
    number = used.shape[1]
    block = min(_BLOCK, number)
    size = -(-number // block) * block
    end = jnp.max(jnp.where(used, 1 + jnp.arange(number), 0), initial=0)
    padded = [jnp.pad(a, [(0, 0), (0, size - number)] + [(0, 0)] * (a.ndim - 2)) for a in arrays]

    def of_block(start):
        return function(*(jax.lax.dynamic_slice_in_dim(a, start, block, 1) for a in padded))

    def add(state):
        start, results = state
        results = jax.tree.map(
            lambda all, own: jax.lax.dynamic_update_slice_in_dim(all, own, start, 1),
            results,
            of_block(start),
        )
        return start + block, results

    nothing = jax.tree.map(
        lambda own: jnp.zeros((own.shape[0], size, *own.shape[2:]), own.dtype),
        jax.eval_shape(of_block, 0),
    )
    _, results = jax.lax.while_loop(lambda state: state[0] < end, add, (0, nothing))
    return jax.tree.map(lambda all: all[:, :number], results)
