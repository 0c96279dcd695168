"""What a mask loses on its M x M grid: full-size masks of COCO against what the grid gives back.

On all of COCO's images, `python -m pytest -s --datasets=DIR` with `IMAGES` = 1000 prints the table
of `docs/augmentation.md`.
"""

import itertools

import numpy as np
import pytest

from maskrcnn_jax.config import get_config
from maskrcnn_jax.data.augment.geometry import Geometry
from maskrcnn_jax.data.augment.placement import pixel_mask, place_objects
from maskrcnn_jax.data.formats import coco
from maskrcnn_jax.images.paste import paste_mask

IMAGES = 45  # at most about so many are taken
SIDES = (0, 16, 32, 96, np.inf)  # pixels: of a square of an object's area


@pytest.fixture(scope="module")
def records(coco_dir):
    found = [
        record
        for split in ("train2017", "val2017")
        for record in coco.read(
            coco_dir / split, coco_dir / "annotations" / f"instances_{split}.json"
        ).records
    ]
    return found[:: -(-len(found) // IMAGES)]


def losses(records, mask_size: int, angle: float, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """The side in pixels and the IoU of every object, crowds left out."""
    data = get_config().data
    data.mask_size, data.max_instances = mask_size, 1000
    sides, ious = [], []
    for record in records:
        size = round(record.height * scale), round(record.width * scale)
        geometry = Geometry((0, 0, record.width, record.height), size, size, angle=angle)
        objects = place_objects(record, geometry, data)
        for i, box, grid in zip(objects.indices, objects.boxes, objects.masks, strict=True):
            mask = pixel_mask(record.segmentations[i], record, geometry) > 0
            if not record.crowd[i] and mask.any():
                back = paste_mask(grid.astype(np.float32) / 255, box, *size) > 0.5
                sides.append(np.sqrt(mask.sum()))
                ious.append(np.sum(mask & back) / np.sum(mask | back))
    return np.array(sides), np.array(ious)


# Bounds for objects above 32 pixels; measured on all images: 0.007, 0.007, 0.009 and 0.018.
@pytest.mark.parametrize(
    ("mask_size", "angle", "scale", "most"),
    [
        (112, 0.0, 1.0, 0.02),
        (112, 15.0, 1.0, 0.02),
        (56, 0.0, 1.0, 0.02),
        (28, 0.0, 1.0, 0.02),
    ],
)
def test_the_grid_loses_little(records, mask_size, angle, scale, most):
    sides, ious = losses(records, mask_size, angle, scale)
    row = [f"M = {mask_size}, {angle:g} degrees, scale {scale:g}:"]
    for low, high in itertools.pairwise(SIDES):
        some = ious[(sides >= low) & (sides < high)]
        row.append(f"{low}-{high} px: {some.mean():.4f} ({len(some)})")
    large = ious[sides > 32]
    print(*row, f"above 32: {large.mean():.4f}, 5 % are below {np.quantile(large, 0.05):.4f}")
    assert len(large) > 100
    assert large.mean() >= 1 - most
