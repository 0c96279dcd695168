import numpy as np
import pytest

from maskrcnn_jax.data.formats import shapes
from maskrcnn_jax.data.masks.segmentation import to_mask


def masks_of(record) -> np.ndarray:
    """[n, size, size] uint8."""
    return np.stack([to_mask(s, record.height, record.width) for s in record.segmentations])


def test_an_image_is_a_function_of_seed_and_index():
    long, short = shapes.read(20, seed=5), shapes.read(10, seed=5)
    for a, b in zip(long.records[:10], short.records, strict=True):
        np.testing.assert_array_equal(a.boxes, b.boxes)
        np.testing.assert_array_equal(a.classes, b.classes)
        assert a.segmentations == b.segmentations
    order = np.random.default_rng(0).permutation(10)
    drawn = {int(i): short.read_image(short.records[i]) for i in order}
    for index, image in drawn.items():
        np.testing.assert_array_equal(image, long.read_image(long.records[index]))
    other = shapes.read(10, seed=6)
    assert not any(
        np.array_equal(a.boxes, b.boxes) for a, b in zip(short.records, other.records, strict=True)
    )


def test_masks_are_disjoint_visible_parts_and_boxes_tight():
    for record in shapes.read(60, seed=0).records:
        masks = masks_of(record)
        assert masks.sum(0).max() == 1
        assert len(record.classes) in range(1, 7)
        for mask, box, area in zip(masks, record.boxes, record.areas, strict=True):
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            assert box.tolist() == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            assert area == mask.sum()


def test_masks_are_where_the_colours_are():
    dataset = shapes.read(30, seed=1)
    for record in dataset.records:
        image = dataset.read_image(record).astype(float)
        spread = image.max(-1) - image.min(-1)  # vivid shapes on dull ground
        masks = masks_of(record).astype(bool)
        means = [image[mask].mean(0) for mask in masks]
        assert all(spread[mask].mean() > 60 for mask in masks)
        apart = [np.abs(a - b).sum() for i, a in enumerate(means) for b in means[:i]]
        assert min(apart, default=99) > 30


def test_shapes_are_what_their_classes_say():
    dataset = shapes.read(300, seed=2, max_objects=1)
    assert dataset.class_names == ("circle", "rectangle", "triangle")
    fill = {1: [], 2: [], 3: []}
    for record in dataset.records:
        x1, y1, x2, y2 = record.boxes[0]
        if x1 > 0 and y1 > 0 and x2 < 128 and y2 < 128:
            # Area over that of the circle about the middle that reaches as far as the shape.
            mask = to_mask(record.segmentations[0], 128, 128)
            corners = np.argwhere(mask)
            reach = np.linalg.norm(corners - corners.mean(0), axis=1).max() + 0.5
            fill[int(record.classes[0])].append(record.areas[0] / (np.pi * reach**2))
    assert min(fill[1]) > 0.88
    assert max(fill[2]) < 0.75  # a square has 2 / pi
    assert max(fill[3]) < 0.48  # an equilateral triangle has 0.41
    assert min(fill[2]) > 0.46
    assert min(map(len, fill.values())) > 20


def test_sizes_suit_the_image():
    records = shapes.read(200, seed=3).records
    boxes = np.concatenate([record.boxes for record in records])
    sides = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(1))
    assert np.mean(sides >= 20) > 0.99
    assert sides.max() < 70
    counts = np.bincount([len(record.classes) for record in records])
    assert np.all(counts[1:] > 10)
    assert len(counts) == 7
    larger = shapes.read(5, seed=3, size=256)
    assert larger.read_image(larger.records[0]).shape == (256, 256, 3)


@pytest.mark.parametrize(
    "changes", [dict(count=0), dict(seed=-1), dict(size=16), dict(max_objects=0)]
)
def test_arguments_out_of_range(changes):
    with pytest.raises(ValueError, match=f"{next(iter(changes))} is"):
        shapes.read(**dict(count=1, seed=0) | changes)
