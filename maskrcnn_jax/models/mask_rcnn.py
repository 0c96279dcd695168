"""Mask R-CNN (He et al. 2017): the whole detector.

    image -> backbone -> FPN -> RPN -> proposals -> RoIAlign -> box head -> detections
                                                    RoIAlign -> mask head -> masks

Both ways through it, `predict` and `losses` (in `models/losses.py`), also return every stage's
result by name.
"""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from maskrcnn_jax.models.backbones.interface import make_backbone, pyramid_class
from maskrcnn_jax.models.box_head import BoxHead
from maskrcnn_jax.models.config import ModelConfig, PixelConfig
from maskrcnn_jax.models.detections import Detections, detect
from maskrcnn_jax.models.fpn import POOLED_LEVELS, STRIDES
from maskrcnn_jax.models.layers import STORED_STATISTICS, rematerialised
from maskrcnn_jax.models.mask_head import MaskHead
from maskrcnn_jax.models.rpn import Proposals, RPNHead, propose
from maskrcnn_jax.ops.anchors import pyramid_anchors
from maskrcnn_jax.ops.roi_align import (
    assign_levels,
    multilevel_crop_and_resize,
    multilevel_roi_align,
)
from maskrcnn_jax.ops.slots import on_used_slots
from maskrcnn_jax.parallel import partition

Stages = dict[str, jax.Array]


class MaskRCNN(nn.Module):
    """The detector; each method is pure: `model.apply(variables, ..., method="predict")`.

    Attributes:
        config: `model` of the configuration (maskrcnn_jax/config.py), frozen.
        num_classes: K, foreground classes.
        remat: none | backbone (each of its blocks) | all (and FPN, RPN and heads): what is computed
            again in the backward pass instead of being kept. It costs time, and changes no value.
        deterministic: whether gradients must be the same to the bit whenever they are computed
            again, on a GPU too.
    """

    config: ModelConfig
    num_classes: int
    remat: str = "none"
    deterministic: bool = False

    def setup(self):
        config = self.config
        part = rematerialised if self.remat == "all" else lambda kind: kind
        dtype = jnp.dtype(config.dtype)
        # What x2 and y2 lose on their way into the network, and get back on their way out.
        self.corner = np.array([0, 0, 1, 1], np.float32) * (config.corners == "inclusive")
        self.backbone = make_backbone(config.backbone, dtype, self.remat != "none")
        self.fpn = part(pyramid_class(config.backbone))(**asdict(config.fpn), dtype=dtype)
        self.rpn = part(RPNHead)(
            channels=config.rpn.channels or config.fpn.channels,
            anchors_per_cell=len(config.anchors.aspect_ratios),
            convs=config.rpn.convs,
            dtype=dtype,
        )
        box, mask = config.box_head, config.mask_head
        box_head: Any = partial(
            part(BoxHead),
            num_classes=self.num_classes,
            convs=box.convs,
            conv_channels=box.conv_channels,
            dense_channels=box.dense_channels,
            dense_norm=box.dense_norm,
            norm=box.norm,
            norm_eps=box.norm_eps,
            class_agnostic=box.class_agnostic,
            dtype=dtype,
        )
        # The members of the family are imported here: the plain detector needs none of them.
        if config.cascade.ious:
            from maskrcnn_jax.models.cascade.heads import CascadeHeads

            box_head = partial(CascadeHeads, box_head, 1 + len(config.cascade.ious))
        self.box_head = box_head()
        if config.point_rend.enabled:
            from maskrcnn_jax.models.point_rend import inference as point_rend

            self.mask_head: Any = point_rend.make_head(config, self.num_classes, part, dtype)
        elif config.masks:
            self.mask_head = part(MaskHead)(
                num_classes=self.num_classes,
                convs=mask.convs,
                channels=mask.channels,
                norm=mask.norm,
                norm_eps=mask.norm_eps,
                class_agnostic=mask.class_agnostic,
                dtype=dtype,
            )
        if config.mask_scoring.enabled:
            from maskrcnn_jax.models.mask_scoring import head as mask_scoring

            self.mask_iou_head = mask_scoring.make_head(config, self.num_classes, part, dtype)
        if config.keypoints.names:
            from maskrcnn_jax.models.keypoints import head as keypoints

            self.keypoint_head = keypoints.make_head(config, part, dtype)

    def predict(self, image: jax.Array, image_size: jax.Array) -> tuple[Detections, Stages]:
        """Detects the objects of a batch of images.

        Args:
            image: [B, H, W, C] uint8 or uint16, H and W multiples of 32, the image at the top left;
                C is the number of values of `config.pixel.mean`.
            image_size: [B, 2] float32, valid height and width in `image`; the rest is not seen.

        Returns:
            The detections, and the stages: image, c2..c5 (of a ViT c4), p2..p6, rpn_logits [B, A],
            rpn_deltas [B, A, 4], proposals [B, N, 4], proposal_scores, proposal_valid [B, N],
            box_features [B, N, S, S, C], class_logits [B, N, K + 1], box_deltas [B, N, K + 1, 4],
            mask_features [B, D, S, S, C], mask_logits [B, D, 2S, 2S], detection_valid [B, D]. Slots
            that are not valid have any value in the stages.
            Boxes of the stages are in the network's own coordinates (`config.corners`). Of boxes
            alone there are no masks; a cascade has more stages (`cascade.heads.refined`), as have
            PointRend (`point_rend.inference.subdivided_masks`), a keypoint head
            (`keypoints.stages.detected_keypoints`) and Mask Scoring (mask_ious [B, D]).
        """
        config = self.config
        pyramid, stages = self.features(image, image_size)
        proposals, _, rpn_stages = self.proposals(pyramid, image_size, image.shape[1:3], "eval")
        box_features = self.pool(pyramid, proposals.boxes, config.box_head.pool_size)
        class_logits, box_deltas = self.box_head(box_features, STORED_STATISTICS)
        stages |= rpn_stages
        stages |= dict(box_features=box_features, class_logits=class_logits, box_deltas=box_deltas)
        limits, answers = image_size - self.corner[2:], (class_logits, box_deltas, proposals)
        if config.cascade.ious:
            from maskrcnn_jax.models.cascade.heads import refined

            answers, more = refined(self, pyramid, *answers, limits)
            stages |= more
        boxes, scores, classes, valid = partition.per_image(partial(detect, config=config))(
            *answers, limits
        )
        masks = mask_scores = None
        if config.masks:
            masks_of = partial(self.masks, pyramid)
            mask_logits, more = self.on_detections(masks_of, valid, boxes, classes)
            masks = jnp.where(valid[..., None, None], jax.nn.sigmoid(mask_logits), 0.0)
            stages |= more
        if config.mask_scoring.enabled:
            from maskrcnn_jax.models.mask_scoring.head import scores_of_masks

            mask_scores = scores_of_masks(scores, stages["mask_ious"], valid)
        keypoints = None
        if config.keypoints.names:
            from maskrcnn_jax.models.keypoints.stages import detected_keypoints

            keypoints, more = detected_keypoints(self, pyramid, boxes, valid)
            stages |= more
        boxes = jnp.where(valid[..., None], boxes + self.corner, 0.0)
        stages |= dict(detection_valid=valid)
        return Detections(boxes, scores, classes, masks, valid, keypoints, mask_scores), stages

    def losses(
        self, batch: Mapping[str, jax.Array], rng: jax.Array, batch_statistics: bool = True
    ) -> tuple[dict[str, jax.Array], Stages]:
        """Returns the five losses of a training batch and their sum, or those of other heads.

        Args:
            batch: image and image_size as for `predict`, gt_boxes [B, G, 4] float32 xyxy input
                pixels, gt_classes [B, G] int32 1..K, gt_masks [B, G, M, M] uint8 coverage inside
                the own box, gt_crowd and gt_valid [B, G] bool, image_valid [B] bool (an invalid
                image enters no loss); and gt_keypoints where there is a keypoint head.
            rng: key from which anchors and RoIs are sampled, and of what is random in a backbone.
            batch_statistics: whether bn layers normalise with the batch's statistics and update the
                running ones (then apply with mutable=["batch_stats"]), or use the stored ones;
                nothing in the backbone is random then.

        Returns:
            loss_objectness, loss_rpn_box_reg, loss_classifier, loss_box_reg, loss_mask (scalars,
            float32, named as by torchvision) and loss_total; and the stages of `predict` as far as
            they exist here, with rois [B, N, 4], roi_labels, roi_matched, roi_valid [B, N],
            mask_targets [B, P, 2S, 2S], mask_valid [B, P], anchor_counts [B, 3] (positive,
            negative, ignored) and roi_counts [B, 2] (sampled, positive). The mask head sees only
            the first P slots of the RoIs, where the positives are.
        """
        # Imported here: a program that only predicts needs neither targets nor losses.
        from maskrcnn_jax.models.losses import training_losses

        return training_losses(self, batch, rng, batch_statistics)

    def __call__(self, image: jax.Array) -> None:
        """Passes one RoI of a small image [B, H, W, C] through all layers, to create parameters."""
        size = jnp.full((image.shape[0], 2), image.shape[1], jnp.float32)
        pyramid, _ = self.features(image, size)
        self.rpn(pyramid)
        box = jnp.zeros((image.shape[0], 1, 4))
        self.box_head(self.pool(pyramid, box, self.config.box_head.pool_size), STORED_STATISTICS)
        if self.config.masks:
            self.masks(pyramid, box, jnp.zeros(box.shape[:2], jnp.int32))
        if self.config.keypoints.names:
            self.keypoint_head(self.pool(pyramid, box, self.config.keypoints.pool_size))

    def features(self, image, image_size, statistics_parts=0, image_valid=None, rng=None):
        """Image -> pyramid p2..p6, and the stages so far."""
        image = normalized(image, image_size, self.config.pixel)
        features = self.backbone(image, statistics_parts, image_valid, rng)
        pyramid = self.fpn(features, statistics_parts, image_valid)
        return pyramid, dict(image=image) | features | pyramid

    def proposals(self, pyramid, image_size, image_shape, mode):
        """Pyramid -> proposals [B, N], the anchors [A, 4], and the stages of the RPN."""
        rpn = self.config.rpn
        logits, deltas = self.rpn(pyramid)
        level_shapes = [level.shape[1:3] for level in pyramid.values()]
        anchors = pyramid_anchors(level_shapes, image_shape, **asdict(self.config.anchors))
        anchors = [level - self.corner for level in anchors]
        whole = jnp.full_like(image_size, np.float32(image_shape))
        limits = image_size if rpn.clip == "image" else whole
        proposals: Proposals = partition.per_image(
            lambda logits, deltas, limits: propose(
                logits,
                deltas,
                anchors,
                limits,
                pre_nms_top_n=getattr(rpn, f"pre_nms_top_n_{mode}"),
                post_nms_top_n=getattr(rpn, f"post_nms_top_n_{mode}"),
                nms_threshold=rpn.nms_threshold,
                min_size=rpn.min_size,
                coder_weights=rpn.coder_weights,
                joint=rpn.nms == "joint",
            )
        )(logits, deltas, limits - self.corner[2:])
        stages = dict(
            rpn_logits=jnp.concatenate(logits, axis=1),
            rpn_deltas=jnp.concatenate(deltas, axis=1),
            proposals=proposals.boxes,
            proposal_scores=proposals.scores,
            proposal_valid=proposals.valid,
        )
        return proposals, np.concatenate(anchors), stages

    def on_detections(self, function, valid, *arrays):
        """A tree of function(*arrays), all [B, D, ...]; where not `valid` [B, D], any values."""
        # Slots that are sharded over devices are worked on at once.
        if partition.is_split():
            return function(*arrays)
        return on_used_slots(function, valid, *arrays)

    def masks(self, pyramid, boxes, classes):
        """Mask logits [B, D, M, M] of boxes [B, D, 4] of classes [B, D], and their stages."""
        if self.config.point_rend.enabled:
            from maskrcnn_jax.models.point_rend.inference import subdivided_masks

            return subdivided_masks(self, pyramid, boxes, classes)
        features = self.pool(pyramid, boxes, self.config.mask_head.pool_size)
        logits = self.mask_head(features, classes, STORED_STATISTICS)
        stages = dict(mask_features=features, mask_logits=logits)
        if self.config.mask_scoring.enabled:
            stages["mask_ious"] = self.mask_iou_head(features, logits, classes)
        return logits, stages

    def pool(self, pyramid, boxes, size):
        """Features [B, N, size, size, C] of boxes [B, N, 4], each from the level of its size."""
        roi = self.config.roi
        # A box may lie anywhere in its image: devices that share one have all features, and each
        # has some of the boxes.
        levels = [partition.images(pyramid[name]) for name in POOLED_LEVELS]
        boxes = partition.rois(boxes)
        level = assign_levels(boxes, len(levels), roi.canonical_level, roi.canonical_size)
        if roi.pooling == "crop_and_resize":
            height, width = (STRIDES["p2"] * side for side in levels[0].shape[1:3])
            return multilevel_crop_and_resize(
                levels, boxes, level, (height, width), size, self.deterministic
            )
        scales = [1 / STRIDES[name] for name in POOLED_LEVELS]
        return multilevel_roi_align(
            levels, boxes, level, scales, size, roi.sampling_ratio, roi.aligned, self.deterministic
        )


def normalized(image: jax.Array, image_size: jax.Array, pixel: PixelConfig) -> jax.Array:
    """Returns the image as the network takes it: (image - mean) / std, one value outside its size.

    Args:
        image: [B, H, W, C] uint8 or uint16; RGB where C is 3.
        image_size: [B, 2] float32, valid height and width, pixels.
        pixel: `config.model.pixel`: order, mean, std, and what the padding is: a pixel of that mean
            (zero then) or a black one.

    Returns:
        [B, H, W, C] float32, channels in `pixel.order`.

    Raises:
        ValueError: where H or W is no multiple of 32, or C not the number of means.
    """
    height, width, channels = image.shape[1:]
    if channels != len(pixel.mean):
        raise ValueError(
            f"the images have {channels} channels and config.model.pixel.mean {len(pixel.mean)} "
            "values; give the model the images that it was made for (config.data.channels)"
        )
    if height % 32 or width % 32:
        raise ValueError(
            f"the image batch is {height}x{width}; height and width must be multiples of 32, which "
            "the backbone divides them by: pad the images (config.data.buckets)"
        )
    if pixel.order == "bgr":
        image = image[..., ::-1]
    mean, std = (np.asarray(values, np.float32) for values in (pixel.mean, pixel.std))
    inside = (np.arange(height)[:, None, None] < image_size[:, None, None, None, 0]) & (
        np.arange(width)[:, None] < image_size[:, None, None, None, 1]
    )
    outside = -mean / std if pixel.padding == "black" else np.float32(0)
    return jnp.where(inside, (image.astype(jnp.float32) - mean) / std, outside)
