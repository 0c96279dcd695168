"""Pictures of what the network's stages do with one image.

All take `stages` as `MaskRCNN` returns them, as numpy arrays, and draw the image of number `index`
of the batch, at the resolution of the network's input.
"""

from collections.abc import Mapping
from dataclasses import asdict
from itertools import pairwise

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.models.fpn import LEVELS
from maskrcnn_jax.models.targets import AnchorTargets, anchor_targets, ground_truth
from maskrcnn_jax.ops.anchors import pyramid_anchors
from maskrcnn_jax.ops.matching import IGNORED, NEGATIVE, POSITIVE
from maskrcnn_jax.visualization.drawing import draw_boxes, enlarged, side_by_side
from maskrcnn_jax.visualization.style import color

Stages = Mapping[str, np.ndarray]
_GREEN, _RED, _WHITE = (0, 200, 0), (230, 30, 30), (255, 255, 255)
_YELLOW, _BLUE = (250, 210, 0), (40, 60, 120)
_DASH = 6  # pixels


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
        head's grids, best detection first; not of a model of boxes alone). Of a cascade also
        `4_proposals_2` and so on: the same proposals as the further heads are given them. Of
        PointRend also `5_points`: the grids with the points of the last subdivision in red. Of a
        keypoint head also `6_keypoints`: the heatmaps of the best detection.
    """
    image, scale = enlarged(image)
    logits = stages["rpn_logits"][index]
    best = np.argsort(-logits, kind="stable")[:count]
    proposals = stages["proposals"][index][stages["proposal_valid"][index]][:count]
    return {
        "1_features": features_picture(image, stages, index),
        "2_objectness": objectness_picture(image, stages, index),
        "3_anchors": _boxes_by_rank(image, anchor_boxes(stages, config)[best] * scale),
        "4_proposals": _boxes_by_rank(image, proposals * scale),
        **_refined(image, stages, scale, index, count),
        **_masks(stages, index),
        **_keypoints(stages, index),
    }


def training_pictures(
    batch: Mapping[str, np.ndarray],
    stages: Stages,
    config: ModelConfig,
    rng: jax.Array,
    index: int = 0,
) -> dict[str, np.ndarray]:
    """Draws what a training step makes of the truth: labelled anchors and sampled RoIs.

    Args:
        batch: what `MaskRCNN.losses` was given.
        stages: what it returned.
        config: `config.model`.
        rng: what it was given.
        index: of the image in the batch.

    Returns:
        Pictures `[h, w, 3]` uint8 RGB by name: `anchor_labels` (cells of each level: green where
        an anchor is positive, yellow where one is neutral and none positive), `matched_anchors`
        (all positive ones), `sampled_anchors` and `sampled_rois` (positive ones green, negative
        ones red). True boxes are white.
    """
    plain, scale = enlarged(batch["image"][index])
    anchors = anchor_boxes(stages, config)
    targets = _anchor_targets(batch, anchors, config, rng, index)
    label, sampled = np.asarray(targets.label), np.asarray(targets.sampled)
    valid, labels = stages["roi_valid"][index], stages["roi_labels"][index]
    rois, gt_boxes = stages["rois"][index], batch["gt_boxes"][index][batch["gt_valid"][index]]
    # Broad and below the others: the true boxes are among the sampled ones.
    image = draw_boxes(plain, gt_boxes * scale, _WHITE, 5)
    return {
        "anchor_labels": _labels_picture(plain, gt_boxes * scale, label, stages),
        "matched_anchors": draw_boxes(image, anchors[label == POSITIVE] * scale, _GREEN),
        "sampled_anchors": _two_kinds(image, anchors * scale, sampled, label == POSITIVE),
        "sampled_rois": _two_kinds(image, rois * scale, valid, labels > 0),
    }


def refinement_picture(image: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Draws n boxes `[n, 4]` dashed as they were, and solid in the same colour as they became."""
    picture = image.copy()
    for i in reversed(range(len(before))):
        paint = color(i)
        _draw_dashed(picture, before[i], paint)
        for corner in (slice(0, 2), slice(2, 4)):
            start, end = (
                tuple(np.rint(b[i][corner]).astype(int).tolist()) for b in (before, after)
            )
            cv2.line(picture, start, end, paint, 1, cv2.LINE_AA)
        picture = draw_boxes(picture, after[i : i + 1], paint)
    return picture


def features_picture(image: np.ndarray, stages: Stages, index: int = 0) -> np.ndarray:
    """Shows the mean absolute activation of every pyramid level over the image."""
    maps = [np.abs(stages[name][index]).mean(axis=-1) for name in LEVELS]
    spread = [(m - m.min()) / max(float(np.ptp(m)), 1e-6) for m in maps]
    return side_by_side([_heat(image, values) for values in spread], LEVELS)


def objectness_picture(image: np.ndarray, stages: Stages, index: int = 0) -> np.ndarray:
    """Shows the RPN's probability of an object at each cell, the best of the cell's anchors."""
    levels = _by_cell(stages["rpn_logits"][index], stages)
    maps = [1 / (1 + np.exp(-level.max(axis=-1))) for level in levels]
    titles = [f"{name}: best {values.max():.2f}" for name, values in zip(LEVELS, maps, strict=True)]
    return side_by_side([_heat(image, values) for values in maps], titles)


def _refined(image, stages: Stages, scale: float, index: int, count: int) -> dict[str, np.ndarray]:
    """Draws the proposals as a cascade's further heads are given them."""
    shown = stages["proposal_valid"][index]
    return {
        f"4_{name}": _boxes_by_rank(image, boxes[index][shown][:count] * scale)
        for name, boxes in stages.items()
        if name.startswith("proposals_")
    }


def _masks(stages: Stages, index: int) -> dict[str, np.ndarray]:
    """Draws the masks, and where PointRend has looked last."""
    if "mask_logits" not in stages:
        return {}
    shown = stages["detection_valid"][index]
    logits = stages["mask_logits"][index][shown]
    found = {"5_masks": masks_picture(logits)}
    points = stages.get(f"mask_points_{logits.shape[-1]}")
    if points is not None:
        found["5_points"] = masks_picture(logits, points[index][shown])
    return found


def _keypoints(stages: Stages, index: int) -> dict[str, np.ndarray]:
    """Draws the heatmaps of the best detection."""
    valid = stages["detection_valid"][index]
    if "keypoint_logits" not in stages or not valid.any():
        return {}
    return {"6_keypoints": heatmaps_picture(stages["keypoint_logits"][index][valid][0])}


def masks_picture(
    mask_logits: np.ndarray,
    points: np.ndarray | None = None,
    columns: int = 8,
    cell: int = 112,
) -> np.ndarray:
    """Shows mask grids, row by row, as grey levels of probability.

    Args:
        mask_logits: `[D, m, m]`.
        points: `[D, P, 2]`, x and y, 0..1 over the grid, to be drawn in red.
        columns: grids of a row.
        cell: side of a grid in the picture, pixels.

    Returns:
        `[h, w, 3]` uint8 RGB.
    """
    if not len(mask_logits):
        return np.zeros((cell, columns * cell, 3), np.uint8)
    tiles = []
    for i, logits in enumerate(mask_logits[: columns * 4]):
        tile = _tile(255 / (1 + np.exp(-logits.astype(np.float64))), cell)
        if points is not None:
            x, y = (points[i] * cell).astype(int).T
            tile[y, x] = _RED
        tiles.append(tile)
    return _grid(tiles, columns)


def heatmaps_picture(logits: np.ndarray, columns: int = 9, cell: int = 112) -> np.ndarray:
    """Shows heatmaps, row by row: each one's probability, its largest white.

    Args:
        logits: `[P, S, S]`, of one object.
        columns: heatmaps in a row.
        cell: side of each in the picture, pixels.

    Returns:
        `[h, w, 3]` uint8 RGB.
    """
    maps = logits.astype(np.float64)
    return _grid([_tile(255 * np.exp(heatmap - heatmap.max()), cell) for heatmap in maps], columns)


def _tile(grey: np.ndarray, side: int) -> np.ndarray:
    """Returns a grid of levels 0 to 255 as a square picture."""
    tile = cv2.resize(grey.astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST)
    return tile[..., None].repeat(3, axis=-1)


def _grid(tiles: list[np.ndarray], columns: int) -> np.ndarray:
    """Joins pictures of one size, row by row, with a black line around each."""
    tiles = [np.pad(tile, ((2, 2), (2, 2), (0, 0))) for tile in tiles]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[i : i + columns], axis=1) for i in range(0, len(tiles), columns)]
    return np.concatenate(rows)


def _anchor_targets(batch, anchors, config, rng, index) -> AnchorTargets:
    """Returns what `MaskRCNN.losses` makes of one image's anchors, with the same random key."""
    corner = np.array([0, 0, 1, 1], np.float32) * (config.corners == "inclusive")
    truth = jax.tree.map(lambda values: values[index], ground_truth(batch, corner))
    key = jax.random.split(rng, (2, len(batch["image"])))[0, index]
    return anchor_targets(key, jnp.asarray(anchors - corner), truth, config)


def _labels_picture(
    image: np.ndarray, gt_boxes: np.ndarray, label: np.ndarray, stages: Stages
) -> np.ndarray:
    """Tints the cells of every level by the labels of their anchors."""
    pictures, titles = [], []
    for name, level in zip(LEVELS, _by_cell(label, stages), strict=True):
        positive = (level == POSITIVE).any(-1, keepdims=True)
        neutral = (level == IGNORED).any(-1, keepdims=True)
        cells = np.where(positive, _GREEN, np.where(neutral, _YELLOW, _BLUE)).astype(np.uint8)
        size = image.shape[1::-1]
        tint = cv2.resize(cells, size, interpolation=cv2.INTER_NEAREST)
        tinted = (0.5 * image + 0.5 * tint).astype(np.uint8)
        pictures.append(draw_boxes(tinted, gt_boxes, _WHITE))
        counts = [np.count_nonzero(level == kind) for kind in (POSITIVE, NEGATIVE, IGNORED)]
        titles.append("{}: {:,} positive, {:,} negative, {:,} neutral".format(name, *counts))
    return side_by_side(pictures, titles)


def _two_kinds(image, boxes, shown, positive) -> np.ndarray:
    """Draws boxes, negative ones red and positive ones green."""
    negative = draw_boxes(image, boxes[shown & ~positive], _RED)
    return draw_boxes(negative, boxes[shown & positive], _GREEN)


def _by_cell(values: np.ndarray, stages: Stages) -> list[np.ndarray]:
    """Splits one value for each anchor `[A]` into levels `[h, w, R]`."""
    shapes = [stages[name].shape[1:3] for name in LEVELS]
    per_cell = len(values) // sum(h * w for h, w in shapes)
    ends = np.cumsum([h * w * per_cell for h, w in shapes])[:-1]
    levels = zip(np.split(values, ends), shapes, strict=True)
    return [level.reshape(h, w, per_cell) for level, (h, w) in levels]


def _draw_dashed(picture: np.ndarray, box: np.ndarray, paint: tuple[int, int, int]) -> None:
    x1, y1, x2, y2 = (float(v) for v in box)
    corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]
    for start, end in pairwise(np.array(corners)):
        length = float(np.abs(end - start).sum())
        for at in np.arange(0, length, 2 * _DASH):
            piece = [start + (end - start) * min(t / length, 1) for t in (at, at + _DASH)]
            first, last = (tuple(np.rint(point).astype(int).tolist()) for point in piece)
            cv2.line(picture, first, last, paint, 1, cv2.LINE_AA)


def anchor_boxes(stages: Stages, config: ModelConfig) -> np.ndarray:
    """Returns the anchors `[A, 4]` of all levels, in the order of `rpn_logits`."""
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
