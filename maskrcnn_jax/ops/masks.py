"""Training targets of the mask head, cut from masks that are kept inside their own boxes.

Each object's mask is a grid of M x M coverages (0..255) over its box, not an image: memory does not
grow with the image, and cutting out a target is two small matrix products.
"""

import jax
import jax.numpy as jnp
from jax import Array

_SAMPLES = 2  # bilinear samples per target cell and axis


def _sampling_matrix(start: Array, end: Array, grid_size: int, size: int) -> Array:
    """Weights by which `size` target cells average the cells of a grid, along one axis.

    Args:
        start: `[N]` float32, low side of each target in units of the grid's box (0..1 inside).
        end: `[N]` float32, its high side.

    Returns:
        `[N, size, grid_size]` float32; rows sum to the fraction of samples that lie in the grid's
        box.
    """
    fraction = (jnp.arange(size * _SAMPLES, dtype=jnp.float32) + 0.5) / (size * _SAMPLES)
    position = start[:, None] + fraction * (end - start)[:, None]
    weight = _weights(position, grid_size)
    return weight.reshape(-1, size, _SAMPLES, grid_size).mean(axis=2)


def _weights(position: Array, grid_size: int) -> Array:
    """Bilinear weights `[..., grid_size]` of the cells at positions along one axis, 0..1 inside."""
    inside = (position >= 0) & (position <= 1)
    # Cell i has its centre at i + 0.5. Beyond the outermost centres the mask continues unchanged up
    # to the box's edge, where it ends: a mask that fills its box keeps sharp sides.
    centre = jnp.clip(position * grid_size - 0.5, 0, grid_size - 1)
    distance = jnp.abs(centre[..., None] - jnp.arange(grid_size, dtype=jnp.float32))
    return jnp.where(inside[..., None], jnp.maximum(1 - distance, 0.0), 0.0)


def crop_targets(
    gt_masks: Array, gt_boxes: Array, boxes: Array, matched: Array, size: int
) -> Array:
    """Cuts the mask of each box's matched object out, at the resolution of the mask head.

    Each target cell is the mean of 2x2 bilinear samples, in continuous coordinates: as RoIAlign
    (`aligned=True`) of the full mask, at the resolution of the object's grid. torchvision 0.28
    pools the mask that it resized by nearest neighbour, with `aligned=False`. Where the image is
    not resized, the target then lies half a pixel off, as for `boxes + 0.5`; where it is, the two
    shifts mostly cancel, and the target is blockier.

    Args:
        gt_masks: `[G, M, M]` uint8, coverage 0..255 of each object inside its own box.
        gt_boxes: `[G, 4]` float32, xyxy, input pixels.
        boxes: `[N, 4]` float32, xyxy, input pixels.
        matched: `[N]` int32, index of each box's object.
        size: side of a target, cells (28).

    Returns:
        `[N, size, size]` float32 in 0..1, rows downward; 0 outside the object's box, and where
        that box has no area or one of the two is not finite.
    """
    grid_size = gt_masks.shape[-1]
    reference = gt_boxes[matched]
    sides = jnp.tile(reference[:, 2:] - reference[:, :2], 2)
    relative = (boxes - jnp.tile(reference[:, :2], 2)) / sides
    usable = (sides > 0).all(axis=-1) & jnp.isfinite(relative).all(axis=-1)
    relative = jnp.where(usable[:, None], relative, 0.0)
    x1, y1, x2, y2 = jnp.moveaxis(relative, -1, 0)
    rows = _sampling_matrix(y1, y2, grid_size, size)
    columns = _sampling_matrix(x1, x2, grid_size, size)
    masks = gt_masks[matched].astype(jnp.float32) / 255.0
    targets = jnp.einsum(
        "nym,nmk,nxk->nyx", rows, masks, columns, precision=jax.lax.Precision.HIGHEST
    )
    return jnp.where(usable[:, None, None], jnp.clip(targets, 0.0, 1.0), 0.0)


def point_targets(gt_masks: Array, gt_boxes: Array, points: Array, matched: Array) -> Array:
    """Returns the coverage of each box's matched object at points, bilinear on the object's grid.

    Args:
        gt_masks: `[G, M, M]` uint8, coverage 0..255 of each object inside its own box.
        gt_boxes: `[G, 4]` float32, xyxy, input pixels.
        points: `[N, P, 2]` float32, x and y, input pixels.
        matched: `[N]` int32, index of each box's object.

    Returns:
        `[N, P]` float32 in 0..1; 0 outside the object's box, and where that has no area.
    """
    reference = gt_boxes[matched][:, None]
    sides = reference[..., 2:] - reference[..., :2]
    relative = (points - reference[..., :2]) / sides
    usable = (sides > 0).all(axis=-1) & jnp.isfinite(relative).all(axis=-1)
    relative = jnp.where(usable[..., None], relative, -1.0)
    rows, columns = (_weights(relative[..., axis], gt_masks.shape[-1]) for axis in (1, 0))
    masks = gt_masks[matched].astype(jnp.float32) / 255.0
    targets = jnp.einsum(
        "npy,nyx,npx->np", rows, masks, columns, precision=jax.lax.Precision.HIGHEST
    )
    return jnp.clip(targets, 0.0, 1.0)
