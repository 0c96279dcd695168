"""What a run is about to do, in words: devices, batches, parameters."""

import math
from typing import TYPE_CHECKING, Any

import jax
import jaxlib
from jax.sharding import Mesh

from maskrcnn_jax.compilation import scatter_fault
from maskrcnn_jax.training.config import TrainConfig
from maskrcnn_jax.training.optimizer import full_rate

if TYPE_CHECKING:
    from maskrcnn_jax.config import Config


def describe(config: "Config", mesh: Mesh, local_batch: int, num_images: int) -> str:
    """Returns a few lines on the devices, the batches and the length of the run.

    Args:
        config: the whole configuration.
        mesh: of the devices.
        local_batch: images per step that this process prepares.
        num_images: in the training set.
    """
    devices = mesh.devices.flatten()
    axes = " x ".join(f"{name} {size}" for name, size in mesh.shape.items())
    epochs = config.train.steps * config.train.batch_size / max(num_images, 1)
    buckets = ", ".join(f"{height}x{width}" for height, width in config.data.buckets)
    parts = f", in {config.train.accumulate} parts" if config.train.accumulate > 1 else ""
    lines = {
        "devices": f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform}), "
        f"{jax.process_count()} process(es); mesh {axes}",
        "batch": f"{config.train.batch_size} images per step, {local_batch} from this process"
        f"{parts}",
        "buckets": f"{buckets} (height x width; each is compiled when it first comes)",
        "length": f"{config.train.steps} steps = {epochs:.1f} epochs of {num_images} images",
        "layers": f"{config.train.layers} (what is trained)",
        "optimizer": f"{config.train.optimizer}, {_learning_rate(config.train)}, "
        f"schedule {config.train.schedule}, {config.model.dtype}",
    }
    if config.train.remat != "none":
        lines["remat"] = f"{config.train.remat} (recomputed in the backward pass)"
    if fault := scatter_fault(devices[0].platform, jaxlib.__version__):
        lines["slow"] = fault
    if config.train.ema_decay:
        lines["average"] = f"of the weights, decay {config.train.ema_decay:g}; it is evaluated"
    return "\n".join(f"{name:<10} {text}" for name, text in lines.items())


def _learning_rate(train: TrainConfig) -> str:
    text = f"learning rate {full_rate(train):g}"
    if train.learning_rate_rule == "none":
        return text
    ratio = f"{train.batch_size}/{train.reference_batch_size}"
    factor = ratio if train.learning_rate_rule == "linear" else f"sqrt({ratio})"
    return f"{text} (= {train.learning_rate:g} x {factor})"


def parameter_table(params: Any, trainable: Any, depth: int = 2) -> str:
    """Returns a table of the parameters, one line for each module down to a depth.

    Args:
        params: nested dict of arrays, or of their shapes.
        trainable: the same with bool.
        depth: of the module names that make a line.
    """
    rows: dict[str, list[int]] = {}
    leaves = jax.tree_util.tree_leaves_with_path(params)
    for (path, leaf), is_trainable in zip(leaves, jax.tree.leaves(trainable), strict=True):
        names = [key.key for key in path[:-1]][:depth] or [path[-1].key]
        row = rows.setdefault("/".join(names), [0, 0, 0])
        size = math.prod(leaf.shape)
        row[0] += 1
        row[1] += size
        row[2] += size if is_trainable else 0
    rows["total"] = [sum(column) for column in zip(*rows.values(), strict=True)]
    width = max(len(name) for name in rows)
    lines = [f"{'parameters':<{width}} {'arrays':>7} {'numbers':>12} {'trainable':>12}"]
    for name, (arrays, numbers, trained) in rows.items():
        shown = f"{trained:,}" if trained else "frozen"
        lines.append(f"{name:<{width}} {arrays:>7,} {numbers:>12,} {shown:>12}")
    return "\n".join(lines)
