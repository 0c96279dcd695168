"""The whole detector as one StableHLO program with its weights, for CPU, CUDA and TPU.

    detect = jax.export.deserialize(Path("detector.stablehlo").read_bytes()).call
    found = detect(image, image_size)  # boxes, scores, classes, masks, valid

The file needs `jax` alone to run (and flatbuffers, by which jax.export reads), of the same or of a
later version; jax.export promises half a year of compatibility.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from maskrcnn_jax.export.comparison import Found, Run
from maskrcnn_jax.models.mask_rcnn import MaskRCNN
from maskrcnn_jax.ops.pooling.pool import without_kernels

PLATFORMS = ("cpu", "cuda", "tpu")


def to_stablehlo(
    model: MaskRCNN,
    variables: Mapping[str, Any],
    shape: tuple[int, int],
    *,
    depth: int = 8,
    batch: int | None = None,
) -> bytes:
    """Returns a serialised program `(image, image_size) -> {"boxes", "scores", ...}`.

    The results are those of `Detections`, by name.

    Args:
        model: the detector.
        variables: `{"params", "batch_stats"}`.
        shape: H and W of the input, multiples of 32.
        depth: bits of a value of the images, 8 or 16.
        batch: images that it takes; None: any number.
    """

    def detect(image: jax.Array, image_size: jax.Array) -> dict[str, jax.Array]:
        # The barrier keeps XLA from computing with weights while it compiles, in another order than
        # the original does with weights that are arguments.
        weights = jax.lax.optimization_barrier(jax.tree.map(jnp.asarray, variables))
        detections, _ = model.apply(weights, image, image_size, method="predict")
        return {name: x for name, x in detections._asdict().items() if x is not None}

    images = export.symbolic_shape("batch")[0] if batch is None else batch
    dtype = jnp.uint8 if depth == 8 else jnp.uint16
    channels = len(model.config.pixel.mean)
    with without_kernels():
        program = export.export(jax.jit(detect), platforms=PLATFORMS)(
            jax.ShapeDtypeStruct((images, *shape, channels), dtype),
            jax.ShapeDtypeStruct((images, 2), jnp.float32),
        )
    return bytes(program.serialize())


def load(content: bytes) -> Run:
    """Returns a function of `image [B, H, W, C]` and `image_size [B, 2]` that detects.

    Args:
        content: of a file that `to_stablehlo` made.
    """
    detect = jax.jit(export.deserialize(bytearray(content)).call)
    return lambda image, image_size: found(detect(image, image_size))


def found(detections: Mapping[str, jax.Array]) -> list[Found]:
    """Returns the detections of each image of a batch, without the empty slots.

    Args:
        detections: those of `Detections`, by name.
    """
    parts = {name: np.asarray(x) for name, x in jax.device_get(detections).items() if x is not None}
    parts.setdefault("masks", np.zeros((*parts["scores"].shape, 0, 0), np.float32))
    return [
        Found(*(parts[name][i][valid] for name in Found._fields))
        for i, valid in enumerate(parts["valid"])
    ]
