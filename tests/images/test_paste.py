"""Pasting masks: torchvision's values, one case by hand, and the edges of the image."""

import numpy as np
import pytest

from maskrcnn_jax.images.config import PASTE_RULES
from maskrcnn_jax.images.paste import full_mask, paste_crop, paste_mask
from tests.parity.reference import Reference

BOX = np.array([4.0, 4, 8, 8])


def test_paste_equals_torchvision(parity_dir):
    data = Reference(parity_dir / "ops.npz")
    height, width = data["paste.image_size"]
    pasted = [
        paste_mask(mask[0], box, height, width, "torchvision")
        for mask, box in zip(data["paste.masks"], data["paste.boxes"], strict=True)
    ]
    data.assert_close(np.array(pasted)[:, None], "paste.out")
    np.testing.assert_array_equal(np.array(pasted) > 0.5, data["paste.out"][:, 0] > 0.5)


@pytest.mark.parametrize("arch", ["v1", "v2"])
def test_thresholded_masks_equal_torchvision_to_the_pixel(parity_dir, arch):
    data = Reference(parity_dir / f"mrcnn_{arch}.npz")
    for i in range(len(data.meta["sizes"])):
        height, width = data[f"image.{i}"].shape[:2]
        probabilities = 1 / (1 + np.exp(-data[f"eval.mask_logits.{i}"]))
        masks = [
            full_mask(paste_crop(mask, box, height, width, rule="torchvision"), height, width)
            for mask, box in zip(probabilities, data[f"eval.boxes.{i}"], strict=True)
        ]
        expected = np.unpackbits(data[f"eval.pasted_bits.{i}"], axis=-1, count=width)
        np.testing.assert_array_equal(masks[:10], expected)
        np.testing.assert_array_equal(np.sum(masks, axis=(1, 2)), data[f"eval.pasted_area.{i}"])


def test_torchvisions_rule_by_hand():
    # The 2x2 grid becomes 4x4; the box doubles to (2, 2, 10, 10), that is 9x9 pixels. Pixel j of
    # them has its centre at cell (j + 0.5) * 4 / 9 - 0.5 of the 4x4 grid, which rises from 0 in
    # cell 0 to 1 in cell 1.
    pasted = paste_mask(np.ones((2, 2), np.float32), BOX, 12, 12, rule="torchvision")
    profile = np.clip((np.arange(9) + 0.5) * 4 / 9 - 0.5, 0, None)[:5]
    expected = np.minimum(np.concatenate([profile, profile[3::-1]]), 1)
    np.testing.assert_allclose(pasted[2:11, 6], expected, atol=1e-6)
    assert pasted[6, 6] == 1
    assert pasted[:2].sum() == pasted[11:].sum() == 0

    crop = paste_crop(np.ones((2, 2), np.float32), BOX, 12, 12, rule="torchvision")
    assert (crop.y, crop.x) == (2, 2)
    np.testing.assert_array_equal(crop.mask[:, 4], expected > 0.5)


def test_corners_are_truncated_towards_zero():
    # Grown by 30/28 about its centre, x runs from -0.9 to 7.9: int() makes 0 and 7, floor -1 and 7.
    box = np.array([3.5 - 4.4 * 28 / 30, 2, 3.5 + 4.4 * 28 / 30, 6])
    crop = paste_crop(np.ones((28, 28), np.float32), box, 10, 10, rule="torchvision")
    assert crop.x == 0
    assert crop.mask.shape[1] == 8


@pytest.mark.parametrize("threshold", [0.3, 0.5])
@pytest.mark.parametrize("rule", PASTE_RULES)
def test_crop_is_the_full_mask_where_the_box_is(threshold, rule):
    rng = np.random.default_rng(0)
    for _ in range(50):
        x, y = rng.uniform(-20, 60, 2)
        box = np.array([x, y, *(np.array([x, y]) + rng.uniform(0.1, 60, 2))])
        mask = rng.random((28, 28), np.float32)
        crop = paste_crop(mask, box, 40, 50, threshold, rule)
        np.testing.assert_array_equal(
            full_mask(crop, 40, 50), paste_mask(mask, box, 40, 50, rule) > threshold
        )
        assert crop.mask.shape[0] <= 40
        assert crop.mask.shape[1] <= 50


@pytest.mark.parametrize("rule", PASTE_RULES)
def test_box_outside_the_image_gives_an_empty_mask(rule):
    for box in ([60, 5, 80, 20], [5, -40, 20, -10]):
        crop = paste_crop(
            np.ones((28, 28), np.float32), np.array(box, np.float32), 40, 50, rule=rule
        )
        assert crop.mask.size == 0
        assert full_mask(crop, 40, 50).shape == (40, 50)


def test_exact_rule_puts_edges_where_the_box_has_them():
    # A mask that fills its box falls to one half at the box's edge: of the pixels there, those
    # whose centre lies inside belong to it.
    box = np.array([3.6, 2.4, 9.4, 7.6])
    crop = paste_crop(np.ones((28, 28), np.float32), box, 12, 12)
    expected = np.zeros((12, 12), bool)
    expected[2:8, 4:9] = True
    np.testing.assert_array_equal(full_mask(crop, 12, 12), expected)


def test_exact_rule_by_hand():
    # Cells of 2 pixels: pixel 5's centre, 5.5, lies a quarter cell before the centre of cell 1.
    grid = np.array([[0.2, 0.6], [0.2, 0.6]], np.float32)
    pasted = paste_mask(grid, np.array([3.0, 3, 7, 7]), 12, 12)
    row = pasted[5]
    np.testing.assert_allclose(row[3:7], [0.15, 0.3, 0.5, 0.45], atol=1e-6)
    np.testing.assert_allclose(row[[1, 2, 7, 8, 9]], [0, 0.05, 0.15, 0, 0], atol=1e-6)


@pytest.mark.parametrize("box", [[-9, -9, -4, -4], [60, 2, 70, 9], [5, 5, 5, 5], [-3, 30, 60, 50]])
def test_exact_rule_stays_inside_the_image(box):
    crop = paste_crop(np.ones((28, 28), np.float32), np.array(box), 40, 50)
    assert full_mask(crop, 40, 50).any() == (box[0] == -3)


def test_unknown_rule():
    with pytest.raises(ValueError, match="'sharp'; expected one of"):
        paste_mask(np.ones((2, 2)), np.array([0, 0, 4, 4]), 8, 8, rule="sharp")
