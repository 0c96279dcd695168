"""From a training batch to its losses: the five of Mask R-CNN, with torchvision's normalisers.

    image -> backbone -> FPN -> RPN -> proposals -> sampled RoIs -> RoIAlign -> box head
                                 |                       |                         |
                            RPN losses              positive ones              box losses
                                                         |
                                                     RoIAlign -> mask head -> mask loss

The way through the detector is called as `MaskRCNN.losses`; its parts are those of `predict`.
"""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from maskrcnn_jax.models.cascade import heads as cascade
from maskrcnn_jax.models.class_losses import class_loss
from maskrcnn_jax.models.config import BoxHeadConfig, RPNConfig
from maskrcnn_jax.models.keypoints.stages import keypoint_loss
from maskrcnn_jax.models.mask_scoring.losses import mask_iou_loss
from maskrcnn_jax.models.point_rend.losses import point_rend_losses
from maskrcnn_jax.models.targets import (
    AnchorTargets,
    RoIs,
    anchor_targets,
    ground_truth,
    positive_slots,
    sample_rois,
)
from maskrcnn_jax.ops import boxes as box_ops
from maskrcnn_jax.ops.box_losses import (
    complete_iou_loss,
    distance_iou_loss,
    generalized_iou_loss,
)
from maskrcnn_jax.ops.losses import (
    masked,
    masked_mean,
    masked_sum,
    sigmoid_cross_entropy,
    smooth_l1,
)
from maskrcnn_jax.ops.masks import crop_targets
from maskrcnn_jax.parallel import partition

if TYPE_CHECKING:
    from maskrcnn_jax.models.mask_rcnn import MaskRCNN, Stages

_POINTS = 2  # what is folded into a step's key for PointRend's points

_OF_OVERLAPS = {
    "giou": generalized_iou_loss,
    "diou": distance_iou_loss,
    "ciou": complete_iou_loss,
}


def training_losses(
    model: "MaskRCNN", batch: Mapping[str, jax.Array], rng: jax.Array, batch_statistics: bool
) -> tuple[dict[str, jax.Array], "Stages"]:
    """Returns the losses of a batch and the stages on the way: the body of `MaskRCNN.losses`.

    Args:
        model: the detector, bound to its variables.
        batch: see `MaskRCNN.losses`, as the rest.
        rng: key.
        batch_statistics: whether bn layers take the batch's.
    """
    config, gt = model.config, ground_truth(batch, model.corner)
    image_size, num_images = batch["image_size"], batch["image"].shape[0]
    rngs = jax.random.split(rng, (2, num_images))
    parts = 1 if config.sync_batch_norm else partition.batch_shards()
    statistics_parts = parts if batch_statistics else 0
    of_backbone = rng if batch_statistics else None
    pyramid, stages = model.features(
        batch["image"], image_size, statistics_parts, batch["image_valid"], of_backbone
    )
    proposals, anchors, rpn_stages = model.proposals(
        pyramid, image_size, batch["image"].shape[1:3], "train"
    )
    targets = partition.per_image(lambda key, gt: anchor_targets(key, anchors, gt, config))(
        rngs[0], gt
    )
    losses = rpn_losses(
        rpn_stages["rpn_logits"], rpn_stages["rpn_deltas"], targets, anchors, config.rpn
    )

    rois = partition.per_image(partial(sample_rois, config=config))(rngs[1], proposals, gt)
    box_features = model.pool(pyramid, rois.boxes, config.box_head.pool_size)
    if config.cascade.ious:
        box_features = cascade.shared_gradient(box_features, config)
    class_logits, box_deltas = model.box_head(box_features, statistics_parts, rois.valid)
    losses |= box_losses(class_logits, box_deltas, rois, config.box_head, rng)
    if config.cascade.ious:
        limits = image_size - model.corner[2:]
        more, cascade_stages = cascade.further_losses(
            model, pyramid, rois, gt, box_deltas, limits, statistics_parts, box_losses, rng
        )
        losses |= more
        stages |= cascade_stages

    if config.masks:
        first = positive_slots(rois, config)
        if config.point_rend.enabled:
            keys = jax.random.split(jax.random.fold_in(rng, _POINTS), num_images)
            more, mask_stages = point_rend_losses(
                model, pyramid, first, gt, box_deltas[:, : first.labels.shape[1]], keys
            )
        else:
            more, mask_stages = _mask_losses(model, pyramid, first, gt, statistics_parts)
        losses |= more
        stages |= mask_stages
    if config.keypoints.names:
        losses["loss_keypoint"], keypoint_stages = keypoint_loss(model, pyramid, rois, batch)
        stages |= keypoint_stages
    losses["loss_total"] = sum(losses.values(), jnp.float32(0))
    stages |= rpn_stages
    stages |= dict(
        rois=rois.boxes, roi_labels=rois.labels, roi_matched=rois.matched,
        roi_valid=rois.valid, box_features=box_features, class_logits=class_logits,
        box_deltas=box_deltas,
        anchor_counts=jnp.stack([(targets.label == k).sum(1) for k in (1, 0, -1)], axis=-1),
        roi_counts=jnp.stack([rois.valid.sum(1), (rois.labels > 0).sum(1)], axis=-1),
    )  # fmt: skip
    return losses, stages


def _mask_losses(model, pyramid, rois, gt, statistics_parts):
    """Losses of the mask head on the RoIs that are positive, and its stages."""
    positive = rois.labels > 0
    mask_features = model.pool(pyramid, rois.boxes, model.config.mask_head.pool_size)
    mask_logits = model.mask_head(mask_features, rois.labels, statistics_parts, positive)
    mask_targets = partition.per_image(partial(crop_targets, size=mask_logits.shape[-1]))(
        gt.masks, gt.boxes + model.corner, rois.boxes + model.corner, rois.matched
    )
    losses = {"loss_mask": mask_loss(mask_logits, mask_targets, positive)}
    stages = dict(
        mask_features=mask_features, mask_logits=mask_logits, mask_targets=mask_targets,
        mask_valid=positive,
    )  # fmt: skip
    if model.config.mask_scoring.enabled:
        losses["loss_mask_iou"], more = mask_iou_loss(model, stages, rois, gt)
        stages |= more
    return losses, stages


def rpn_losses(
    logits: jax.Array,
    deltas: jax.Array,
    targets: AnchorTargets,
    anchors: np.ndarray,
    config: RPNConfig,
) -> dict[str, jax.Array]:
    """Losses of the RPN, both divided by the number of sampled anchors of the whole batch.

    Args:
        logits: [B, A] float32.
        deltas: [B, A, 4] float32.
        targets: with leading axis B.
        anchors: [A, 4] float32.
        config: `config.model.rpn`, which says what the loss of the boxes is.

    Returns:
        loss_objectness and loss_rpn_box_reg, scalars.
    """
    positive = targets.sampled & (targets.label == 1)
    number = jnp.maximum(targets.sampled.sum(), 1)
    cross_entropy = sigmoid_cross_entropy(logits, positive.astype(jnp.float32))
    distance = _box_distance(deltas, targets.deltas, anchors, positive, config)
    return {
        "loss_objectness": masked_sum(cross_entropy, targets.sampled) / number,
        "loss_rpn_box_reg": _weighted(masked_sum(distance, positive) / number, config),
    }


def box_losses(
    class_logits: jax.Array,
    box_deltas: jax.Array,
    rois: RoIs,
    config: BoxHeadConfig,
    rng: jax.Array | None = None,
) -> dict[str, jax.Array]:
    """Losses of the box head, both divided by the number of sampled RoIs of the whole batch.

    Args:
        class_logits: [B, N, K + 1] float32.
        box_deltas: [B, N, K + 1, 4] float32, of which only those of the true class count; or
            [B, N, 1, 4] where they are of all classes.
        rois: with leading axis B.
        config: `config.model.box_head`, which says what the losses are.
        rng: key; only a federated loss needs it.

    Returns:
        loss_classifier and loss_box_reg, scalars.
    """
    number = jnp.maximum(rois.valid.sum(), 1)
    of_class = jnp.zeros_like(rois.labels) if config.class_agnostic else rois.labels
    own = jnp.take_along_axis(box_deltas, of_class[..., None, None], axis=2)[..., 0, :]
    distance = _box_distance(own, rois.deltas, rois.boxes, rois.labels > 0, config)
    of_classes = class_loss(class_logits, rois, config, rng)
    return {
        "loss_classifier": masked_sum(of_classes, rois.valid) / number,
        "loss_box_reg": _weighted(masked_sum(distance, rois.labels > 0) / number, config),
    }


def mask_loss(logits: jax.Array, targets: jax.Array, positive: jax.Array) -> jax.Array:
    """Mean binary cross-entropy over the pixels of all positive RoIs.

    Args:
        logits: [B, P, 2S, 2S] float32, of each RoI's true class.
        targets: [B, P, 2S, 2S] float32, coverage 0..1.
        positive: [B, P] bool.

    Returns:
        Scalar; 0 without positives.
    """
    return masked_mean(sigmoid_cross_entropy(logits, targets), positive)


def _box_distance(
    deltas: jax.Array,
    targets: jax.Array,
    boxes: jax.Array | np.ndarray,
    counted: jax.Array,
    config: RPNConfig | BoxHeadConfig,
) -> jax.Array:
    """Returns the loss of each box: one number, or one for each of its four deltas.

    Args:
        deltas: [B, N, 4] float32, predicted.
        targets: [B, N, 4] float32, to the matched object.
        boxes: [B, N, 4] or [N, 4] float32, from which both lead.
        counted: [B, N] bool, the boxes that have an object.
        config: of the head.
    """
    if config.box_loss == "smooth_l1":
        return smooth_l1(deltas, targets, config.box_loss_beta)
    if config.box_loss == "l1":
        return smooth_l1(deltas, targets, 0.0)
    # Of empty slots the loss would be 0, but its gradient NaN.
    boxes = jnp.where(counted[..., None], boxes, jnp.array([0.0, 0.0, 1.0, 1.0]))
    pred, true = (
        box_ops.decode(masked(x, counted), boxes, config.coder_weights) for x in (deltas, targets)
    )
    return _OF_OVERLAPS[config.box_loss](pred, true)


def _weighted(loss: jax.Array, config: RPNConfig | BoxHeadConfig) -> jax.Array:
    return loss if config.box_loss_weight == 1 else config.box_loss_weight * loss
