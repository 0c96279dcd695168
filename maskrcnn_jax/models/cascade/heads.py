"""Cascade R-CNN (Cai & Vasconcelos 2018): box heads in a row, each on the boxes of the one before.

    RoIs -> box head 1 -> boxes -> RoIAlign -> box head 2 -> boxes -> RoIAlign -> box head 3

Each head is trained at a higher IoU than the one before. A detection's class probabilities are the
mean of all heads', its box is the last one's. As Detectron2's `CascadeROIHeads` (v0.6): RoIs are
sampled once, and labelled again for every head; the losses of all heads are added, and the features
get the mean of their gradients. The mask head is that of the first RoIs.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import flax.linen as nn
import jax
import jax.numpy as jnp

from maskrcnn_jax.models.box_head import class_scores
from maskrcnn_jax.models.config import BoxHeadConfig, ModelConfig
from maskrcnn_jax.models.layers import STORED_STATISTICS
from maskrcnn_jax.models.rpn import Proposals
from maskrcnn_jax.models.targets import GroundTruth, RoIs, make_rois
from maskrcnn_jax.ops import boxes as box_ops
from maskrcnn_jax.ops import matching
from maskrcnn_jax.parallel import partition

if TYPE_CHECKING:
    from maskrcnn_jax.models.mask_rcnn import MaskRCNN, Stages

Losses = dict[str, jax.Array]


class CascadeHeads(nn.Module):
    """The box heads of a cascade; called as a `BoxHead`, it is the first of them.

    Attributes:
        head: makes one of them.
        number: of them.
    """

    head: Callable[[], nn.Module]
    number: int

    def setup(self):
        self.stage = [self.head() for _ in range(self.number)]

    def __call__(
        self, x: jax.Array, statistics_parts: int = 0, mask: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Returns what the first head does, see `BoxHead`; makes the parameters of all."""
        if self.is_initializing():
            for k in range(1, self.number):
                self.further(k, x, statistics_parts, mask)
        return self.stage[0](x, statistics_parts, mask)

    def further(
        self, k: int, x: jax.Array, statistics_parts: int = 0, mask: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Returns what head k does, counted from 0."""
        return self.stage[k](x, statistics_parts, mask)


def refined(
    model: "MaskRCNN",
    pyramid: dict[str, jax.Array],
    class_logits: jax.Array,
    box_deltas: jax.Array,
    proposals: Proposals,
    limits: jax.Array,
) -> tuple[tuple[jax.Array, jax.Array, Proposals], "Stages"]:
    """Passes the proposals through the further heads.

    Args:
        model: the detector, bound to its variables.
        pyramid: its features.
        class_logits: [B, N, K + 1], of the first head.
        box_deltas: [B, N, 1, 4], of the first head.
        proposals: with leading axis B.
        limits: [B, 2] float32, the largest y and x of a box, pixels.

    Returns:
        Logits whose scores are the mean of all heads', deltas of the last head and the boxes that
        these start from, for `detect`; and the stages of head k as proposals_k, box_features_k,
        class_logits_k, box_deltas_k, from 2 on.
    """
    config = model.config
    stages: Stages = {}
    logits, weights = [class_logits], config.box_head.coder_weights
    for k, next_weights in enumerate(config.cascade.coder_weights, 1):
        boxes = _boxes(proposals.boxes, box_deltas, weights, limits[:, None])
        proposals, weights = proposals._replace(boxes=boxes), next_weights
        features = model.pool(pyramid, boxes, config.box_head.pool_size)
        class_logits, box_deltas = model.box_head.further(k, features, STORED_STATISTICS)
        logits.append(class_logits)
        stages |= {
            f"proposals_{k + 1}": boxes,
            f"box_features_{k + 1}": features,
            f"class_logits_{k + 1}": class_logits,
            f"box_deltas_{k + 1}": box_deltas,
        }
    return (mean_logits(logits, config.box_head), box_deltas, proposals), stages


def mean_logits(logits: Sequence[jax.Array], config: BoxHeadConfig) -> jax.Array:
    """Returns logits `[..., K + 1]` whose `class_scores` are the mean of all heads'."""
    mean = sum(class_scores(each, config) for each in logits) / len(logits)
    return jnp.log(mean) if config.class_loss == "softmax" else jax.scipy.special.logit(mean)


def further_losses(
    model: "MaskRCNN",
    pyramid: dict[str, jax.Array],
    rois: RoIs,
    gt: GroundTruth,
    box_deltas: jax.Array,
    limits: jax.Array,
    statistics_parts: int,
    box_losses: Callable[..., Losses],
    rng: jax.Array,
) -> tuple[Losses, "Stages"]:
    """Returns the losses of the further heads, loss_classifier_k and loss_box_reg_k from 2 on.

    Args:
        model: the detector, bound to its variables.
        pyramid: its features.
        rois: of the first head, with leading axis B, as the rest.
        gt: the true objects.
        box_deltas: [B, N, 1, 4], of the first head.
        limits: [B, 2] float32, the largest y and x of a box, pixels.
        statistics_parts: see `Norm`.
        box_losses: `losses.box_losses`.
        rng: key of the step.

    Returns:
        Scalars; and the stages of head k as rois_k, roi_labels_k, roi_valid_k, class_logits_k and
        box_deltas_k.
    """
    config = model.config
    losses: Losses = {}
    stages: Stages = {}
    weights = config.box_head.coder_weights
    further = zip(config.cascade.ious, config.cascade.coder_weights, strict=True)
    for k, (iou, next_weights) in enumerate(further, 1):
        label = partial(relabelled, iou=iou, weights=(weights, next_weights), config=config)
        rois, weights = partition.per_image(label)(rois, box_deltas, gt, limits), next_weights
        features = shared_gradient(
            model.pool(pyramid, rois.boxes, config.box_head.pool_size), config
        )
        class_logits, box_deltas = model.box_head.further(k, features, statistics_parts, rois.valid)
        head = replace(config.box_head, coder_weights=weights)
        found = box_losses(class_logits, box_deltas, rois, head, jax.random.fold_in(rng, k))
        losses |= {f"{name}_{k + 1}": loss for name, loss in found.items()}
        stages |= {
            f"rois_{k + 1}": rois.boxes,
            f"roi_labels_{k + 1}": rois.labels,
            f"roi_valid_{k + 1}": rois.valid,
            f"class_logits_{k + 1}": class_logits,
            f"box_deltas_{k + 1}": box_deltas,
        }
    return losses, stages


def shared_gradient(features: jax.Array, config: ModelConfig) -> jax.Array:
    """Returns the features as they are; of their gradient the part that is one head's."""
    fraction = 1 / (1 + len(config.cascade.ious))
    constant = jax.lax.stop_gradient(features)
    return constant + fraction * (features - constant)


def relabelled(
    rois: RoIs,
    box_deltas: jax.Array,
    gt: GroundTruth,
    limits: jax.Array,
    *,
    iou: float,
    weights: tuple,
    config: ModelConfig,
) -> RoIs:
    """Returns the RoIs that a head has moved, matched with the objects again, for one image.

    Args:
        rois: that the head was given.
        box_deltas: [N, 1, 4], its answer.
        gt: the true objects.
        limits: [2] float32, the largest y and x of a box, pixels.
        iou: from which a RoI is positive; below, it is background. Nothing is sampled.
        weights: of this head's deltas, and of the next one's.
        config: `config.model`.
    """
    boxes = _boxes(rois.boxes, box_deltas, weights[0], limits)
    matched, label = matching.match(
        box_ops.iou(gt.boxes, boxes), gt.is_object, iou, iou, allow_low_quality=False
    )
    label = matching.ignore_crowd(label, boxes, gt.boxes, gt.is_crowd, config.roi.crowd_overlap)
    has_area = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    valid = rois.valid & has_area & (label != matching.IGNORED)
    positive = valid & (label == matching.POSITIVE)
    boxes = jnp.where(valid[:, None], boxes, 0.0)
    matched = jnp.where(positive, matched, 0)
    return make_rois(boxes, matched, valid, positive, gt, weights[1])


def _boxes(boxes: jax.Array, deltas: jax.Array, weights: tuple, limits: jax.Array) -> jax.Array:
    """Returns the boxes `[..., 4]` that deltas `[..., 1, 4]` lead to, inside the image."""
    moved = box_ops.decode(deltas[..., 0, :], boxes, weights)
    return box_ops.clip(moved, limits[..., 0], limits[..., 1])
