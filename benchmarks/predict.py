"""Inference: `python -m benchmarks.predict [--peer torchvision --peer-python PATH]`.

Two cases: image in memory to boxes, classes and 28x28 masks; and on to masks of the whole image.
"""

import jax

from benchmarks import detector, measure
from benchmarks.peer import LAYOUTS, peers
from maskrcnn_jax.inference.result import to_result
from maskrcnn_jax.models.build import make_model
from maskrcnn_jax.pretrained.tables.torchvision import export_state


def main(argv: list[str] | None = None) -> list[dict]:
    parser = measure.argument_parser(__doc__, rounds=7)
    measure.add_peer_arguments(parser)
    parser.add_argument("--height", type=int, default=800)
    parser.add_argument("--width", type=int, default=1344)
    parser.add_argument("--batch", type=int, default=1)
    measure.add_dtype_argument(parser)
    arguments = measure.parse(parser, argv)
    if arguments.tiny:
        arguments.height, arguments.width = 64, 96

    config = detector.get_config(arguments.tiny).model
    config.dtype = arguments.dtype
    config = config
    variables = detector.random_variables(config, detector.NUM_CLASSES)
    batch = detector.images(arguments.batch, arguments.height, arguments.width)
    program, facts = measure.compiled(
        _with_counts(make_model(config, detector.NUM_CLASSES)), variables, *batch.values()
    )
    state = export_state(variables, config) if arguments.peer else {}
    variables = jax.device_put(variables)
    sizes = {
        "image": [arguments.batch, arguments.height, arguments.width],
        "proposals": config.rpn.post_nms_top_n_eval,
        "detections": config.detections.max_per_image,
        "dtype": config.dtype,
    }

    lines = []
    for pasted in (False, True):

        def ours(pasted=pasted):
            seconds, counts = measure.timed(_run, program, variables, batch, pasted)
            return seconds, {name: count.tolist() for name, count in counts.items()}

        options = {"num_classes": detector.NUM_CLASSES, "paste": pasted}
        arrays = {"image": batch["image"], **state}
        with peers(arguments, "predict", arrays, LAYOUTS, **options) as (others, versions):
            lines += measure.report(
                "predict",
                "full-size masks" if pasted else "28x28 masks",
                sizes,
                {measure.OURS: ours, **others},
                arguments.rounds,
                facts=facts,
                peer_versions=versions,
            )
    return lines


def _with_counts(model):
    """The compiled step of inference, which also says how many of its slots are in use."""

    def predict(variables, image, image_size):
        detections, stages = model.apply(variables, image, image_size, method="predict")
        counts = {
            "proposals": stages["proposal_valid"].sum(1),
            "detections": detections.valid.sum(1),
        }
        return detections, counts

    return jax.jit(predict)


def _run(program, variables, batch, pasted):
    detections, counts = program(variables, batch["image"], batch["image_size"])
    if pasted:
        detections = jax.device_get(detections)
        names = [str(k + 1) for k in range(detector.NUM_CLASSES)]
        for i, size in enumerate(batch["image_size"]):
            to_result(detections, i, size, size, names).masks  # noqa: B018  made when asked for
    return jax.device_get(counts)


if __name__ == "__main__":
    main()
