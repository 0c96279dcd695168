"""From the box head's answers to the detections of an image (Fast R-CNN's post-processing)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from maskrcnn_jax.models.box_head import class_scores
from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.models.rpn import Proposals
from maskrcnn_jax.ops import boxes as box_ops
from maskrcnn_jax.ops.nms import top_detections


class Detections(NamedTuple):
    """The detector's result, best first.

    Attributes:
        boxes: [B, D, 4] float32, xyxy, input pixels.
        scores: [B, D] float32, 0..1.
        classes: [B, D] int32, 1..K; 0 in empty slots.
        masks: [B, D, 2S, 2S] float32, probabilities on a grid inside the box; None of a detector
            of boxes alone (`config.model.masks`).
        valid: [B, D] bool; the other slots hold zeros.
        keypoints: [B, D, P, 3] float32: x, y (input pixels) and score; None of a detector without
            (`config.model.keypoints`).
        mask_scores: [B, D] float32, 0..1, of the masks; None of a detector that does not score
            them apart (`config.model.mask_scoring`).
    """

    boxes: jax.Array | np.ndarray
    scores: jax.Array | np.ndarray
    classes: jax.Array | np.ndarray
    masks: jax.Array | np.ndarray | None
    valid: jax.Array | np.ndarray
    keypoints: jax.Array | np.ndarray | None = None
    mask_scores: jax.Array | np.ndarray | None = None


def detect(
    class_logits: jax.Array,
    box_deltas: jax.Array,
    proposals: Proposals,
    limits: jax.Array,
    config: ModelConfig,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Decodes, filters and suppresses the boxes of one image, each class by itself.

    A RoI can become several classes at once, or only the best one (`detections.classes`), and then
    nothing where the background is best.

    Args:
        class_logits: [N, K + 1] float32.
        box_deltas: [N, K + 1, 4] float32, or [N, 1, 4] where they are of all classes.
        proposals: of one image.
        limits: [2] float32, the largest y and x of a box, pixels.
        config: `config.model`.

    Returns:
        boxes [D, 4], scores [D], classes [D] and valid [D] as in `Detections`.
    """
    settings = config.detections
    scores = class_scores(class_logits, config.box_head)[:, 1:]
    weights = config.box_head.coder_weights
    if config.cascade.ious:
        weights = config.cascade.coder_weights[-1]
    foreground = box_deltas if config.box_head.class_agnostic else box_deltas[:, 1:]
    boxes = box_ops.decode(foreground, proposals.boxes[:, None], weights)
    boxes = box_ops.clip(boxes, limits[0], limits[1])
    if config.box_head.class_agnostic:
        boxes = jnp.broadcast_to(boxes, (*scores.shape, 4))
    candidate = (scores > settings.score_threshold) & proposals.valid[:, None]
    candidate &= box_ops.is_at_least(boxes, settings.min_size)
    if settings.classes == "best":
        best = class_logits.argmax(axis=1)
        candidate &= jnp.arange(1, scores.shape[1] + 1) == best[:, None]
    boxes, scores, column, _, valid = top_detections(
        boxes,
        jnp.where(candidate, scores, -jnp.inf),
        settings.nms_threshold,
        settings.max_per_image,
    )
    return (
        jnp.where(valid[:, None], boxes, 0.0),
        jnp.where(valid, scores, 0.0),
        jnp.where(valid, column + 1, 0),
        valid,
    )
