"""Masks by PointRend's adaptive subdivision (Kirillov et al. 2020, 3.1), with static shapes.

    coarse mask -> all points of 28 x 28 -> twice the side -> its 784 least certain points -> ...

Each step doubles the mask by interpolation, and predicts again what is least certain, the outline.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import flax.linen as nn
import jax
import jax.numpy as jnp

from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.models.fpn import STRIDES
from maskrcnn_jax.models.point_rend.head import CoarseHead, PointHead, PointRendHead
from maskrcnn_jax.models.point_rend.sampling import (
    all_cells,
    doubled,
    first_size,
    uncertain_cells,
)
from maskrcnn_jax.ops import points as point_ops
from maskrcnn_jax.parallel import partition

if TYPE_CHECKING:
    from maskrcnn_jax.models.mask_rcnn import MaskRCNN, Stages

LEVEL = "p2"  # the level that both heads are given
_SCALE = 1 / STRIDES[LEVEL]


def make_head(
    config: ModelConfig,
    num_classes: int,
    part: Callable[[type[nn.Module]], type[nn.Module]],
    dtype: jnp.dtype,
) -> PointRendHead:
    """Returns the heads that `config.model.point_rend` describes.

    Args:
        config: `config.model`.
        num_classes: K.
        part: takes a kind of module, to compute it again in the backward pass, say.
        dtype: of convolutions and dense layers.
    """
    settings = config.point_rend
    return PointRendHead(
        partial(
            part(CoarseHead),
            num_classes=num_classes,
            size=settings.coarse_size,
            layers=settings.dense_layers,
            channels=settings.dense_channels,
            dtype=dtype,
        ),
        partial(
            part(PointHead),
            num_classes=num_classes,
            layers=settings.point_layers,
            channels=settings.point_channels,
            dtype=dtype,
        ),
    )


def subdivided_masks(
    model: "MaskRCNN", pyramid: dict[str, jax.Array], boxes: jax.Array, classes: jax.Array
) -> tuple[jax.Array, "Stages"]:
    """Predicts the masks of detections.

    Args:
        model: the detector, bound to its variables.
        pyramid: its features.
        boxes: [B, D, 4] float32, in the network's coordinates.
        classes: [B, D] int32, 1..K.

    Returns:
        Logits [B, D, M, M] float32, M of `PointRendConfig.mask_size`; and the stages: mask_features
        [B, D, S, S, C], coarse_logits [B, D, s, s, K], mask_logits, and for each side m from the
        first one on mask_logits_m [B, D, m, m] and from the second one on mask_points_m
        [B, D, P, 2], the x and y, 0..1 over the box, of the points predicted there.
    """
    settings = model.config.point_rend
    features, coarse = coarse_masks(model, pyramid, boxes)
    size, steps = first_size(settings)
    points = jnp.broadcast_to(all_cells(size), (*boxes.shape[:2], size**2, 2))
    logits = point_logits(model, pyramid, boxes, classes, coarse, points)
    logits = logits.reshape(*boxes.shape[:2], size, size)
    stages = {"mask_features": features, "coarse_logits": coarse, f"mask_logits_{size}": logits}
    choose = partition.per_image(partial(uncertain_cells, number=settings.subdivision_points))
    for _ in range(steps):
        logits = doubled(logits)
        cells, points = choose(logits)
        found = point_logits(model, pyramid, boxes, classes, coarse, points)
        logits = partition.per_image(_put)(logits, cells, found)
        size = logits.shape[-1]
        stages |= {f"mask_logits_{size}": logits, f"mask_points_{size}": points}
    return logits, stages | {"mask_logits": logits}


def coarse_masks(
    model: "MaskRCNN", pyramid: dict[str, jax.Array], boxes: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns features [B, N, S, S, C] and coarse masks [B, N, s, s, K] of boxes [B, N, 4]."""
    level = partition.images(pyramid[LEVEL])
    boxes = partition.rois(boxes) + model.corner
    size = model.config.point_rend.pool_size
    features = point_ops.sample_box_grid(level, boxes, _SCALE, size, model.deterministic)
    return features, model.mask_head.coarse_masks(features)


def point_logits(
    model: "MaskRCNN",
    pyramid: dict[str, jax.Array],
    boxes: jax.Array,
    classes: jax.Array,
    coarse: jax.Array,
    points: jax.Array,
) -> jax.Array:
    """Returns the logits of boxes' classes at points.

    Args:
        model: the detector, bound to its variables.
        pyramid: its features.
        boxes: [B, N, 4] float32, in the network's coordinates.
        classes: [B, N] int32, 1..K.
        coarse: [B, N, s, s, K] float32, coarse masks of the boxes.
        points: [B, N, P, 2] float32, x and y, 0..1 over the box.

    Returns:
        [B, N, P] float32.
    """
    level = partition.images(pyramid[LEVEL])
    boxes, points = partition.rois(boxes), partition.rois(points)
    places = point_ops.in_image(points, boxes + model.corner)
    features = point_ops.sample_features(level, places, _SCALE, model.deterministic)
    return model.mask_head.point_logits(features, point_ops.sample_grid(coarse, points), classes)


def _put(logits: jax.Array, cells: jax.Array, found: jax.Array) -> jax.Array:
    """Puts the logits [N, P] of some cells [N, P] into masks [N, M, M]."""
    flat = logits.reshape(len(logits), -1)
    return jnp.put_along_axis(flat, cells, found, axis=1, inplace=False).reshape(logits.shape)
