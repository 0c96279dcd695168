"""Checks of a run's configuration before any data are read."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
from jax.sharding import Mesh

from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.parallel.mesh import check_buckets, local_batch_size, make_mesh
from maskrcnn_jax.training.stages import check_accumulation

if TYPE_CHECKING:
    from maskrcnn_jax.config import Config


def check_run(config: "Config", devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Checks a configuration, also against the devices of this run.

    Args:
        config: the whole configuration.
        devices: as `make_mesh` takes them.

    Returns:
        The mesh of `config.mesh`.

    Raises:
        ValueError: naming the key.
    """
    config.validate()
    _check_epsilons(config.model)
    mesh = make_mesh(config.mesh, devices)
    for part in ("train", "eval"):
        local_batch_size(getattr(config, part).batch_size, mesh, f"config.{part}.batch_size")
    check_buckets(config.data.buckets, mesh)
    check_accumulation(config.train, mesh)
    return mesh


def _check_epsilons(model: ModelConfig) -> None:
    """Refuses norms that would divide by the deviation of a constant channel, which is 0."""
    for name in ("backbone", "fpn", "box_head", *(["mask_head"] if model.masks else [])):
        section = getattr(model, name)
        kinds = {section.norm, getattr(section, "dense_norm", "none")} & {"bn", "gn", "ln"}
        if kinds and not section.norm_eps:
            raise ValueError(
                f"config.model.{name}.norm_eps is 0, with which norm = {kinds.pop()!r} cannot be "
                "trained: a channel that is the same everywhere in a batch would be divided by 0. "
                f"Set config.model.{name}.norm_eps=1e-5, or, for weights that need 0, "
                f"config.model.{name}.norm=frozen_bn"
            )
