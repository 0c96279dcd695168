"""Makes a detector and its variables from a configuration."""

import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.extend.core import jaxpr_as_fun
from jax.interpreters import partial_eval

from maskrcnn_jax.config_json import copied
from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.models.initializers import Initializer
from maskrcnn_jax.models.mask_rcnn import MaskRCNN

Path = tuple[str, ...]
_OUTLINES: dict[tuple[type, str], "_Outline"] = {}


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
    outline = _outline(model)
    flat = dict(zip(outline.others, outline.make_others(rng), strict=True))
    for path, (initializer, kernel) in outline.kernels.items():
        key = jax.random.fold_in(rng, zlib.crc32("/".join(path).encode()))
        flat[path] = initializer(key, kernel.shape, kernel.dtype)
    return {"batch_stats": {}} | unflatten_dict(flat)


def abstract_variables(model: nn.Module) -> dict[str, Any]:
    """Returns the shapes and dtypes of a model's variables, without computing any."""
    outline = _outline(model)
    kernels = {path: kernel for path, (_, kernel) in outline.kernels.items()}
    flat = sorted((outline.others | kernels).items())
    return {"batch_stats": {}} | unflatten_dict(dict(flat))


class _Outline(NamedTuple):
    """A model's variables: its kernels, each with what draws it, and all others."""

    kernels: dict[Path, tuple[Initializer, jax.ShapeDtypeStruct]]
    others: dict[Path, jax.ShapeDtypeStruct]
    make_others: Callable[[jax.Array], list[jax.Array]]  # from a key


def _outline(model: nn.Module) -> _Outline:
    """Traces a model; once, as that takes a second: its text has all of its configuration."""
    text = (type(model), repr(model))
    if text not in _OUTLINES:
        _OUTLINES[text] = _traced(model)
    return _OUTLINES[text]


def _traced(model: nn.Module) -> _Outline:
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
        for path in initializers.keys() & flat.keys():
            kernel = flat.pop(path)
            kernels[path] = jax.ShapeDtypeStruct(kernel.shape, kernel.dtype)
        return flat

    program, others = jax.make_jaxpr(all_but_kernels, return_shape=True)(jax.random.key(0))
    # Without the layers, of which only kernels and what is dropped depend on the key.
    needed, _ = partial_eval.dce_jaxpr(
        program.jaxpr, [True] * len(program.jaxpr.outvars), instantiate=True
    )
    make_others = jax.jit(jaxpr_as_fun(program.replace(jaxpr=needed)))
    pairs = {path: (initializers[path], kernel) for path, kernel in kernels.items()}
    return _Outline(pairs, dict(sorted(others.items())), make_others)
