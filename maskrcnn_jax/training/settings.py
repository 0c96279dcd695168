"""Checks of a run's configuration before any data are read."""

from typing import TYPE_CHECKING

from jax.sharding import Mesh

from maskrcnn_jax.parallel import mesh as sharding
from maskrcnn_jax.training.stages import check_accumulation

if TYPE_CHECKING:
    from maskrcnn_jax.config import Config


def check_run(config: "Config") -> Mesh:
    """Checks a configuration, also against the devices of this run.

    Args:
        config: the whole configuration.

    Returns:
        The mesh of `config.mesh`.

    Raises:
        ValueError: naming the key.
    """
    config.validate()
    mesh = sharding.make_mesh(config.mesh)
    for part in ("train", "eval"):
        sharding.local_batch_size(
            getattr(config, part).batch_size, mesh, f"config.{part}.batch_size"
        )
    sharding.check_buckets(config.data.buckets, mesh)
    check_accumulation(config.train, mesh)
    return mesh
