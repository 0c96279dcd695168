"""From the box head's answers to the detections of an image (Fast R-CNN's post-processing)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import FrozenConfigDict

from maskrcnn_jax.models.rpn import Proposals
from maskrcnn_jax.ops import boxes as box_ops
from maskrcnn_jax.ops.nms import top_detections


class Detections(NamedTuple):
    """The detector's result, best first.

    Attributes:
        boxes: [B, D, 4] float32, xyxy, input pixels.
        scores: [B, D] float32, 0..1.
        classes: [B, D] int32, 1..K; 0 in empty slots.
        masks: [B, D, 2S, 2S] float32, probabilities on a grid inside the box.
        valid: [B, D] bool; the other slots hold zeros.
    """

    boxes: jax.Array
    scores: jax.Array
    classes: jax.Array
    masks: jax.Array
    valid: jax.Array


def detect(
    class_logits: jax.Array,
    box_deltas: jax.Array,
    proposals: Proposals,
    image_size: jax.Array,
    config: FrozenConfigDict,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Decodes, filters and suppresses the boxes of one image, each class by itself.

    Args:
        class_logits: [N, K + 1] float32.
        box_deltas: [N, K + 1, 4] float32.
        proposals: of one image.
        image_size: [2] float32, valid height and width, pixels.
        config: `config.model`.

    Returns:
        boxes [D, 4], scores [D], classes [D] and valid [D] as in `Detections`.
    """
    limits = config.detections
    scores = jax.nn.softmax(class_logits)[:, 1:]
    boxes = box_ops.decode(
        box_deltas[:, 1:], proposals.boxes[:, None], config.box_head.coder_weights
    )
    boxes = box_ops.clip(boxes, image_size[0], image_size[1])
    candidate = (scores > limits.score_threshold) & proposals.valid[:, None]
    candidate &= box_ops.is_at_least(boxes, limits.min_size)
    boxes, scores, column, _, valid = top_detections(
        boxes,
        jnp.where(candidate, scores, -jnp.inf),
        limits.nms_threshold,
        limits.max_per_image,
    )
    return (
        jnp.where(valid[:, None], boxes, 0.0),
        jnp.where(valid, scores, 0.0),
        jnp.where(valid, column + 1, 0),
        valid,
    )
