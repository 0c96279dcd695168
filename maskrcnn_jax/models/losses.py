"""The five losses of Mask R-CNN over a batch, with torchvision's normalisers."""

import jax
import jax.numpy as jnp

from maskrcnn_jax.models.targets import AnchorTargets, RoIs
from maskrcnn_jax.ops.losses import (
    masked_mean,
    masked_sum,
    sigmoid_cross_entropy,
    smooth_l1,
    softmax_cross_entropy,
)


def rpn_losses(
    logits: jax.Array, deltas: jax.Array, targets: AnchorTargets, beta: float
) -> dict[str, jax.Array]:
    """Losses of the RPN, both divided by the number of sampled anchors of the whole batch.

    Args:
        logits: [B, A] float32.
        deltas: [B, A, 4] float32.
        targets: with leading axis B.
        beta: where smooth L1 turns from quadratic to linear.

    Returns:
        loss_objectness and loss_rpn_box_reg, scalars.
    """
    positive = targets.sampled & (targets.label == 1)
    number = jnp.maximum(targets.sampled.sum(), 1)
    cross_entropy = sigmoid_cross_entropy(logits, positive.astype(jnp.float32))
    distance = smooth_l1(deltas, targets.deltas, beta)
    return {
        "loss_objectness": masked_sum(cross_entropy, targets.sampled) / number,
        "loss_rpn_box_reg": masked_sum(distance, positive) / number,
    }


def box_losses(
    class_logits: jax.Array, box_deltas: jax.Array, rois: RoIs, beta: float
) -> dict[str, jax.Array]:
    """Losses of the box head, both divided by the number of sampled RoIs of the whole batch.

    Args:
        class_logits: [B, N, K + 1] float32.
        box_deltas: [B, N, K + 1, 4] float32; only those of the true class count.
        rois: with leading axis B.
        beta: where smooth L1 turns from quadratic to linear.

    Returns:
        loss_classifier and loss_box_reg, scalars.
    """
    number = jnp.maximum(rois.valid.sum(), 1)
    own = jnp.take_along_axis(box_deltas, rois.labels[..., None, None], axis=2)[..., 0, :]
    distance = smooth_l1(own, rois.deltas, beta)
    cross_entropy = softmax_cross_entropy(class_logits, rois.labels)
    return {
        "loss_classifier": masked_sum(cross_entropy, rois.valid) / number,
        "loss_box_reg": masked_sum(distance, rois.labels > 0) / number,
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
