"""What can be said of a run's configuration before any data is looked at."""

from jax.sharding import Mesh
from ml_collections import ConfigDict

from maskrcnn_jax.models.options import check_remat
from maskrcnn_jax.parallel import mesh as sharding
from maskrcnn_jax.training.early_stopping import check_early_stop
from maskrcnn_jax.training.optimizer import check_optimizer, make_schedule
from maskrcnn_jax.training.run.schedule import check_cadence
from maskrcnn_jax.training.run.watchdog import check_watchdog
from maskrcnn_jax.training.stages import check_stages


def check_run(config: ConfigDict) -> Mesh:
    """Checks the lengths, the shares and the limits that a configuration sets.

    Args:
        config: the whole configuration.

    Returns:
        The mesh of `config.mesh`.

    Raises:
        ValueError: naming the key.
    """
    check_cadence(config)
    check_early_stop(config.train)
    check_watchdog(config.train)
    mesh = sharding.make_mesh(config.mesh)
    for part in ("train", "eval"):
        sharding.local_batch_size(config[part].batch_size, mesh, f"config.{part}.batch_size")
    sharding.check_buckets(config.data.buckets, mesh)
    check_stages(config.train, mesh)
    make_schedule(config.train)
    check_optimizer(config.train)
    check_remat(config.train.remat)
    return mesh
