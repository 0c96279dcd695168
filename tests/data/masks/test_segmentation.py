import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from maskrcnn_jax.data.masks.segmentation import (
    RLE,
    MaskFile,
    Polygons,
    rasterize_in_box,
    to_mask,
    to_rle,
)


def encoded(mask: np.ndarray) -> RLE:
    text = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    return RLE(mask.shape, text)


def polygon(*corners) -> Polygons:
    return Polygons([np.array(corners, np.float64)])


def star(rng, corners=24, radius=30.0, centre=(50.0, 40.0)) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    radii = radius * rng.uniform(0.5, 1, corners)
    return np.stack([np.cos(angles), np.sin(angles)], 1) * radii[:, None] + centre


def inside(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Whether points [..., 2] lie in a polygon, by counting the edges left of each."""
    x, y = points[..., 0], points[..., 1]
    odd = np.zeros(x.shape, bool)
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, 0), strict=True):
        if y1 != y2:
            between = (y1 > y) != (y2 > y)
            odd ^= between & (x < x1 + (y - y1) / (y2 - y1) * (x2 - x1))
    return odd


def test_pixel_mask_on_its_own_pixels_is_itself():
    mask = np.random.default_rng(0).random((12, 9)) < 0.5
    box = np.array([2, 3, 8, 9])
    grid = rasterize_in_box(encoded(mask), box, 12, 9, 6)
    np.testing.assert_array_equal(grid, mask[3:9, 2:8] * np.uint8(255))


def test_coverage_between_pixels_worked_by_hand():
    mask = np.zeros((4, 4), bool)
    mask[1, 1] = True  # the square [1, 2] x [1, 2]
    # Two cells of 1.5 pixels each way: the first reaches from 0.25 to 1.75, so 0.75 x 0.75 of its
    # 1.5 x 1.5 is covered; the second begins at 1.75 and has the last quarter.
    grid = rasterize_in_box(encoded(mask), np.array([0.25, 0.25, 3.25, 3.25]), 4, 4, 2)
    shares = np.array([0.75, 0.25]) / 1.5
    np.testing.assert_array_equal(grid, np.rint(255 * np.outer(shares, shares)))


@pytest.mark.parametrize("side", [7, 28, 112])
def test_pixel_mask_against_sums_over_pixels(side):
    rng = np.random.default_rng(side)
    for _ in range(10):
        mask = rng.random((40, 50)) < 0.5
        (x1, x2), (y1, y2) = np.sort(rng.uniform(-3, 53, 2)), np.sort(rng.uniform(-3, 43, 2))
        rows, columns = (
            np.clip(
                np.minimum(np.linspace(low, high, side + 1)[1:, None], np.arange(n) + 1)
                - np.maximum(np.linspace(low, high, side + 1)[:-1, None], np.arange(n)),
                0,
                None,
            )
            * (side / (high - low))
            for low, high, n in ((y1, y2, 40), (x1, x2, 50))
        )
        expected = 255 * (rows @ mask @ columns.T)
        box = np.array([x1, y1, x2, y2])
        grid = rasterize_in_box(encoded(mask), box, 40, 50, side)
        assert grid.dtype == np.uint8
        assert np.abs(grid - expected).max() <= 0.5 + 1e-6


def test_mask_file_and_runs_give_the_same(tmp_path):
    mask = np.random.default_rng(1).random((30, 40)) < 0.3
    Image.fromarray(mask.astype(np.uint8) * 255).save(tmp_path / "m.png")
    file = MaskFile(str(tmp_path / "m.png"))
    box = np.array([3.3, 4.4, 30.5, 28.7])
    np.testing.assert_array_equal(
        rasterize_in_box(file, box, 30, 40, 28), rasterize_in_box(encoded(mask), box, 30, 40, 28)
    )
    np.testing.assert_array_equal(to_mask(file, 30, 40), mask)
    assert to_rle(file, 30, 40)["counts"] == encoded(mask).counts
    with pytest.raises(ValueError, match=r"30 x 40 .* its image is 30 x 41"):
        to_mask(file, 30, 41)


def test_polygon_with_half_of_its_box():
    half = polygon((10, 10), (20, 10), (20, 40), (10, 40))
    grid = rasterize_in_box(half, np.array([10, 10, 30, 40]), 100, 100, 8)
    np.testing.assert_array_equal(grid, np.tile(np.repeat([255, 0], 4), (8, 1)))


@pytest.mark.parametrize(("side", "most"), [(28, 0.012), (56, 0.02), (112, 0.03)])
def test_polygon_against_counting_edges(side, most):
    rng = np.random.default_rng(side)
    corners = star(rng)
    box = np.concatenate([corners.min(0) + 0.3, corners.max(0) - 0.3])
    steps = (np.arange(side * 8) + 0.5) / (side * 8)
    x, y = np.meshgrid(box[0] + steps * (box[2] - box[0]), box[1] + steps * (box[3] - box[1]))
    fine = inside(np.stack([x, y], -1), corners)
    coverage = fine.reshape(side, 8, side, 8).mean((1, 3))
    grid = rasterize_in_box(polygon(*corners), box, 80, 100, side) / 255
    assert np.abs(grid - coverage).mean() < most
    assert abs(grid.mean() - coverage.mean()) < 0.003  # not grown, not shrunk


def test_small_grid_has_fractions_of_coverage():
    triangle = polygon((0, 0), (40, 0), (0, 40))
    grid = rasterize_in_box(triangle, np.array([0, 0, 40, 40]), 40, 40, 4)
    np.testing.assert_allclose(np.diag(np.fliplr(grid)), 127.5, atol=4)
    np.testing.assert_array_equal(np.tril(np.fliplr(grid), -1) + np.triu(grid[::-1], 1), 0)


def test_polygons_of_one_instance_are_united():
    parts = [
        np.array([(0, 0), (6, 0), (6, 10), (0, 10)], float),
        np.array([(4, 0), (10, 0), (10, 10), (4, 10)], float),
    ]
    grid = rasterize_in_box(Polygons(parts), np.array([0, 0, 10, 10]), 10, 10, 5)
    np.testing.assert_array_equal(grid, 255)


def test_polygon_far_larger_than_its_box_is_cut():
    huge = polygon((-1e7, -1e7), (1e7, -1e7), (1e7, 5.5), (5, 5.5), (-1e7, 5.5))
    grid = rasterize_in_box(huge, np.array([5, 5, 6, 6]), 100, 100, 4)
    np.testing.assert_array_equal(grid, np.repeat([255, 255, 0, 0], 4).reshape(4, 4))
    away = polygon((-1e7, -1e7), (-1e6, -1e7), (-1e6, 5.5))
    assert rasterize_in_box(away, np.array([5, 5, 6, 6]), 100, 100, 4).max() == 0


def test_cutting_changes_nothing_in_the_box():
    rng = np.random.default_rng(3)
    for _ in range(20):
        corners = star(rng, radius=60)
        box = np.array([45.0, 35.0, 52.0, 43.0])  # the star is ten times as wide
        steps = (np.arange(56) + 0.5) / 56
        x, y = np.meshgrid(45 + 7 * steps, 35 + 8 * steps)
        grid = rasterize_in_box(polygon(*corners), box, 200, 200, 56) / 255
        assert np.abs(grid - inside(np.stack([x, y], -1), corners)).mean() < 0.02


@pytest.mark.parametrize("box", [[5, 5, 5, 9], [5, 5, 4, 9], [np.nan, 0, 1, 1]])
def test_box_without_area_is_refused(box):
    with pytest.raises(ValueError, match="has no area"):
        rasterize_in_box(polygon((0, 0), (9, 0), (9, 9)), np.array(box), 10, 10, 28)
