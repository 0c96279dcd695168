"""The losses of training on images that are not trained on, the same whenever computed.

Each image's losses are those of a batch of this image alone: unaugmented, normalised with stored
statistics, its anchors and RoIs sampled with a key that follows from its place in the data set. So
the numbers do not depend on how the images are put together in batches, nor on the run's seed.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from maskrcnn_jax.parallel.mesh import replicated, shard_batch
from maskrcnn_jax.parallel.partition import BATCH_AXES

# By which RoIs or keypoints an image counts in the mean of a loss: by those that are in it. In the
# mean of any other loss it counts as one. Over the data set this gives what one batch of all images
# would.
_COUNTED_BY = {
    "loss_classifier": "rois",
    "loss_box_reg": "rois",
    "loss_mask": "positives",
    "loss_mask_point": "positives",
    "loss_mask_iou": "mask_ious",
    "loss_keypoint": "keypoints",
}
Rows = dict[str, np.ndarray]
LossStep = Callable[[Any, Mapping[str, np.ndarray], np.ndarray], dict[str, jax.Array]]


def make_loss_step(model: nn.Module, mesh: Mesh) -> LossStep:
    """Returns the compiled step `(variables, batch, indices) -> rows`.

    It is compiled once for each shape of batch, and returns before the device has finished.

    Args:
        model: has `losses(batch, rng, batch_statistics)` as `MaskRCNN` does. What is measured are
            all of its losses, whatever their number, and `roi_counts` of its stages is used.
        mesh: devices that share the images, as `make_mesh` returns it.

    Returns:
        The step. `batch` and `indices` ([B] int64, of the images in the data set) are this
        process's, as `eval_batches` yields them. The rows have an entry for each image of all
        processes, [B] each: the losses, `images` (1, or 0 in empty slots), `rois` (sampled) and
        `positives` of these, the `keypoints` and the `mask_ious` in the loss of these where the
        model has such, and `index`.
    """

    def rows_of_image(variables, image):
        batch = {key: value[None] for key, value in image.items() if key != "index"}
        rng = jax.random.fold_in(jax.random.key(0), image["index"])
        losses, stages = model.apply(variables, batch, rng, batch_statistics=False, method="losses")
        losses.pop("loss_total")
        if "mask_iou_valid" in stages:
            losses["mask_ious"] = stages["mask_iou_valid"].sum()
        if "keypoint_valid" in stages:
            losses["keypoints"] = stages["keypoint_valid"].sum()
        return losses | {
            "index": image["index"],
            "images": image["image_valid"].astype(jnp.int32),
            "rois": stages["roi_counts"][0, 0],
            "positives": stages["roi_counts"][0, 1],
        }

    # Every device works on its images by itself, so an image gives the same in any company.
    rows_of_batch = jax.shard_map(
        lambda variables, batch: jax.lax.map(lambda image: rows_of_image(variables, image), batch),
        mesh=mesh,
        in_specs=(P(), P(BATCH_AXES)),
        out_specs=P(BATCH_AXES),
        check_vma=False,
    )
    compiled = jax.jit(rows_of_batch, out_shardings=replicated(mesh))

    def step(variables, batch, indices):
        batch = {**batch, "index": indices.astype(np.int32)}
        return compiled(variables, shard_batch(batch, mesh))

    return step


def loss_names(model: nn.Module) -> tuple[str, ...]:
    """Returns the names of a model's losses, the total's too; it is traced for that, no more.

    Args:
        model: a `MaskRCNN`, or what has its configuration and its `losses`.
    """
    channels = len(model.config.pixel.mean)
    batch = {
        "image": jnp.zeros((1, 64, 64, channels), jnp.uint8),
        "image_size": jnp.full((1, 2), 64.0),
        "gt_boxes": jnp.zeros((1, 1, 4)),
        "gt_classes": jnp.zeros((1, 1), jnp.int32),
        "gt_masks": jnp.zeros((1, 1, 28, 28), jnp.uint8),
        "gt_crowd": jnp.zeros((1, 1), bool),
        "gt_valid": jnp.zeros((1, 1), bool),
        "image_valid": jnp.ones((1,), bool),
    }
    if names := model.config.keypoints.names:
        batch["gt_keypoints"] = jnp.zeros((1, 1, len(names), 3))

    def losses(key):
        return model.init_with_output(key, batch, key, batch_statistics=False, method="losses")

    ((shapes, _), _) = jax.eval_shape(losses, jax.random.key(0))
    return tuple(shapes)


def mean_losses(batches: Sequence[Mapping[str, np.ndarray]]) -> dict[str, float]:
    """Returns each loss over all images, and `loss_total`, their sum.

    Args:
        batches: rows on the host, as the step returns them; they are added up in an order that
            does not depend on the batches.
    """
    rows = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
    valid = np.flatnonzero(rows["images"])
    order = valid[np.argsort(rows["index"][valid])]
    means = {
        name: _mean(values[order], rows[_counted_by(name)][order])
        for name, values in rows.items()
        if name.startswith("loss_")
    }
    return means | {"loss_total": math.fsum(means.values())}


def _counted_by(name: str) -> str:
    """Returns what counts an image in the mean of a loss, of a cascade's further heads too."""
    return _COUNTED_BY.get(re.sub(r"_\d+$", "", name), "images")


def _mean(values: np.ndarray, weights: np.ndarray) -> float:
    """Returns the weighted mean in float64; 0 where nothing has a weight."""
    products = values.astype(np.float64) * weights
    return float(products.sum() / max(weights.sum(), 1))
