"""What the MaskIoU head is trained for (Huang et al. 2019, section 3.3)."""

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from maskrcnn_jax.models.targets import GroundTruth, RoIs
from maskrcnn_jax.ops.losses import masked, masked_mean

if TYPE_CHECKING:
    from maskrcnn_jax.models.mask_rcnn import MaskRCNN, Stages


def mask_iou_loss(
    model: "MaskRCNN", stages: "Stages", rois: RoIs, gt: GroundTruth
) -> tuple[jax.Array, "Stages"]:
    """Returns the mean squared error of the predicted IoU, over the RoIs whose masks overlap.

    Args:
        model: the detector, bound to its variables.
        stages: of the mask head: mask_features [B, P, S, S, C], mask_logits and mask_targets
            [B, P, 2S, 2S], and mask_valid [B, P], the positive RoIs.
        rois: P of each image.
        gt: the true objects.

    Returns:
        A scalar; and the stages mask_ious, mask_iou_targets [B, P] and mask_iou_valid [B, P], the
        RoIs in the loss.
    """
    logits, positive = stages["mask_logits"], stages["mask_valid"]
    predicted = model.mask_iou_head(stages["mask_features"], logits, rois.labels)
    of_objects = object_areas(gt, model.corner)
    areas = jnp.take_along_axis(of_objects, rois.matched, axis=1)
    cell = _areas(rois.boxes + model.corner) / logits.shape[-1] ** 2
    targets = iou_targets(logits, stages["mask_targets"], areas / jnp.maximum(cell, 1e-6))
    targets = jax.lax.stop_gradient(jnp.where(positive, targets, 0.0))
    valid = targets > 0
    loss = masked_mean(jnp.square(masked(predicted, valid) - targets), valid)
    more = dict(mask_ious=predicted, mask_iou_targets=targets, mask_iou_valid=valid)
    return model.config.mask_scoring.loss_weight * loss, more


def iou_targets(
    mask_logits: jax.Array, mask_targets: jax.Array, whole_areas: jax.Array
) -> jax.Array:
    """Returns the IoU of predicted masks with whole objects, of which a RoI may cut off a part.

    A predicted mask is where the probability is above 1/2, as in the paper and in every result.
    (The authors' code and mmdetection's compare the logit with 1/2.)

    Args:
        mask_logits: `[..., M, M]` float32.
        mask_targets: `[..., M, M]` float32, what the RoI holds of the object, coverage 0..1.
        whole_areas: `[...]` float32, of the object, in cells of the grid.

    Returns:
        `[...]` float32, 0..1.
    """
    mask = (mask_logits > 0).astype(jnp.float32)
    common = (mask * mask_targets).sum((-2, -1))
    # Grids are not exact: what lies in the RoI is not more than the whole.
    whole = jnp.maximum(whole_areas, mask_targets.sum((-2, -1)))
    union = mask.sum((-2, -1)) + whole - common
    return common / jnp.maximum(union, 1e-6)


def object_areas(gt: GroundTruth, corner: np.ndarray) -> jax.Array:
    """Returns the pixels of each object's mask, `[B, G]` float32.

    Args:
        gt: with leading axis B.
        corner: [4] float32, what boxes lose on their way into the network.
    """
    covered = gt.masks.astype(jnp.float32).mean((-2, -1)) / 255
    return covered * _areas(gt.boxes + corner)


def _areas(boxes: jax.Array) -> jax.Array:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
