"""The detector in other runtimes: `python -m benchmarks.exported [--workdir DIR]`.

Two cases, ResNet-50-FPN on an image of 800x1344 and a detector of the nuclei recipe on 256x256: by
this package, by onnxruntime from the exported file and, where it is installed, by OpenVINO from the
same file, in turns. The first has random weights that fill every slot (`benchmarks.detector`); the
second is that of `--workdir`, a trained run, or has random weights as well.
"""

import numpy as np

from benchmarks import detector, measure
from maskrcnn_jax.config_flags import read
from maskrcnn_jax.config_json import to_json
from maskrcnn_jax.export import detector as exported
from maskrcnn_jax.export import examples, formats
from maskrcnn_jax.export.comparison import Found, Run
from maskrcnn_jax.export.onnx import runtime

_CASES = ("ResNet-50-FPN", "nuclei")


def main(argv: list[str] | None = None) -> list[dict]:
    parser = measure.argument_parser(__doc__, rounds=10)
    parser.add_argument("--workdir", metavar="DIR", help="a trained run of the nuclei recipe")
    parser.add_argument("--images", nargs="+", default=[], help="of that recipe; else generated")
    parser.add_argument("--only", choices=_CASES, help="one of the cases")
    arguments = measure.parse(parser, argv)
    lines = []
    for case in [arguments.only] if arguments.only else _CASES:
        lines += _case(case, arguments)
    return lines


def _case(case: str, arguments) -> list[dict]:
    made, shape, image, image_size = _work(case, arguments)
    kind = formats.Options("onnx", shape)
    content = formats.convert(made, kind)
    sides = {measure.OURS: made.run(), "onnxruntime": runtime.load(content)}
    sides |= _openvino(content)
    sizes = {
        "image": [1, *shape],
        "weights": "trained" if made.metadata.get("step") else "random",
        "file": f"{len(content) / 1e6:.1f} MB",
    }
    return measure.report(
        "exported",
        case,
        sizes,
        {name: _side(run, image, image_size) for name, run in sides.items()},
        arguments.rounds,
        facts={},
        peer_versions=_versions(sides),
    )


def _work(case: str, arguments) -> tuple[exported.Detector, exported.Shape, np.ndarray, np.ndarray]:
    """Returns the detector, the shape of its input, an image and its size."""
    if case == "nuclei":
        shape = (64, 64) if arguments.tiny else (256, 256)
        made = (
            exported.load(arguments.workdir) if arguments.workdir else _random("nuclei", arguments)
        )
        data = made.data_of(shape)
        images = examples.find(arguments.images, 1) if arguments.images else []
        (example, *_) = examples.read(images, data) or examples.generated(1, data, shape)
        return made, shape, *(part[None] for part in example)
    shape = (64, 96) if arguments.tiny else (800, 1344)
    return _random(None, arguments), shape, *detector.images(1, *shape).values()


def _random(recipe: str | None, arguments) -> exported.Detector:
    config = detector.get_config(arguments.tiny)
    classes = detector.NUM_CLASSES
    if recipe and not arguments.tiny:
        config, classes = read(recipe, []), 1
    metadata = {
        "config": to_json(config),
        "class_names": tuple(f"class_{k + 1}" for k in range(classes)),
        "category_ids": tuple(range(1, classes + 1)),
    }
    return exported.Detector(detector.random_variables(config.model, classes), metadata)


def _openvino(content: bytes) -> dict[str, Run]:
    try:
        import openvino
    except ImportError:
        return {}
    core = openvino.Core()
    # By itself it would compute in bfloat16 where the processor can.
    hints = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": measure.use_threads(0)}
    compiled = core.compile_model(core.read_model(content), "CPU", hints)

    def run(image, image_size):
        result = compiled({"image": image, "image_size": image_size})
        return [
            Found(*(np.array(result[name]) for name in ("boxes", "scores", "classes", "masks")))
        ]

    return {"OpenVINO": run}


def _side(run: Run, image: np.ndarray, image_size: np.ndarray) -> measure.Side:
    def side():
        seconds, found = measure.timed(run, image, image_size)
        return seconds, {"detections": len(found[0].scores)}

    return side


def _versions(sides: dict) -> dict:
    names = [name.lower() for name in sides if name != measure.OURS]
    return {name: measure.version(name) for name in names}


if __name__ == "__main__":
    main()
