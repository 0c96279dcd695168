"""The state of training: one pytree, the only thing a checkpoint needs to hold."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from ml_collections import FrozenConfigDict

from maskrcnn_jax.models.mask_rcnn import MaskRCNN, initial_variables


@struct.dataclass
class TrainState:
    """Everything that a training step changes.

    Attributes:
        step: `[] int32`, steps done so far.
        params: the model's parameters, trainable and frozen.
        batch_stats: running means and variances of the normalisation layers.
        opt_state: the optimiser's state; it has none for frozen parameters.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState

    @property
    def variables(self) -> dict[str, Any]:
        """`{'params', 'batch_stats'}`, as Flax's `apply` takes them."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def create(variables: dict[str, Any], optimizer: optax.GradientTransformation) -> TrainState:
    """Returns the state before the first step.

    Args:
        variables: `{'params', 'batch_stats'}`; the statistics may be absent.
        optimizer: as `optimizer.make_optimizer` makes it.
    """
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        opt_state=optimizer.init(params),
    )


def make_model(config_model: Mapping[str, Any], num_classes: int) -> MaskRCNN:
    """Returns the detector of a configuration.

    Args:
        config_model: `config.model`, a ConfigDict or a plain dict.
        num_classes: K, foreground classes.
    """
    return MaskRCNN(FrozenConfigDict(config_model), num_classes)


def abstract_variables(model: MaskRCNN) -> dict[str, Any]:
    """Returns the shapes and dtypes of a model's variables, without computing any."""
    return jax.eval_shape(lambda rng: initial_variables(model, rng), jax.random.key(0))
