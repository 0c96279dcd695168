"""The state of training: one pytree, the only thing a checkpoint needs to hold."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from maskrcnn_jax.checkpoints.ema import first_average, with_average


@struct.dataclass
class TrainState:
    """Everything that a training step changes.

    Attributes:
        step: `[] int32`, steps done so far.
        params: the model's parameters, trainable and frozen.
        batch_stats: running means and variances of the normalisation layers.
        opt_state: the optimiser's state; it has none for frozen parameters.
        ema: the moving average of the variables (`ema.py`); None without one.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    ema: Any = None

    @property
    def variables(self) -> dict[str, Any]:
        """`{'params', 'batch_stats'}`, as Flax's `apply` takes them."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    @property
    def eval_variables(self) -> dict[str, Any]:
        """The variables to evaluate: with the average in their place, where there is one."""
        return self.variables if self.ema is None else with_average(self.variables, self.ema)


def create(
    variables: dict[str, Any],
    optimizer: optax.GradientTransformation,
    averaged: dict[str, Any] | None = None,
) -> TrainState:
    """Returns the state before the first step.

    Args:
        variables: `{'params', 'batch_stats'}`; the statistics may be absent.
        optimizer: as `optimizer.make_optimizer` makes it.
        averaged: as `ema.averaged_parameters` returns it; None: no moving average.
    """
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(params),
        ema=None if averaged is None else first_average(variables, averaged),
    )
