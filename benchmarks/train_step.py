"""One training step: `python -m benchmarks.train_step [--peer torchvision --peer-python PATH]`.

Losses, gradients and the update, on a batch that is in memory. Both sides train three of the five
backbone stages, with frozen batch norm, on 512 RoIs an image of which 128 are positive.
"""

from collections.abc import Callable

import jax
import numpy as np

from benchmarks import detector, measure
from benchmarks.peer import LAYOUTS, peers
from maskrcnn_jax.checkpoints import state
from maskrcnn_jax.config import Config
from maskrcnn_jax.models.build import make_model
from maskrcnn_jax.models.trainable import trainable_mask
from maskrcnn_jax.parallel.mesh import make_mesh, replicated, shard_batch
from maskrcnn_jax.pretrained.tables.torchvision import export_state
from maskrcnn_jax.training.optimizer import make_optimizer, make_schedule
from maskrcnn_jax.training.train_step import Metrics, make_train_step


def main(argv: list[str] | None = None) -> list[dict]:
    parser = measure.argument_parser(__doc__, rounds=5)
    measure.add_peer_arguments(parser)
    parser.add_argument("--side", type=int, default=512, help="of the square images, pixels")
    parser.add_argument("--batch", type=int, default=2)
    measure.add_dtype_argument(parser)
    arguments = measure.parse(parser, argv)
    if arguments.tiny:
        arguments.side = 128

    config = detector.get_config(arguments.tiny)
    config.model.dtype = arguments.dtype
    batch = detector.training_batch(arguments.batch, arguments.side, config.data)
    variables = detector.random_variables(config.model, detector.NUM_CLASSES)
    arrays = peer_arrays(config, variables, batch) if arguments.peer else {}
    next_step, facts = prepared(config, variables, batch)

    def ours():
        seconds, metrics = measure.timed(next_step)
        return seconds, {name: float(metrics[name]) for name in ("rois_sampled", "rois_positive")}

    sizes = {
        "image": list(batch["image"].shape[:3]),
        "objects": int(batch["gt_valid"][0].sum()),
        "rois": config.model.roi.samples_per_image,
        "dtype": config.model.dtype,
    }
    options = {"num_classes": detector.NUM_CLASSES}
    with peers(arguments, "train_step", arrays, LAYOUTS, **options) as (others, versions):
        return measure.report(
            "train_step",
            "ResNet-50-FPN" if not arguments.tiny else "tiny",
            sizes,
            {measure.OURS: ours, **others},
            arguments.rounds,
            facts=facts,
            peer_versions=versions,
        )


def peer_arrays(config: Config, variables: dict, batch: dict) -> dict[str, np.ndarray]:
    """Returns the weights, images and objects of a batch as the peer takes them."""
    valid = batch["gt_valid"][0]
    objects = {name: batch[name][:, valid] for name in ("gt_boxes", "gt_classes")}
    return export_state(variables, config.model) | objects | {"image": batch["image"]}


def prepared(config: Config, variables: dict, batch: dict) -> tuple[Callable[[], Metrics], dict]:
    """Compiles the step; returns what makes the next one and gives its metrics, and the facts."""
    model = make_model(config.model, detector.NUM_CLASSES)
    trainable = trainable_mask(variables["params"], config.model, config.train.layers)
    schedule = make_schedule(config.train)
    optimizer = make_optimizer(config.train, schedule, trainable)
    mesh = make_mesh(config.mesh)
    step = make_train_step(model, optimizer, schedule, trainable, config.seed, mesh)
    batch = shard_batch(batch, mesh)
    current = jax.device_put(state.create(variables, optimizer), replicated(mesh))
    program, facts = measure.compiled(step, current, batch)

    def next_step():
        nonlocal current
        current, metrics = program(current, batch)
        return metrics

    return next_step, facts


if __name__ == "__main__":
    main()
