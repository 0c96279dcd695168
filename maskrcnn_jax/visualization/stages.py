"""Pictures of what the network's stages do with one image.

All take `stages` as `MaskRCNN` returns them, as numpy arrays, and draw the image of number `index`
of the batch, at the resolution of the network's input.
"""

from collections.abc import Mapping
from dataclasses import asdict

import cv2
import jax.numpy as jnp
import numpy as np

from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.models.fpn import LEVELS
from maskrcnn_jax.ops.anchors import pyramid_anchors
from maskrcnn_jax.ops.boxes import iou
from maskrcnn_jax.ops.matching import match
from maskrcnn_jax.visualization.drawing import draw_boxes, enlarged, side_by_side
from maskrcnn_jax.visualization.style import color

Stages = Mapping[str, np.ndarray]
_GREEN, _RED, _WHITE = (0, 200, 0), (230, 30, 30), (255, 255, 255)


def inference_pictures(
    image: np.ndarray, stages: Stages, config: ModelConfig, index: int = 0, count: int = 50
) -> dict[str, np.ndarray]:
    """Draws the stages of a prediction.

    Args:
        image: `[H, W, C]` uint8 or uint16, the network's input.
        stages: of `MaskRCNN.predict`.
        config: `config.model`.
        index: of the image in the batch.
        count: anchors and proposals drawn, the best ones.

    Returns:
        Pictures `[h, w, 3]` uint8 RGB by name: `1_features` (mean activation of each level),
        `2_objectness` (best anchor of each cell), `3_anchors`, `4_proposals`, `5_masks` (the mask
        head's grids, best detection first).
    """
    image, scale = enlarged(image)
    logits = stages["rpn_logits"][index]
    best = np.argsort(-logits, kind="stable")[:count]
    proposals = stages["proposals"][index][stages["proposal_valid"][index]][:count]
    return {
        "1_features": features_picture(image, stages, index),
        "2_objectness": objectness_picture(image, stages, index),
        "3_anchors": _boxes_by_rank(image, _anchors(stages, config)[best] * scale),
        "4_proposals": _boxes_by_rank(image, proposals * scale),
        "5_masks": masks_picture(stages["mask_logits"][index][stages["detection_valid"][index]]),
    }


def training_pictures(
    batch: Mapping[str, np.ndarray], stages: Stages, config: ModelConfig, index: int = 0
) -> dict[str, np.ndarray]:
    """Draws what a training step makes of the truth: matched anchors and sampled RoIs.

    Args:
        batch: what `MaskRCNN.losses` was given.
        stages: what it returned.
        config: `config.model`.
        index: of the image in the batch.

    Returns:
        `matched_anchors` (all positive ones, green; of them some are sampled) and `sampled_rois`
        (positive ones green, negative ones red), `[h, w, 3]` uint8 RGB; true boxes are white.
    """
    image, scale = enlarged(batch["image"][index])
    gt_boxes, gt_valid = batch["gt_boxes"][index], batch["gt_valid"][index]
    anchors = _anchors(stages, config)
    overlap = iou(gt_boxes, jnp.asarray(anchors))
    _, anchor_labels = match(
        overlap,
        gt_valid,
        config.rpn.positive_iou,
        config.rpn.negative_iou,
        True,
    )
    matched = anchors[np.asarray(anchor_labels) == 1]
    valid, labels = stages["roi_valid"][index], stages["roi_labels"][index]
    rois = stages["rois"][index] * scale
    # Broad and below the others: the true boxes are among the sampled ones.
    image = draw_boxes(image, gt_boxes[gt_valid] * scale, _WHITE, 5)
    sampled = draw_boxes(image, rois[valid & (labels == 0)], _RED)
    return {
        "matched_anchors": draw_boxes(image, matched * scale, _GREEN),
        "sampled_rois": draw_boxes(sampled, rois[valid & (labels > 0)], _GREEN),
    }


def features_picture(image: np.ndarray, stages: Stages, index: int = 0) -> np.ndarray:
    """Shows the mean absolute activation of every pyramid level over the image."""
    maps = [np.abs(stages[name][index]).mean(axis=-1) for name in LEVELS]
    spread = [(m - m.min()) / max(float(np.ptp(m)), 1e-6) for m in maps]
    return side_by_side([_heat(image, values) for values in spread], LEVELS)


def objectness_picture(image: np.ndarray, stages: Stages, index: int = 0) -> np.ndarray:
    """Shows the RPN's probability of an object at each cell, the best of the cell's anchors."""
    shapes = [stages[name].shape[1:3] for name in LEVELS]
    logits = stages["rpn_logits"][index]
    per_cell = len(logits) // sum(h * w for h, w in shapes)
    ends = np.cumsum([h * w * per_cell for h, w in shapes])[:-1]
    maps = [
        1 / (1 + np.exp(-level.reshape(h, w, per_cell).max(axis=-1)))
        for level, (h, w) in zip(np.split(logits, ends), shapes, strict=True)
    ]
    titles = [f"{name}: best {values.max():.2f}" for name, values in zip(LEVELS, maps, strict=True)]
    return side_by_side([_heat(image, values) for values in maps], titles)


def masks_picture(mask_logits: np.ndarray, columns: int = 8, cell: int = 112) -> np.ndarray:
    """Shows mask grids `[D, m, m]` of logits, row by row, as grey levels of probability."""
    if not len(mask_logits):
        return np.zeros((cell, columns * cell, 3), np.uint8)
    tiles = []
    for logits in mask_logits[: columns * 4]:
        grey = (255 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.uint8)
        tiles.append(np.pad(cv2.resize(grey, (cell, cell), interpolation=cv2.INTER_NEAREST), 2))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[i : i + columns], axis=1) for i in range(0, len(tiles), columns)]
    return np.concatenate(rows)[..., None].repeat(3, axis=-1)


def _anchors(stages: Stages, config: ModelConfig) -> np.ndarray:
    shapes = [stages[name].shape[1:3] for name in LEVELS]
    return np.concatenate(
        pyramid_anchors(shapes, stages["image"].shape[1:3], **asdict(config.anchors))
    )


def _boxes_by_rank(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Draws boxes in colours of their own, the first ones last, on top."""
    for i in reversed(range(len(boxes))):
        image = draw_boxes(image, boxes[i : i + 1], color(i))
    return image


def _heat(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Lays a map of 0..1 over the greyed image, cell by cell."""
    height, width = image.shape[:2]
    heat = cv2.applyColorMap((255 * values).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    heat = cv2.resize(heat, (width, height), interpolation=cv2.INTER_NEAREST)
    grey = image.mean(axis=-1, keepdims=True)
    return (0.7 * heat + 0.3 * grey).astype(np.uint8)
