"""Makes a detector and its variables from a configuration."""

import zlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

from maskrcnn_jax.config_json import copied
from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.models.initializers import Initializer
from maskrcnn_jax.models.mask_rcnn import MaskRCNN

Path = tuple[str, ...]
_SHAPES: dict[tuple[type, str], dict[str, Any]] = {}


def make_model(
    config_model: ModelConfig, num_classes: int, remat: str = "none", deterministic: bool = False
) -> MaskRCNN:
    """Returns the detector of a configuration.

    Args:
        config_model: `config.model`, of which the detector has a copy.
        num_classes: K, foreground classes.
        remat: `config.train.remat`; it matters to gradients alone.
        deterministic: `config.train.deterministic`; likewise.
    """
    return MaskRCNN(copied(config_model), num_classes, remat, deterministic)


def initial_variables(model: nn.Module, rng: jax.Array) -> dict[str, dict]:
    """Returns new {"params": ..., "batch_stats": ...} (the latter may be empty).

    A kernel is drawn by its module's `kernel_init` with the key `fold_in(rng, CRC-32 of its path)`.
    Parameters without one, such as scales and biases, are as `model.init` makes them. That the
    model is traced and never run takes a second where `jax.jit(model.init)` takes half a minute.

    Args:
        model: a `MaskRCNN`.
        rng: key.
    """
    image = jnp.zeros((1, 64, 64, len(model.config.pixel.mean)), jnp.uint8)
    initializers: dict[Path, Initializer] = {}
    kernels: dict[Path, jax.ShapeDtypeStruct] = {}

    def note(next_function, args, kwargs, context):
        if initializer := getattr(context.module, "kernel_init", None):
            initializers["params", *context.module.path, "kernel"] = initializer
        return next_function(*args, **kwargs)

    def all_but_kernels(rng):
        with nn.intercept_methods(note):
            flat = flatten_dict(model.init(rng, image))
        kernels.update({path: flat.pop(path) for path in initializers if path in flat})
        return flat

    # No part of the model that only kernels depend on is compiled.
    flat = jax.jit(all_but_kernels)(rng)
    for path, kernel in kernels.items():
        key = jax.random.fold_in(rng, zlib.crc32("/".join(path).encode()))
        flat[path] = initializers[path](key, kernel.shape, kernel.dtype)
    return {"batch_stats": {}} | unflatten_dict(flat)


def abstract_variables(model: MaskRCNN) -> dict[str, Any]:
    """Returns the shapes and dtypes of a model's variables, without computing any.

    Once for each model, as tracing it takes a second; a model's text has all of its configuration.
    """
    key = (type(model), repr(model))
    if key not in _SHAPES:
        _SHAPES[key] = jax.eval_shape(lambda rng: initial_variables(model, rng), jax.random.key(0))
    return jax.tree.map(lambda shape: shape, _SHAPES[key])
