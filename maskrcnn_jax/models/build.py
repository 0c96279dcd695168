"""Makes a detector and its variables from a configuration."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import FrozenConfigDict

from maskrcnn_jax.models.mask_rcnn import MaskRCNN


def make_model(config_model: Mapping[str, Any], num_classes: int, remat: str = "none") -> MaskRCNN:
    """Returns the detector of a configuration.

    Args:
        config_model: `config.model`, a ConfigDict or a plain dict.
        num_classes: K, foreground classes.
        remat: `config.train.remat`; it matters to gradients alone.
    """
    return MaskRCNN(FrozenConfigDict(config_model), num_classes, remat)


def initial_variables(model: MaskRCNN, rng: jax.Array) -> dict[str, dict]:
    """Returns freshly initialised {"params": ..., "batch_stats": ...} (the latter may be empty)."""
    image = jnp.zeros((1, 64, 64, len(model.config.pixel.mean)), jnp.uint8)
    variables = jax.jit(model.init)(rng, image)
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}


def abstract_variables(model: MaskRCNN) -> dict[str, Any]:
    """Returns the shapes and dtypes of a model's variables, without computing any."""
    return jax.eval_shape(lambda rng: initial_variables(model, rng), jax.random.key(0))
