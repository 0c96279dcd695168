"""The moving average of the weights, which is evaluated in their place: `config.train.ema_decay`.

What is trained in some stage of the run is averaged, and the statistics of the norms; parameters
that stay frozen are not kept twice.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict


def averaged_parameters(masks: Sequence[Any]) -> dict[str, Any]:
    """Returns the part of the tree of parameters that is averaged, with True at its leaves.

    Args:
        masks: of each stage, a pytree of bool like the parameters: what it trains.
    """
    flat = [flatten_dict(mask) for mask in masks]
    return unflatten_dict({path: True for path in flat[0] if any(mask[path] for mask in flat)})


def first_average(variables: dict[str, Any], averaged: dict[str, Any]) -> dict[str, Any]:
    """Returns the average before the first step that enters it: a copy.

    Args:
        variables: `{'params', 'batch_stats'}`; the statistics may be absent.
        averaged: as `averaged_parameters` returns it; its paths alone matter.

    Returns:
        The same two trees, the first with the averaged parameters alone.
    """
    params = flatten_dict(variables["params"])
    return {
        "params": unflatten_dict({path: jnp.copy(params[path]) for path in flatten_dict(averaged)}),
        "batch_stats": jax.tree.map(jnp.copy, variables.get("batch_stats", {})),
    }


def updated_average(
    ema: dict[str, Any], variables: dict[str, Any], step: jax.Array, decay: float
) -> dict[str, Any]:
    """Returns the average after a step: `d ema + (1 - d) variables`.

    Early steps count for more, or the first weights would be in it for long: d is the smaller of
    `decay` and (1 + step) / (10 + step), as in TensorFlow's `train.ExponentialMovingAverage`.

    Args:
        ema: as `first_average` returns it.
        variables: `{'params', 'batch_stats'}` after the step.
        step: `[] int32`, steps done before it.
        decay: 0..1, exclusive of 1.
    """
    share = 1.0 - jnp.minimum(decay, (1.0 + step) / (10.0 + step))
    new = flatten_dict(variables)
    # In this form the average of what does not change is that, to the bit.
    return _like(
        ema, {path: old + share * (new[path] - old) for path, old in flatten_dict(ema).items()}
    )


def check_average(ema: dict[str, Any], variables: dict[str, Any], where: str) -> None:
    """Checks that an average is of the variables it is to replace.

    Args:
        ema: tree of what is in a checkpoint; its leaves have `shape` and `dtype`.
        variables: likewise, of the model.
        where: the checkpoint, for the message.

    Raises:
        ValueError: naming an array that the model lacks, or that has another shape there.
    """
    wanted = flatten_dict(variables)
    for path, leaf in flatten_dict(ema).items():
        if path not in wanted or tuple(leaf.shape) != wanted[path].shape:
            raise ValueError(
                f"{where} has {'.'.join(map(str, path))} {list(leaf.shape)}, which is no array of "
                "its model; take another checkpoint"
            )


def with_average(variables: dict[str, Any], ema: dict[str, Any]) -> dict[str, Any]:
    """Returns the variables with the average in the place of what is averaged.

    Args:
        variables: `{'params', 'batch_stats'}`.
        ema: as `first_average` returns it.
    """
    return _like(variables, flatten_dict(variables) | flatten_dict(ema))


def _like(tree: dict[str, Any], flat: dict[tuple[str, ...], Any]) -> dict[str, Any]:
    """Unflattens; what was an empty collection stays one."""
    return {name: {} for name in tree} | unflatten_dict(flat)
