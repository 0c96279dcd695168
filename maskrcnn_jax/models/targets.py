"""Training targets: anchors and proposals matched with the true objects.

Everything here is of one image; `GroundTruth` and the results are batched by `jax.vmap`.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.models.rpn import Proposals
from maskrcnn_jax.ops import anchor_matching, matching
from maskrcnn_jax.ops import boxes as box_ops


class GroundTruth(NamedTuple):
    """The objects of one image, in G slots; whatever the empty slots held is zero here.

    Attributes:
        boxes: [G, 4] float32, xyxy, input pixels, in the network's coordinates
            (`config.model.corners`).
        classes: [G] int32, 1..K.
        masks: [G, M, M] uint8, coverage 0..255 on a grid inside the own box.
        is_object: [G] bool, the slots that hold a single object.
        is_crowd: [G] bool, the slots that hold a crowd region.
        image_valid: scalar bool; nothing of an invalid image is trained on.
    """

    boxes: jax.Array
    classes: jax.Array
    masks: jax.Array
    is_object: jax.Array
    is_crowd: jax.Array
    image_valid: jax.Array


def ground_truth(batch: Mapping[str, jax.Array], corner: np.ndarray) -> GroundTruth:
    """Returns the ground truth of a whole training batch (leading axis B), padding cleared.

    Args:
        batch: see `MaskRCNN.losses`.
        corner: [4] float32, what the boxes lose on their way into the network.
    """
    valid = batch["gt_valid"] & batch["image_valid"][:, None]
    return GroundTruth(
        boxes=jnp.where(valid[..., None], batch["gt_boxes"] - corner, 0.0),
        classes=jnp.where(valid, batch["gt_classes"], 0),
        masks=jnp.where(valid[..., None, None], batch["gt_masks"], 0),
        is_object=valid & ~batch["gt_crowd"],
        is_crowd=valid & batch["gt_crowd"],
        image_valid=batch["image_valid"],
    )


class AnchorTargets(NamedTuple):
    """What the RPN should say about A anchors.

    Attributes:
        label: [A] int32, 1 object, 0 background, -1 neither, before sampling.
        sampled: [A] bool, the anchors that enter the losses.
        deltas: [A, 4] float32, to the matched object; zero where the label is not 1.
    """

    label: jax.Array
    sampled: jax.Array
    deltas: jax.Array


def anchor_targets(
    rng: jax.Array, anchors: jax.Array, gt: GroundTruth, config: ModelConfig
) -> AnchorTargets:
    """Matches anchors with objects and samples them (Faster R-CNN 3.1.2).

    Args:
        rng: key of this image.
        anchors: [A, 4] float32, xyxy, input pixels.
        gt: of one image.
        config: `config.model`.
    """
    rules = anchor_matching.Rules(
        config.rpn.positive_iou, config.rpn.negative_iou, config.roi.crowd_overlap
    )
    label, matched = anchor_matching.match_anchors(
        anchors, gt.boxes, gt.is_object, gt.is_crowd, rules
    )
    label = jnp.where(gt.image_valid, label, matching.IGNORED)
    deltas = box_ops.encode(matched, anchors, config.rpn.coder_weights)
    return AnchorTargets(
        label=label,
        sampled=matching.sample_mask(
            rng, label, config.rpn.samples_per_image, config.rpn.positive_fraction
        ),
        deltas=jnp.where((label == matching.POSITIVE)[:, None], deltas, 0.0),
    )


class RoIs(NamedTuple):
    """The proposals to train the heads on, in N = `roi.samples_per_image` slots, positives first.

    Attributes:
        boxes: [N, 4] float32, xyxy, input pixels; zero in invalid slots.
        labels: [N] int32, class of the matched object, 0 for background and in invalid slots.
        matched: [N] int32, slot of the matched object; 0 where the label is 0.
        valid: [N] bool.
        deltas: [N, 4] float32, to the matched object; zero where the label is 0.
    """

    boxes: jax.Array
    labels: jax.Array
    matched: jax.Array
    valid: jax.Array
    deltas: jax.Array


def sample_rois(rng: jax.Array, proposals: Proposals, gt: GroundTruth, config: ModelConfig) -> RoIs:
    """Matches proposals with objects and samples them (Fast R-CNN 2.3).

    The true boxes join the proposals, so that there are positives from the first step on. Crowd
    regions do not, and proposals inside them are left out.

    Args:
        rng: key of this image.
        proposals: of one image.
        gt: of one image.
        config: `config.model`.
    """
    boxes = jnp.concatenate([proposals.boxes, gt.boxes])
    usable = jnp.concatenate([proposals.valid, gt.is_object]) & gt.image_valid
    matched, label = matching.match(
        box_ops.iou(gt.boxes, boxes),
        gt.is_object,
        config.roi.positive_iou,
        config.roi.negative_iou,
        allow_low_quality=False,
    )
    label = matching.ignore_crowd(label, boxes, gt.boxes, gt.is_crowd, config.roi.crowd_overlap)
    label = jnp.where(usable, label, matching.IGNORED)
    index, valid = matching.sample_indices(
        rng, label, config.roi.samples_per_image, config.roi.positive_fraction
    )
    positive = valid & (label[index] == matching.POSITIVE)
    boxes = jnp.where(valid[:, None], boxes[index], 0.0)
    matched = jnp.where(positive, matched[index], 0)
    return make_rois(boxes, matched, valid, positive, gt, config.box_head.coder_weights)


def positive_slots(rois: RoIs, config: ModelConfig) -> RoIs:
    """Returns the first slots of RoIs with leading axis B, where the positives are.

    A costly head runs on them alone.
    """
    slots = max(int(config.roi.samples_per_image * config.roi.positive_fraction), 1)
    return jax.tree.map(lambda x: x[:, :slots], rois)


def make_rois(
    boxes: jax.Array,
    matched: jax.Array,
    valid: jax.Array,
    positive: jax.Array,
    gt: GroundTruth,
    coder_weights: tuple[float, float, float, float],
) -> RoIs:
    """Returns the RoIs of one image with the class and the deltas of their objects.

    Args:
        boxes: as in `RoIs`.
        matched: as in `RoIs`.
        valid: as in `RoIs`.
        positive: [N] bool, which of the valid ones have an object.
        gt: of the image.
        coder_weights: of the head that refines them.
    """
    deltas = box_ops.encode(gt.boxes[matched], boxes, coder_weights)
    return RoIs(
        boxes=boxes,
        labels=jnp.where(positive, gt.classes[matched], 0),
        matched=matched,
        valid=valid,
        deltas=jnp.where(positive[:, None], deltas, 0.0),
    )
