import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.ops import masks

crop_targets = jax.jit(masks.crop_targets, static_argnames="size")


def _boxes(*rows):
    return jnp.array(rows, jnp.float32)


def test_the_own_box_gives_the_mask_itself():
    mask = np.random.default_rng(0).integers(0, 256, (1, 8, 8), dtype=np.uint8)
    box = _boxes([10, 20, 26, 60])
    # 16 target cells on 8 mask cells: the four samples of a target cell lie at quarters.
    target = crop_targets(mask, box, box, jnp.zeros(1, jnp.int32), size=8)
    padded = np.pad(mask[0] / 255, 1, mode="edge")
    kernel = np.array([0.125, 0.75, 0.125])  # of samples 1/4 left and right of a cell's centre
    blurred = sum(
        kernel[i] * kernel[j] * padded[i : i + 8, j : j + 8] for i in range(3) for j in range(3)
    )
    np.testing.assert_allclose(target[0], blurred, atol=1e-6)


def test_a_full_mask_has_sharp_sides_where_its_box_ends():
    full = jnp.full((1, 6, 6), 255, jnp.uint8)
    box = _boxes([4, 4, 8, 8])
    target = crop_targets(full, box, _boxes([2, 3, 10, 11]), jnp.zeros(1, jnp.int32), size=8)
    expected = np.zeros((8, 8))
    expected[1:5, 2:6] = 1  # one cell a pixel: rows 4..8 from 3, columns 4..8 from 2
    np.testing.assert_allclose(target[0], expected, atol=1e-6)


def test_rows_are_y_and_each_box_gets_its_own_object():
    gt_masks = np.zeros((3, 4, 4), np.uint8)
    gt_masks[1, :2] = 255  # the upper half
    gt_masks[2, :, 3:] = 255  # the right quarter
    gt_boxes = _boxes([0, 0, 1, 1], [10, 20, 18, 36], [0, 0, 40, 4])
    boxes = jnp.concatenate([gt_boxes[2:], gt_boxes[1:2], _boxes([10, 20, 14, 28])])
    target = crop_targets(gt_masks, gt_boxes, boxes, jnp.array([2, 1, 1]), size=16)
    assert target.dtype == jnp.float32
    target = np.asarray(target)
    np.testing.assert_allclose(target[0].mean(axis=0)[[0, 9, 14]], [0, 0, 1], atol=1e-6)
    np.testing.assert_allclose(target[1].mean(axis=1)[[0, 4, 11, 15]], [1, 1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(target[2][:12], 1, atol=1e-6)  # the upper left quarter of object 1


def test_outside_the_objects_box_is_zero():
    full = jnp.full((1, 4, 4), 255, jnp.uint8)
    away = _boxes([20, 0, 30, 10], [0, 20, 10, 30], [-9, -9, -1, -1])
    target = crop_targets(full, _boxes([0, 0, 10, 10]), away, jnp.zeros(3, jnp.int32), size=5)
    np.testing.assert_array_equal(target, 0)


@pytest.mark.parametrize("poison", [np.nan, np.inf, 1e30, 0.0])
def test_padding_is_finite_and_does_not_matter(poison):
    rng = np.random.default_rng(1)
    gt_masks = rng.integers(0, 256, (2, 8, 8), dtype=np.uint8)
    gt_boxes = np.array([[1, 2, 30, 40], [5, 5, 25, 35]], np.float32)
    boxes = np.array([[2, 2, 28, 41], [3, 3, 20, 20], [4, 4, 9, 9]], np.float32)
    clean = crop_targets(gt_masks, gt_boxes, boxes, jnp.array([0, 0, 0]), size=6)
    gt_boxes[1], boxes[2] = poison, poison
    target = crop_targets(gt_masks, gt_boxes, boxes, jnp.array([0, 1, 0]), size=6)
    assert np.isfinite(target).all()
    np.testing.assert_array_equal(target[0], clean[0])
    np.testing.assert_array_equal(target[1:], 0)


def _in_own_box(mask, grid):
    """The box of a binary image and the share of each of its grid's cells that is covered."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    inside = mask[box[1] : box[3], box[0] : box[2]].astype(float)
    for axis in (0, 1):
        total = np.cumsum(np.insert(inside, 0, 0, axis=axis), axis=axis)
        length = inside.shape[axis]
        edges = np.linspace(0, length, grid + 1)
        total = np.apply_along_axis(
            lambda t, e=edges: np.interp(e, np.arange(len(t)), t), axis, total
        )
        inside = np.diff(total, axis=axis) * grid / length
    return box, np.rint(inside * 255).astype(np.uint8)


def test_close_to_torchvisions_targets(ops_reference):
    """The true masks are only 20 to 35 pixels wide here, so edges may differ by part of a pixel."""
    gt = [_in_own_box(mask, 112) for mask in ops_reference["mask_target.gt_masks"]]
    gt_boxes, gt_masks = (np.stack(x) for x in zip(*gt, strict=True))
    boxes, matched = ops_reference["mask_target.boxes"], ops_reference["mask_target.matched"]
    expected = ops_reference["mask_target.out"]

    def difference(shift):
        gt = gt_boxes.astype(np.float32)
        target = crop_targets(gt_masks, gt, boxes + np.float32(shift), matched, size=28)
        return np.abs(target - expected).mean()

    # torchvision's pixel i lies at coordinate i, ours at i + 1/2.
    assert difference(0.5) < 0.01
    assert difference(0.0) < 0.05
    assert difference(0.5) < difference(0.0) / 3
