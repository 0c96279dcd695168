import numpy as np
import pytest

from maskrcnn_jax.ops import anchors
from tests.parity.reference import Reference

SIZES = (32.0, 64.0, 128.0, 256.0, 512.0)
RATIOS = (0.5, 1.0, 2.0)


def test_cell_anchors_by_hand():
    cell = anchors.cell_anchors([32.0], RATIOS, rounded=True)
    # 32 * sqrt(2) = 45.25, 32 / sqrt(2) = 22.63, halved and rounded; ratio is height / width.
    expected = [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]
    np.testing.assert_array_equal(cell, [expected])
    assert cell.dtype == np.float32


def test_unrounded_cell_anchors_keep_area_and_ratio():
    x1, y1, x2, y2 = np.moveaxis(anchors.cell_anchors(SIZES, RATIOS, rounded=False), -1, 0)
    area = np.array(SIZES)[:, None] ** 2
    np.testing.assert_allclose((x2 - x1) * (y2 - y1), np.tile(area, (1, 3)), rtol=1e-5)
    np.testing.assert_allclose((y2 - y1) / (x2 - x1), np.tile(RATIOS, (5, 1)), rtol=1e-5)


def test_order_is_row_column_ratio():
    (level,) = anchors.pyramid_anchors([(2, 3)], (8, 12), [4.0], [0.25, 1.0], rounded=False)
    grid = level.reshape(2, 3, 2, 4)
    np.testing.assert_array_equal(grid[0, 0, 1], [-2, -2, 2, 2])
    np.testing.assert_array_equal(grid[0, 0, 0], [-4, -1, 4, 1])
    np.testing.assert_array_equal(grid[1, 2] - grid[0, 0], [[8, 4, 8, 4]] * 2)


def test_stride_is_the_whole_quotient():
    (level,) = anchors.pyramid_anchors([(13, 21)], (800, 1344), [512.0], [1.0], rounded=True)
    np.testing.assert_array_equal(level[-1] - level[0], [20 * 64, 12 * 61, 20 * 64, 12 * 61])


@pytest.mark.parametrize("shape", [(800, 1344), (1024, 1024)])
def test_nominal_strides_against_numpy(shape):
    """As Detectron2 and matterport define anchors: cell (i, j) of a level at stride s times it."""
    strides = (4, 8, 16, 32, 64)
    level_shapes = [tuple(-(-side // s) for side in shape) for s in strides]
    ours = anchors.pyramid_anchors(level_shapes, shape, SIZES, RATIOS, False, "nominal")
    for stride, size, level_shape, level in zip(strides, SIZES, level_shapes, ours, strict=True):
        i, j, r = np.unravel_index(np.arange(len(level)), (*level_shape, len(RATIOS)))
        width, height = size / np.sqrt(RATIOS)[r], size * np.sqrt(RATIOS)[r]
        x, y = stride * j, stride * i
        expected = np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], -1)
        np.testing.assert_allclose(level, expected, rtol=1e-6, atol=1e-4)


def test_other_strides_are_refused():
    with pytest.raises(ValueError, match=r"'half'.*quotient or nominal"):
        anchors.pyramid_anchors([(2, 2)], (8, 8), [32.0], RATIOS, True, "half")


def test_levels_and_sizes_must_agree():
    with pytest.raises(ValueError, match="one size per level"):
        anchors.pyramid_anchors([(2, 2), (1, 1)], (8, 8), [32.0], RATIOS, rounded=True)


def test_cells_as_torchvision(ops_reference):
    ours = anchors.cell_anchors(SIZES, RATIOS, rounded=True)
    np.testing.assert_array_equal(ours, ops_reference["anchors.cell"])


@pytest.mark.parametrize("shape", [(800, 1344), (256, 320)])
def test_pyramid_as_torchvision(ops_reference, shape):
    name = f"anchors.{shape[0]}x{shape[1]}"
    grids = [tuple(grid) for grid in ops_reference[f"{name}.grid"]]
    levels = anchors.pyramid_anchors(grids, shape, SIZES, RATIOS, rounded=True)
    assert [len(level) for level in levels] == ops_reference[f"{name}.counts"].tolist()
    flat = np.concatenate(levels)
    assert flat.dtype == np.float32
    index = ops_reference[f"{name}.index"]
    np.testing.assert_array_equal(flat[index], ops_reference[f"{name}.sample"])
    np.testing.assert_array_equal(
        flat.sum(axis=0, dtype=np.float64), ops_reference[f"{name}.column_sums"]
    )


def test_unrounded_cells_as_detectron2(parity_dir):
    reference = Reference(parity_dir / "mrcnn_d2.npz")
    sizes = reference.meta.get("settings", {}).get("anchor_sizes", SIZES)
    ours = anchors.cell_anchors(sizes, RATIOS, rounded=False)
    np.testing.assert_allclose(ours, reference["anchors.cell"], rtol=1e-6)
