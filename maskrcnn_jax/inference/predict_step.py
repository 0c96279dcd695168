"""The compiled step of inference: a batch of images in, detections out."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh

from maskrcnn_jax.inference.forward import prediction
from maskrcnn_jax.parallel.mesh import batch_sharding, batch_shards, local_parts, shard_batch

if TYPE_CHECKING:
    from maskrcnn_jax.inference.test_time import Views

PredictStep = Callable[[Any, np.ndarray, np.ndarray], Any]


def make_predict_step(
    model: nn.Module, mesh: Mesh | None = None, views: "Views | None" = None
) -> PredictStep:
    """Returns the compiled step `(variables, image, image_size) -> Detections`.

    It is compiled once for each shape of `image`, and returns before the device has finished.

    Args:
        model: has `predict(image, image_size) -> (Detections, stages)` as `MaskRCNN` does.
        mesh: devices that share the images of a batch, as `make_mesh` returns it; None:
            the device where the variables are.
        views: of test-time augmentation; `image` and `image_size` are then sequences of one for
            the usual size and one for each scale, see `test_time.predict_views`.

    Returns:
        The step. `image` is `[B, H, W, C]`, uint8 or uint16, and `image_size` `[B, 2] float32`;
        with a mesh, B is this process's part of the global batch, and so are the detections that
        come back; it raises ValueError where the devices cannot have equal shares of a batch.
    """
    compiled = jitted(model, mesh, views)
    if mesh is None:
        return compiled
    parts = local_parts(mesh)

    def predict_shared(variables, image, image_size):
        number = len(jax.tree.leaves(image)[0])
        if number % parts:
            raise ValueError(
                f"{parts} devices cannot share a batch of {number} images equally; make "
                f"config.eval.batch_size a multiple of {batch_shards(mesh)}"
            )
        image = jax.tree.map(lambda x: shard_batch({"image": x}, mesh)["image"], image)
        image_size = jax.tree.map(lambda x: shard_batch({"size": x}, mesh)["size"], image_size)
        return jax.tree.map(_local_part, compiled(variables, image, image_size))

    return predict_shared


def jitted(
    model: nn.Module, mesh: Mesh | None = None, views: "Views | None" = None
) -> Callable[..., Any]:
    """Returns the function inside of the step, which takes and returns global arrays.

    Args:
        model: as `make_predict_step` takes it.
        mesh: as `make_predict_step` takes it.
        views: as `make_predict_step` takes it.
    """
    shardings = None if mesh is None else batch_sharding(mesh)
    return jax.jit(prediction(model, mesh, views), out_shardings=shardings)


def _local_part(array: jax.Array) -> jax.Array | np.ndarray:
    """Returns the rows of an array, split by rows, that this process's devices hold."""
    if array.is_fully_addressable:
        return array
    shards = [shard for shard in array.addressable_shards if shard.replica_id == 0]
    shards.sort(key=lambda shard: shard.index[0].start or 0)
    return np.concatenate([np.asarray(shard.data) for shard in shards])
