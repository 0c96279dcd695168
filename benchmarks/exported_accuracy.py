"""COCO's metrics of the detector in other forms: `python -m benchmarks.exported_accuracy WORKDIR`.

The validation images of a run are evaluated by this package, by onnxruntime from the exported file,
from that with float16 weights and, with `--int8`, from one whose convolutions and dense layers
compute in int8: onnxruntime's static quantisation with a scale for each channel, calibrated on
training images. One JSON line each: box and mask AP, the difference from this package's, file size.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import measure
from maskrcnn_jax.config import Config
from maskrcnn_jax.config_json import section
from maskrcnn_jax.data import datasets
from maskrcnn_jax.data.records import Dataset
from maskrcnn_jax.evaluation.evaluate import evaluate
from maskrcnn_jax.export import detector as exported
from maskrcnn_jax.export import formats
from maskrcnn_jax.export.comparison import Found, Run
from maskrcnn_jax.export.onnx import runtime
from maskrcnn_jax.images.sizes import prepare_image
from maskrcnn_jax.inference.predict_step import make_predict_step
from maskrcnn_jax.models.detections import Detections

_METRICS = ("bbox/AP", "segm/AP", "segm/AP50")


def main(argv: list[str] | None = None) -> None:
    parser = measure.argument_parser(__doc__, rounds=1)
    parser.add_argument("workdir", metavar="WORKDIR", help="a trained run of one bucket")
    parser.add_argument("--checkpoint", default="last")
    parser.add_argument("--max_images", type=int, default=0, help="0: all")
    parser.add_argument("--int8", action="store_true", help="also quantised")
    parser.add_argument("--calibration", type=int, default=32, help="training images")
    arguments = measure.parse(parser, argv)
    made = exported.load(arguments.workdir, arguments.checkpoint)
    config = section(Config, made.metadata["config"])
    config.eval.max_images = arguments.max_images
    (shape,) = made.buckets
    contents = {
        weights: formats.convert(made, formats.Options("onnx", shape, weights=weights))
        for weights in ("float32", "float16")
    }
    if arguments.int8:
        images = calibration(config, arguments.calibration)
        contents["int8"] = quantised(contents["float32"], images)

    def evaluated(step, variables) -> dict[str, float]:
        dataset = datasets.load(config.data, "val")
        with tempfile.TemporaryDirectory() as folder:
            return evaluate(step, variables, dataset, config, folder)

    ours = evaluated(make_predict_step(made.model), made.variables)
    _say("maskrcnn_jax", ours, ours, None)
    for name, content in contents.items():
        step = step_of(runtime.load(content), config.model.detections.max_per_image)
        _say(f"onnx {name}", evaluated(step, None), ours, len(content))


def _say(name: str, metrics: dict, ours: dict, size: int | None) -> None:
    line = {"benchmark": "exported_accuracy", "side": name}
    line |= {key: round(metrics[key], 4) for key in _METRICS}
    line |= {f"{key} less ours": round(metrics[key] - ours[key], 4) for key in _METRICS}
    line |= {"megabytes": size and round(size / 1e6, 1), "images": metrics["images"]}
    print(json.dumps(line), flush=True)


def step_of(run: Run, slots: int) -> Callable[..., Detections]:
    """Returns what detects in a batch, as `make_predict_step` does, by way of single images."""

    def step(_, image, image_size):
        found = [run(image[i : i + 1], image_size[i : i + 1])[0] for i in range(len(image))]
        return Detections(*(np.stack(parts) for parts in zip(*map(padded, found), strict=True)))

    def padded(found: Found) -> tuple[np.ndarray, ...]:
        missing = slots - len(found.scores)
        parts = [*found, np.ones(len(found.scores), bool)]
        return tuple(np.concatenate([x, np.zeros((missing, *x.shape[1:]), x.dtype)]) for x in parts)

    return step


def calibration(config: Config, number: int) -> list[dict[str, np.ndarray]]:
    """Returns training images as the network gets them."""
    dataset: Dataset = datasets.load(config.data, "train")
    images = []
    for record in dataset.records[:: max(1, len(dataset.records) // number)][:number]:
        image, size = prepare_image(dataset.read_image(record), config.data)
        images.append({"image": image[None], "image_size": size[None]})
    return images


def quantised(content: bytes, images: list[dict[str, np.ndarray]]) -> bytes:
    """Returns a model whose layers compute in int8, by onnxruntime's own tools."""
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        def __init__(self):
            self._images = iter(images)

        def get_next(self):
            return next(self._images, None)

    with tempfile.TemporaryDirectory() as folder:
        before, ready, after = (Path(folder) / name for name in ("a.onnx", "b.onnx", "c.onnx"))
        before.write_bytes(content)
        quant_pre_process(before, ready, skip_symbolic_shape=True)
        quantization.quantize_static(
            ready,
            after,
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Gemm"],
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
        return after.read_bytes()


if __name__ == "__main__":
    main()
