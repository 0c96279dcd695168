"""The formats that are one file a bucket: made in memory, run beside the original, then written."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn_jax.checkpoints.format import versions
from maskrcnn_jax.export.comparison import Agreement, Found, Run, Speed, compare, measure
from maskrcnn_jax.export.detector import Detector, Shape
from maskrcnn_jax.export.examples import Example
from maskrcnn_jax.export.resemblance import Resemblance, resemble
from maskrcnn_jax.files import write_atomically

SUFFIXES = {"onnx": ".onnx", "stablehlo": ".stablehlo"}


@dataclass(frozen=True)
class Options:
    """What a file is to be.

    Attributes:
        format: onnx | stablehlo.
        shape: H and W of its input.
        batch: images that it takes; None: any number.
        pasted: whether masks are of the whole input.
        license: of the weights, in words; goes into the metadata.
        weights: of ONNX: float32, or float16, from which they are widened when the file is loaded.
    """

    format: str
    shape: Shape
    batch: int | None = 1
    pasted: bool = False
    license: str = "unknown"
    weights: str = "float32"


def convert(detector: Detector, options: Options) -> bytes:
    """Returns the content of the file.

    Raises:
        ValueError: the detector has a setting that the format cannot say.
    """
    arguments = detector.model, detector.variables, options.shape
    depth = detector.image_config.depth
    if options.format == "stablehlo":
        from maskrcnn_jax.export.stablehlo import to_stablehlo

        return to_stablehlo(*arguments, depth=depth, batch=options.batch)
    from maskrcnn_jax.export.onnx.detector import to_onnx

    described = description(detector, options)
    proto = to_onnx(*arguments, depth=depth, pasted=options.pasted, metadata=described)
    if options.weights == "float16":
        from maskrcnn_jax.export.onnx.half import with_half_weights

        proto = with_half_weights(proto)
    return proto.SerializeToString()


def check(
    content: bytes, detector: Detector, examples: Sequence[Example], options: Options
) -> tuple[Agreement | Resemblance, Speed]:
    """Runs the content of a file beside the original.

    Of rounded weights, the same file without the rounding must agree, and this one find what that
    one finds.

    Raises:
        ValueError: they do not agree, or the file cannot be run.
    """
    original, exported = detector.run(), _loader(options.format)(content)
    batches = list(batched(examples, options.batch))
    rule = detector.model_config.detections.mask_paste if options.pasted else None
    found = _all(original, batches)
    agreement: Agreement | Resemblance
    if options.weights == "float32":
        agreement = compare(found, _all(exported, batches), rule)
    else:
        exact = _loader(options.format)(convert(detector, replace(options, weights="float32")))
        compare(found, _all(exact, batches), rule)
        agreement = resemble(found, _all(exported, batches))
    image, image_size, _ = batches[0]
    return agreement, measure(original, exported, image, image_size)


def write(content: bytes, detector: Detector, options: Options, path: Path) -> None:
    """Writes the file, and beside a StableHLO file, which has no place for it, its description.

    Raises:
        OSError: it cannot be written.
    """
    write_atomically(path, content)
    if options.format == "stablehlo":
        described = json.dumps(description(detector, options), indent=1)
        write_atomically(path.with_suffix(".json"), described + "\n")


def description(detector: Detector, options: Options) -> dict[str, Any]:
    """Returns what somebody who has only the file must know of it."""
    data, model = detector.image_config, detector.model_config
    pixel, detections = model.pixel, model.detections
    return {
        "class_names": list(detector.metadata["class_names"]),
        "category_ids": list(detector.metadata["category_ids"]),
        "license": options.license,
        "bucket": list(options.shape),
        "image": (
            f"[height, width, {len(pixel.mean)}] at the top left of the bucket, zeros around it"
            + (", RGB" if len(pixel.mean) == 3 else "")
        ),
        "bits": data.depth,
        "normalize": data.normalize,  # before the file; its percentiles become 0 and the highest
        "percentiles": list(data.percentiles),
        "resize": {"rule": data.resize, "short_side": data.short_side, "long_side": data.long_side},
        # Done inside the file; named for those who compare.
        "pixel_order": pixel.order,
        "pixel_mean": list(pixel.mean),
        "pixel_std": list(pixel.std),
        "score_threshold": detections.score_threshold,
        "nms_threshold": detections.nms_threshold,
        "max_detections": detections.max_per_image,
        "weights": options.weights,
        "masks": _masks_in_words(options) if model.masks else "none",
        "mask_paste": detections.mask_paste,
        "keypoints": list(model.keypoints.names),
        "versions": versions(),
    }


def _masks_in_words(options: Options) -> str:
    return "pasted" if options.pasted else "grid inside the box"


def batched(
    examples: Sequence[Example], size: int | None
) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Yields image, image_size and the number of true images of each batch.

    Args:
        examples: the images.
        size: of each batch, which is filled up; None: pairs, and one image where they are odd.
    """
    for first in range(0, len(examples), size or 2):
        image, image_size = map(np.stack, zip(*examples[first : first + (size or 2)], strict=True))
        missing = size - len(image) if size else 0
        if missing:
            image = np.concatenate([image, np.zeros_like(image[:1]).repeat(missing, 0)])
            image_size = np.concatenate([image_size, image_size[:1].repeat(missing, 0)])
        yield image, image_size, len(image) - missing


def _all(run: Run, batches) -> list[Found]:
    return [
        found for image, image_size, number in batches for found in run(image, image_size)[:number]
    ]


def _loader(name: str) -> Callable[[bytes], Run]:
    if name == "stablehlo":
        from maskrcnn_jax.export.stablehlo import load
    else:
        from maskrcnn_jax.export.onnx.runtime import load
    return load
