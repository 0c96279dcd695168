"""The two ways through the keypoint head: to a detection's keypoints, and to the loss."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from maskrcnn_jax.models.keypoints.config import KeypointsConfig
from maskrcnn_jax.models.keypoints.heatmaps import heatmap_targets, heatmaps_to_keypoints
from maskrcnn_jax.models.targets import RoIs, positive_slots
from maskrcnn_jax.ops.losses import masked_sum, softmax_cross_entropy
from maskrcnn_jax.parallel import partition

if TYPE_CHECKING:
    from maskrcnn_jax.models.mask_rcnn import MaskRCNN, Stages


def detected_keypoints(
    model: "MaskRCNN", pyramid: dict[str, jax.Array], boxes: jax.Array, valid: jax.Array
) -> tuple[jax.Array, "Stages"]:
    """Returns the keypoints of detections.

    Args:
        model: the detector, bound to its variables.
        pyramid: its features.
        boxes: [B, D, 4] float32, xyxy, input pixels, in the network's coordinates.
        valid: [B, D] bool.

    Returns:
        [B, D, P, 3] float32: x, y (input pixels) and score, 0 in empty slots; and the stages
        keypoint_features [B, D, S, S, C] and keypoint_logits [B, D, P, 4S, 4S].
    """

    def keypoints_of(boxes):
        features = model.pool(pyramid, boxes, model.config.keypoints.pool_size)
        logits = model.keypoint_head(features)
        keypoints = partition.per_image(heatmaps_to_keypoints)(logits, boxes + model.corner)
        return keypoints, dict(keypoint_features=features, keypoint_logits=logits)

    found, stages = model.on_detections(keypoints_of, valid, boxes)
    return jnp.where(valid[..., None, None], found, 0.0), stages


def keypoint_loss(
    model: "MaskRCNN",
    pyramid: dict[str, jax.Array],
    rois: RoIs,
    batch: Mapping[str, jax.Array],
) -> tuple[jax.Array, "Stages"]:
    """Returns the loss of the keypoints of positive RoIs.

    Args:
        model: the detector, bound to its variables.
        pyramid: its features.
        rois: with leading axis B.
        batch: see `MaskRCNN.losses`; gt_keypoints is [B, G, P, 3] float32: x, y (input pixels) and
            how well it is known: 0 not at all, 1 though hidden, 2 seen.

    Returns:
        A scalar; and the stages keypoint_logits [B, P', P, 4S, 4S] of the first P' RoIs, and
        keypoint_targets and keypoint_valid [B, P', P] (see `heatmap_targets`).
    """
    settings = model.config.keypoints
    first = positive_slots(rois, model.config)
    positive = first.labels > 0
    features = model.pool(pyramid, first.boxes, settings.pool_size)
    logits = model.keypoint_head(features)
    known = batch["gt_valid"] & batch["image_valid"][:, None]
    keypoints = jnp.where(known[..., None, None], batch["gt_keypoints"], 0.0)
    targets, valid = partition.per_image(partial(heatmap_targets, size=logits.shape[-1]))(
        keypoints, first.boxes + model.corner, first.matched
    )
    valid &= positive[..., None]
    number = _normalizer(settings, valid, batch["image_valid"])
    logits_in_line = logits.reshape(*logits.shape[:3], -1)
    loss = masked_sum(softmax_cross_entropy(logits_in_line, targets), valid) / number
    stages = dict(keypoint_logits=logits, keypoint_targets=targets, keypoint_valid=valid)
    return settings.loss_weight * loss, stages


def _normalizer(settings: KeypointsConfig, valid: jax.Array, images: jax.Array) -> jax.Array:
    """Returns what the sum of the loss over all keypoints is divided by."""
    if settings.loss_normalizer == "visible":
        return jnp.maximum(valid.sum(), 1)
    return jnp.maximum(images.sum() * valid.shape[1] * valid.shape[2], 1)
