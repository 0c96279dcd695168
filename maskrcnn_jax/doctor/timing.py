"""Ten training steps of a small detector on made-up images, always the same."""

import statistics
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import jax
import numpy as np
from jax.sharding import Mesh

from maskrcnn_jax.checkpoints.state import TrainState, create
from maskrcnn_jax.config import get_config
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.models.build import abstract_variables, initial_variables, make_model
from maskrcnn_jax.models.mask_rcnn import MaskRCNN
from maskrcnn_jax.parallel.mesh import local_batch_size, make_mesh, make_state, shard_batch
from maskrcnn_jax.training.stages import Stage, make_stages

if TYPE_CHECKING:
    from maskrcnn_jax.config import Config

STEPS = 10
_SIDE = 128  # pixels
_CLASSES = 3
_CACHE_HIT = "/jax/compilation_cache/cache_hits"


def small_config() -> "Config":
    """Returns the configuration of the detector, one image for each device."""
    config = get_config()
    set_values(config.data, dict(max_instances=4, mask_size=28, buckets=((_SIDE, _SIDE),)))
    model, train = config.model, config.train
    set_values(model.backbone, dict(depth=18, width=8, norm="gn"))
    model.fpn.channels = 16
    model.anchors.sizes = (8.0, 16.0, 32.0, 64.0, 128.0)
    set_values(
        model.rpn, dict(pre_nms_top_n_train=64, post_nms_top_n_train=32, samples_per_image=32)
    )
    set_values(model.roi, dict(samples_per_image=16, canonical_size=56.0))
    model.box_head.dense_channels = 32
    set_values(model.mask_head, dict(convs=1, channels=16))
    set_values(train, dict(batch_size=jax.device_count(), steps=1000, layers="heads"))
    set_values(train, dict(learning_rate=1e-4, warmup_steps=0, decay_steps=()))
    return config


def batch(config: "Config", local_batch: int) -> dict[str, np.ndarray]:
    """Returns this process's images, of noise with one object each.

    Args:
        config: as `small_config` returns it.
        local_batch: how many.
    """
    rng = np.random.default_rng(0)
    slots, side = config.data.max_instances, config.data.mask_size
    boxes = np.zeros((local_batch, slots, 4), np.float32)
    boxes[:, 0] = (16, 24, 80, 72)
    classes = np.zeros((local_batch, slots), np.int32)
    classes[:, 0] = 1
    return {
        "image": rng.integers(0, 256, (local_batch, _SIDE, _SIDE, 3), np.uint8),
        "image_size": np.full((local_batch, 2), _SIDE, np.float32),
        "gt_boxes": boxes,
        "gt_classes": classes,
        "gt_masks": np.full((local_batch, slots, side, side), 255, np.uint8),
        "gt_crowd": np.zeros((local_batch, slots), bool),
        "gt_valid": classes > 0,
        "image_valid": np.ones(local_batch, bool),
    }


def timing() -> dict[str, str]:
    """Compiles a training step, makes ten, and compiles it again.

    Raises:
        ArithmeticError: where a loss is not finite.
    """
    config = small_config()
    mesh = make_mesh(config.mesh)
    images = batch(config, local_batch_size(config.train.batch_size, mesh, "the batch"))
    model = make_model(config.model, _CLASSES)
    stage = _stage(config, model, mesh)
    variables = initial_variables(model, jax.random.key(0))
    state = make_state(lambda v: create(v, stage.optimizer), mesh, variables)
    step, compile_seconds, was_cached = _compiled(stage, state, images, mesh)
    seconds = []
    for _ in range(STEPS):
        began = time.perf_counter()
        state, metrics = step(state, shard_batch(images, mesh))
        loss = float(metrics["loss_total"])
        seconds.append(time.perf_counter() - began)
        if not np.isfinite(loss):
            raise ArithmeticError(f"the loss of step {len(seconds)} is {loss}")
    shortest, *_, longest = sorted(seconds)
    facts = {
        "images": f"{config.train.batch_size} a step, {_SIDE}x{_SIDE}, ResNet-18 of 8 channels",
        "compilation": f"{compile_seconds:.1f} s{' (from the cache)' if was_cached else ''}",
        "step": f"{1e3 * statistics.median(seconds):.1f} ms, the median of {STEPS}; "
        f"{1e3 * shortest:.1f} to {1e3 * longest:.1f}",
        "loss": f"{loss:.6f} at step {STEPS}",
    }
    _, again, was_cached = _compiled(_stage(config, model, mesh), state, images, mesh)
    where = "from the cache" if was_cached else "the cache did not have it"
    facts["compilation again"] = f"{again:.1f} s ({where})"
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        facts["peak memory"] = f"{stats['peak_bytes_in_use'] / 2**20:.0f} MiB"
    return facts


def _stage(config: "Config", model: MaskRCNN, mesh: Mesh) -> Stage:
    (stage,) = make_stages(config, model, abstract_variables(model)["params"], mesh)
    return stage


def _compiled(stage: Stage, state: TrainState, images: dict[str, np.ndarray], mesh: Mesh):
    """Returns the compiled step, the seconds from Python to it, and whether the cache had it."""
    batch = shard_batch(images, mesh)
    with _cache_hits() as hits:
        began = time.perf_counter()
        step = stage.train_step.lower(state, batch).compile()  # type: ignore[attr-defined]
        return step, time.perf_counter() - began, bool(hits)


@contextmanager
def _cache_hits():
    """Yields a list that grows with every program taken from the compilation cache."""
    hits = []

    def note(event: str, **_: object) -> None:
        if event == _CACHE_HIT:
            hits.append(event)

    jax.monitoring.register_event_listener(note)
    try:
        yield hits
    finally:
        jax.monitoring.unregister_event_listener(note)
