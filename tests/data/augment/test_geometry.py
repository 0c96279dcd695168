"""One mapping for pixels, points, boxes and grids: they stay together, and turn back exactly."""

from dataclasses import replace

import numpy as np
import pytest

from maskrcnn_jax.data.augment.augmentation import turned_by_quarters
from maskrcnn_jax.data.augment.geometry import (
    Geometry,
    map_boxes,
    map_pixels,
    map_points,
    turn_grids,
    visible_box,
    visible_region,
)
from maskrcnn_jax.images import sizes

HEIGHT, WIDTH = 20, 30
WHOLE = Geometry((0, 0, WIDTH, HEIGHT), (HEIGHT, WIDTH), (HEIGHT, WIDTH))
BOXES = np.array([[3, 4, 10, 16], [0, 0, 30, 20]], np.float32)


def at_own_size(geometry: Geometry) -> Geometry:
    return replace(geometry, size=geometry.turned_size, frame=geometry.turned_size)


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def mapped(geometry: Geometry, pixels, boxes, grids) -> tuple:
    return map_pixels(pixels, geometry), map_boxes(boxes, geometry), turn_grids(grids, geometry)


ALL_WAYS = [
    turned_by_quarters(replace(WHOLE, flip_x=flip_x, flip_y=flip_y), quarters)
    for flip_x in (False, True)
    for flip_y in (False, True)
    for quarters in range(4)
]


def test_a_flip_mirrors_image_boxes_and_grids():
    grids = np.random.default_rng(0).integers(0, 256, (2, 7, 7), dtype=np.uint8)
    image, boxes, flipped = mapped(replace(WHOLE, flip_x=True), picture(), BOXES, grids)
    np.testing.assert_array_equal(boxes, [[20, 4, 27, 16], [0, 0, 30, 20]])
    np.testing.assert_array_equal(image, picture()[:, ::-1])
    np.testing.assert_array_equal(flipped, grids[:, :, ::-1])


def test_a_quarter_turn_is_clockwise():
    geometry = at_own_size(turned_by_quarters(WHOLE, 1))
    grids = np.arange(98, dtype=np.uint8).reshape(2, 7, 7)
    image, boxes, turned = mapped(geometry, picture(), BOXES, grids)
    np.testing.assert_array_equal(image, np.rot90(picture(), -1))
    np.testing.assert_array_equal(boxes, [[4, 3, 16, 10], [0, 0, 20, 30]])
    np.testing.assert_array_equal(turned, np.rot90(grids, -1, (1, 2)))


@pytest.mark.parametrize("step", ["flip_x", "flip_y"])
def test_flipping_twice_changes_nothing(step):
    once = replace(WHOLE, **{step: True})
    grids = np.random.default_rng(0).integers(0, 256, (2, 7, 7), dtype=np.uint8)
    given = picture(), BOXES, grids
    for one, other in zip(mapped(once, *mapped(once, *given)), given, strict=True):
        np.testing.assert_array_equal(one, other)


def test_four_quarter_turns_change_nothing():
    assert turned_by_quarters(WHOLE, 4) == WHOLE
    grids = np.random.default_rng(0).integers(0, 256, (2, 7, 7), dtype=np.uint8)
    given = state = picture(), BOXES, grids
    for _ in range(4):
        height, width = state[0].shape[:2]
        geometry = Geometry((0, 0, width, height), (height, width), (height, width))
        state = mapped(at_own_size(turned_by_quarters(geometry, 1)), *state)
    for one, other in zip(state, given, strict=True):
        np.testing.assert_array_equal(one, other)


def test_flips_and_turns_are_eight_ways():
    ways = {(way.transpose, way.flip_x, way.flip_y) for way in ALL_WAYS}
    assert len(ways) == 8


@pytest.mark.parametrize("way", ALL_WAYS)
def test_boxes_and_points_go_with_the_pixels(way):
    geometry = replace(way, window=(5, 2, 29, 18))
    geometry = at_own_size(geometry)
    height, width = geometry.size
    geometry = replace(geometry, frame=(height - 3, width - 4), offset=(2, 1))
    for x, y in ((9, 6), (20, 12)):
        image = np.zeros((HEIGHT, WIDTH), np.uint8)
        image[y, x] = 255
        seen = map_pixels(image[2:18, 5:29], geometry)
        (row,), (column,) = np.nonzero(seen)
        box = map_boxes(np.array([[x, y, x + 1, y + 1]], np.float32), geometry)
        np.testing.assert_array_equal(box, [[column, row, column + 1, row + 1]])
        point = map_points(np.array([[x + 0.5, y + 0.5]]), geometry)
        np.testing.assert_allclose(point, [[column + 0.5, row + 0.5]], atol=1e-12)


def test_plain_resizing_is_that_of_predictions_to_the_bit():
    image, size = picture(), (51, 77)
    geometry = replace(WHOLE, size=size, frame=size, flip_x=True)
    flipped = np.ascontiguousarray(image[:, ::-1])
    np.testing.assert_array_equal(map_pixels(image, geometry), sizes.resize_image(flipped, size))
    x1, y1, x2, y2 = BOXES.T
    mirrored = np.stack([np.float32(WIDTH) - x2, y1, np.float32(WIDTH) - x1, y2], 1)
    np.testing.assert_array_equal(
        map_boxes(BOXES, geometry), sizes.resize_boxes(mirrored, (HEIGHT, WIDTH), size)
    )


def test_a_frame_cuts_and_pads():
    geometry = replace(WHOLE, frame=(10, 8), offset=(25, -4))
    seen = map_pixels(picture(), geometry, (1, 2, 3))
    expected = np.full((10, 8, 3), (1, 2, 3), np.uint8)
    expected[4:, :5] = picture()[:6, 25:]
    np.testing.assert_array_equal(seen, expected)
    np.testing.assert_array_equal(visible_box(geometry), [25, 0, 30, 6])


@pytest.mark.parametrize("way", ALL_WAYS[::3])
def test_what_is_visible_is_what_the_frame_shows(way):
    geometry = replace(way, size=(40, 40), frame=(13, 17), offset=(9, 11), window=(2, 1, 22, 19))
    box = visible_box(geometry)
    corners = np.sort(map_points(visible_region(geometry), geometry), 0)
    np.testing.assert_allclose(corners[[0, 3]], [[0, 0], [17, 13]], atol=1e-9)
    np.testing.assert_allclose(
        map_boxes(box[None].astype(np.float32), geometry), [[0, 0, 17, 13]], atol=1e-4
    )


@pytest.mark.parametrize("size", [(20, 30), (800, 1066), (333, 7)])
def test_a_frame_that_shows_all_shows_exactly_the_window(size):
    for way in ALL_WAYS:
        geometry = replace(way, size=size, frame=size, window=(3, 5, 29, 18))
        np.testing.assert_array_equal(visible_box(geometry), [3, 5, 29, 18])


def test_a_rotation_turns_about_the_centre_clockwise():
    geometry = replace(WHOLE, angle=90.0)
    points = np.array([[15.0, 10.0], [15.0, 5.0], [20.0, 10.0]])
    np.testing.assert_allclose(map_points(points, geometry), [[15, 10], [20, 10], [15, 15]])
    image = map_pixels(picture(), geometry, (9, 8, 7))
    np.testing.assert_array_equal(image[:, 5:25], np.rot90(picture()[:, 5:25], -1))
    assert np.all(image[:, [0, 4, 25, 29]] == (9, 8, 7))


def test_a_rotated_image_goes_with_its_points():
    image = np.zeros((90, 120), np.uint8)
    for x, y in ((40, 30), (70, 60)):
        image[y - 3 : y + 3, x - 3 : x + 3] = 255  # a square about the point (x, y)
    geometry = Geometry(
        (10, 5, 110, 85), (120, 100), (110, 90), True, True, False, angle=17.0, offset=(4, 6)
    )
    seen = map_pixels(image[5:85, 10:110], geometry)
    for point in map_points(np.array([[40.0, 30.0], [70.0, 60.0]]), geometry):
        columns, rows = np.meshgrid(np.arange(90), np.arange(110))
        near = np.hypot(columns + 0.5 - point[0], rows + 0.5 - point[1]) < 8
        weight = seen * near
        centre = [(weight * (axis + 0.5)).sum() / weight.sum() for axis in (columns, rows)]
        np.testing.assert_allclose(centre, point, atol=0.1)


def test_the_visible_region_of_a_rotation_ends_with_frame_and_window():
    geometry = replace(WHOLE, size=(40, 60), frame=(30, 60), angle=30.0)
    region = visible_region(geometry)
    assert np.all((region >= -1e-9) & (region <= np.add([WIDTH, HEIGHT], 1e-9)))
    seen = map_points(region, geometry)
    assert np.all((seen >= -1e-9) & (seen <= np.add([60, 30], 1e-9)))
    # Area by sampling the frame: those points that come from inside the window.
    x, y = np.meshgrid(np.arange(0.05, 60, 0.1), np.arange(0.05, 30, 0.1))
    back = np.linalg.inv(np.vstack([geometry.matrix, [0, 0, 1]]))[:2]
    x, y = (row[0] * x + row[1] * y + row[2] for row in back)
    area = np.count_nonzero((x > 0) & (x < WIDTH) & (y > 0) & (y < HEIGHT)) * 0.01
    (x1, y1), (x2, y2) = seen.T, np.roll(seen, -1, 0).T
    assert abs((x1 * y2 - x2 * y1).sum()) / 2 == pytest.approx(area, rel=0.002)


def test_a_frame_beside_the_image_shows_nothing():
    geometry = replace(WHOLE, angle=10.0, frame=(5, 5), offset=(200, 200))
    assert len(visible_region(geometry)) == 0
