"""The detector as a function of arrays, to be compiled: a batch of images in, detections out."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from flax import linen as nn
from jax.sharding import Mesh

from maskrcnn_jax.parallel import partition

if TYPE_CHECKING:
    from maskrcnn_jax.inference.test_time import Views


def prediction(
    model: nn.Module, mesh: Mesh | None = None, views: "Views | None" = None
) -> Callable[..., Any]:
    """Returns the function `(variables, image, image_size) -> Detections`.

    Args:
        model: has `predict(image, image_size) -> (Detections, stages)` as `MaskRCNN` does.
        mesh: devices that the arrays are sharded over; None: a single device.
        views: of test-time augmentation; `image` and `image_size` are then sequences of one for
            the usual size and one for each scale, see `test_time.predict_views`.

    Raises:
        ValueError: there are views, and the model finds keypoints.
    """
    method: str | Callable[..., Any] = "predict"
    if views is not None:
        if model.config.keypoints.names:
            raise ValueError(
                "test-time augmentation does not join keypoints, which config.model.keypoints has "
                "the model find; leave tta out"
            )
        from maskrcnn_jax.inference.test_time import predict_views

        method = partial(predict_views, flip=views.flip)

    def predict(variables, image, image_size):
        with partition.over(mesh):
            detections, _ = model.apply(variables, image, image_size, method=method)
        return detections

    return predict
