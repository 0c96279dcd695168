"""Training of PointRend's heads: the coarse masks cell by cell, and single points."""

from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.models.point_rend.inference import coarse_masks, point_logits
from maskrcnn_jax.models.point_rend.sampling import training_points
from maskrcnn_jax.models.targets import GroundTruth, RoIs
from maskrcnn_jax.ops import boxes as box_ops
from maskrcnn_jax.ops.losses import masked_mean, sigmoid_cross_entropy
from maskrcnn_jax.ops.masks import crop_targets, point_targets
from maskrcnn_jax.ops.points import in_image
from maskrcnn_jax.parallel import partition

if TYPE_CHECKING:
    from maskrcnn_jax.models.mask_rcnn import MaskRCNN, Stages


def point_rend_losses(
    model: "MaskRCNN",
    pyramid: dict[str, jax.Array],
    rois: RoIs,
    gt: GroundTruth,
    box_deltas: jax.Array,
    rngs: jax.Array,
) -> tuple[dict[str, jax.Array], "Stages"]:
    """Returns the losses of both heads: means over the cells and points of all positive RoIs.

    Args:
        model: the detector, bound to its variables.
        pyramid: its features.
        rois: the first P, with leading axis B, as the rest.
        gt: the true objects.
        box_deltas: [B, P, K + 1, 4] or [B, P, 1, 4], what the box head makes of these RoIs.
        rngs: keys [B], by which points are drawn.

    Returns:
        loss_mask and loss_mask_point, scalars; and the stages mask_boxes [B, P, 4] (in which the
        masks are), mask_features, coarse_logits [B, P, s, s, K], mask_logits and mask_targets
        [B, P, s, s] (of the RoIs' classes), mask_valid [B, P], mask_points [B, P, n, 2] (x and y,
        0..1 over the box), point_logits and point_targets [B, P, n].
    """
    config, positive = model.config, rois.labels > 0
    boxes = rois.boxes
    if config.point_rend.train_on_predicted_boxes:
        boxes = jax.lax.stop_gradient(predicted_boxes(rois, box_deltas, config))
    features, coarse = coarse_masks(model, pyramid, boxes)
    chosen = jax.nn.one_hot(rois.labels - 1, coarse.shape[-1])
    own = jnp.einsum("bnyxk,bnk->bnyx", coarse, chosen, precision="highest")
    inside = boxes + model.corner  # pixels, as the true boxes are from here on
    crop = partition.per_image(partial(crop_targets, size=own.shape[-1]))
    targets = crop(gt.masks, gt.boxes + model.corner, inside, rois.matched)

    points = partition.per_image(partial(training_points, config=config.point_rend))(rngs, own)
    labels = partition.per_image(point_targets)(
        gt.masks, gt.boxes + model.corner, in_image(points, inside), rois.matched
    )
    logits = point_logits(model, pyramid, boxes, rois.labels, coarse, points)
    losses = {
        "loss_mask": masked_mean(sigmoid_cross_entropy(own, targets), positive),
        "loss_mask_point": masked_mean(sigmoid_cross_entropy(logits, labels), positive),
    }
    stages = dict(
        mask_boxes=boxes, mask_features=features, coarse_logits=coarse, mask_logits=own,
        mask_targets=targets, mask_valid=positive, mask_points=points, point_logits=logits,
        point_targets=labels,
    )  # fmt: skip
    return losses, stages


def predicted_boxes(rois: RoIs, box_deltas: jax.Array, config: ModelConfig) -> jax.Array:
    """Returns the boxes [B, N, 4] that the box head makes of RoIs, for their own class.

    Args:
        rois: with leading axis B.
        box_deltas: [B, N, K + 1, 4] float32, or [B, N, 1, 4] where they are of all classes.
        config: `config.model`.
    """
    of_class = jnp.zeros_like(rois.labels) if config.box_head.class_agnostic else rois.labels
    own = jnp.take_along_axis(box_deltas, of_class[..., None, None], axis=2)[..., 0, :]
    return box_ops.decode(own, rois.boxes, config.box_head.coder_weights)
