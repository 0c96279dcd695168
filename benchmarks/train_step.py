"""One training step: `python -m benchmarks.train_step [--peer torchvision --peer-python PATH]`.

Losses, gradients and the update, on a batch that is in memory. Both sides train three of the five
backbone stages, with frozen batch norm, on 512 RoIs an image of which 128 are positive.
"""

import jax

from benchmarks import detector, measure
from benchmarks.peer import LAYOUTS, peers
from maskrcnn_jax.checkpoints import state
from maskrcnn_jax.models.build import make_model
from maskrcnn_jax.models.trainable import trainable_mask
from maskrcnn_jax.parallel.mesh import make_mesh, replicated, shard_batch
from maskrcnn_jax.pretrained.tables.torchvision import export_state
from maskrcnn_jax.training.optimizer import make_optimizer, make_schedule
from maskrcnn_jax.training.train_step import make_train_step


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
    arrays = {}
    if arguments.peer:
        arrays = export_state(variables, config.model)
        valid = batch["gt_valid"][0]
        arrays |= {name: batch[name][:, valid] for name in ("gt_boxes", "gt_classes")}
        arrays["image"] = batch["image"]
    ours, facts = _prepare(config, variables, batch)
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


def _prepare(config, variables, batch) -> tuple[measure.Side, dict]:
    """Compiles the step; returns a side that makes the next step at each call."""
    model = make_model(config.model, detector.NUM_CLASSES)
    trainable = trainable_mask(variables["params"], config.model, config.train.layers)
    schedule = make_schedule(config.train)
    optimizer = make_optimizer(config.train, schedule, trainable)
    mesh = make_mesh(config.mesh)
    step = make_train_step(model, optimizer, schedule, trainable, config.seed, mesh)
    batch = shard_batch(batch, mesh)
    current = jax.device_put(state.create(variables, optimizer), replicated(mesh))
    program, facts = measure.compiled(step, current, batch)

    def side():
        nonlocal current
        seconds, (current, metrics) = measure.timed(program, current, batch)
        return seconds, {name: float(metrics[name]) for name in ("rois_sampled", "rois_positive")}

    return side, facts


if __name__ == "__main__":
    main()
