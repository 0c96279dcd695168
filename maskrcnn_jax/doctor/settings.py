"""What a user's own recipe, work directory and compilation cache look like from here."""

from pathlib import Path

import jax

from maskrcnn_jax import config_flags
from maskrcnn_jax.checkpoints.layout import BEST, LAST
from maskrcnn_jax.compilation import use_compilation_cache
from maskrcnn_jax.doctor import environment
from maskrcnn_jax.models.backbones.names import backbone_name
from maskrcnn_jax.parallel.mesh import batch_shards, check_buckets, local_batch_size, make_mesh
from maskrcnn_jax.training.run import log as metrics_log


def recipe(name: str | None, keys: list[str]) -> dict[str, str]:
    """Returns how a configuration fits the devices.

    Args:
        name: the value of `--config`.
        keys: such as `--config.train.batch_size=8`.

    Raises:
        ValueError: where it does not.
    """
    config = config_flags.read(name, keys)
    mesh = make_mesh(config.mesh)
    for section in ("train", "eval"):
        size = getattr(config, section).batch_size
        local_batch_size(size, mesh, f"config.{section}.batch_size")
    check_buckets(config.data.buckets, mesh)
    images = config.train.batch_size / batch_shards(mesh)
    return {
        "name": config.name,
        "mesh": " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items()),
        "batch": f"{config.train.batch_size} images, {images:g} for each part of the mesh",
        "buckets": ", ".join(f"{height}x{width}" for height, width in config.data.buckets),
        "backbone": f"{backbone_name(config.model.backbone)}, {config.model.dtype}",
    }


def workdir(path: Path) -> dict[str, str]:
    """Returns what a run has left, and the room for more.

    Raises:
        OSError: where nothing can be written there.
    """
    facts = environment.folder(path)
    for name in (LAST, BEST):
        kept = path / name
        steps = sorted(int(p.name) for p in kept.glob("*") if p.name.isdecimal())
        facts[name] = ", ".join(map(str, steps)) or "none"
    rows = metrics_log.read(path)
    facts["last row of the log"] = f"{rows[-1]['kind']} of step {rows[-1]['step']}" if rows else "-"
    return facts


def compilation_cache(choice: str | None) -> dict[str, str]:
    """Turns the cache on, as the commands do, and returns what is in it.

    Args:
        choice: see `use_compilation_cache`.

    Raises:
        OSError: where nothing can be written there.
    """
    path = use_compilation_cache(choice)
    if path is None:
        return {"folder": "off: every run compiles all its programs"}
    facts = environment.folder(path)
    sizes = [file.stat().st_size for file in path.glob("*") if file.is_file()]
    facts["files"] = f"{len(sizes)}, {sum(sizes) / 2**20:.1f} MiB"
    seconds = jax.config.jax_persistent_cache_min_compile_time_secs  # type: ignore[attr-defined]
    facts["keeps"] = f"programs that take {seconds:g} s or more"
    return facts
