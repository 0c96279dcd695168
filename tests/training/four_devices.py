"""Trains one step on one device and on four, and moves a checkpoint between them.

Run as a program by test_sharding.py, because the number of devices is fixed at start-up:
`python -m tests.training.four_devices FOLDER`. Prints its findings as JSON.
"""

import json
import os
import sys

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "4"

import jax
import numpy as np

from maskrcnn_jax.checkpoints.load import load_for_inference
from maskrcnn_jax.checkpoints.manager import Checkpoints
from maskrcnn_jax.checkpoints.state import create
from maskrcnn_jax.models.build import initial_variables, make_model
from maskrcnn_jax.models.trainable import trainable_mask
from maskrcnn_jax.parallel.config import MeshConfig
from maskrcnn_jax.parallel.mesh import abstract, make_mesh, replicated, shard_batch
from maskrcnn_jax.training.optimizer import make_optimizer, make_schedule
from maskrcnn_jax.training.train_step import make_train_step
from tests.end_to_end.tiny import get_config


def _batch(config):
    """Four images of noise with a box each."""
    rng = np.random.default_rng(0)
    slots, side = config.data.max_instances, config.data.mask_size
    boxes = np.zeros((4, slots, 4), np.float32)
    boxes[:, 0] = [(8, 12, 40, 36), (4, 4, 20, 60), (30, 2, 62, 20), (0, 0, 64, 64)]
    classes = np.zeros((4, slots), np.int32)
    classes[:, 0] = (1, 2, 3, 1)
    return {
        "image": rng.integers(0, 256, (4, 64, 64, 3), np.uint8),
        "image_size": np.full((4, 2), 64, np.float32),
        "gt_boxes": boxes,
        "gt_classes": classes,
        "gt_masks": rng.integers(0, 256, (4, slots, side, side), np.uint8),
        "gt_crowd": np.zeros((4, slots), bool),
        "gt_valid": classes > 0,
        "image_valid": np.array([True, True, True, False]),
    }


def _one_step(config, devices):
    """Returns the state after one step on so many devices, its metrics and the batch's shards."""
    mesh = make_mesh(MeshConfig(**{"data": devices}))
    model = make_model(config.model, 3)
    variables = initial_variables(model, jax.random.key(0))
    trainable = trainable_mask(variables["params"], config.model, config.train.layers)
    schedule = make_schedule(config.train)
    optimizer = make_optimizer(config.train, schedule, trainable)
    state = jax.device_put(create(variables, optimizer), replicated(mesh))
    step = make_train_step(model, optimizer, schedule, trainable, 0, mesh)
    batch = shard_batch(_batch(config), mesh)
    shards = [list(shard.data.shape) for shard in batch["image"].addressable_shards]
    state, metrics = step(state, batch)
    return state, {key: float(value) for key, value in metrics.items()}, shards, mesh


def _largest_error(one, four):
    """Returns the largest difference of any leaf, relative to that leaf's largest number."""
    errors = {}
    for (path, a), b in zip(
        jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(four), strict=True
    ):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        errors[jax.tree_util.keystr(path)] = np.abs(a - b).max() / max(np.abs(a).max(), 1e-12)
    worst = max(errors, key=errors.get)
    return worst, float(errors[worst])


def main(folder):
    config = get_config()
    config.train.warmup_steps = 0
    config.train.clip_norm = 0.0
    one, one_metrics, _, one_mesh = _one_step(config, 1)
    four, four_metrics, shards, _ = _one_step(config, 4)

    metadata = {
        "config": config,
        "class_names": ("a", "b", "c"),
        "category_ids": (1, 2, 3),
        "num_images": 4,
    }
    checkpoints = Checkpoints(folder, 1, metadata)
    checkpoints.save(four, 1, {})
    checkpoints.wait()
    moved = checkpoints.restore(abstract(one, one_mesh))
    loaded, _ = load_for_inference(folder)
    same = jax.tree.map(lambda a, b: bool((np.asarray(a) == np.asarray(b)).all()), four, moved)
    print(
        json.dumps(
            {
                "metrics": [one_metrics, four_metrics],
                "shards": shards,
                # With plain momentum, the optimiser's state is the gradient plus weight decay.
                "gradient_error": _largest_error(one.opt_state, four.opt_state),
                "state_devices": len(jax.tree.leaves(four.params)[0].devices()),
                "moved_equal": all(jax.tree.leaves(same)),
                "moved_devices": len(jax.tree.leaves(moved.params)[0].devices()),
                "loaded_devices": len(jax.tree.leaves(loaded)[0].devices()),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
