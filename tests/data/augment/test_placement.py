"""Objects under every geometry, of every kind of mask, against supersampled warps and by hand."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from maskrcnn_jax.config import get_config
from maskrcnn_jax.data.augment.augmentation import turned_by_quarters
from maskrcnn_jax.data.augment.geometry import Geometry
from maskrcnn_jax.data.augment.placement import largest, pixel_mask, place_objects
from maskrcnn_jax.data.masks.segmentation import RLE, MaskFile, Polygons
from maskrcnn_jax.data.records import Instance, make_record

HEIGHT, WIDTH = 90, 120
FINE = 8  # samples along each side of a pixel
WHOLE = Geometry((0, 0, WIDTH, HEIGHT), (HEIGHT, WIDTH), (HEIGHT, WIDTH))
GEOMETRIES = {
    "flip": replace(WHOLE, flip_x=True),
    "vertical flip": replace(WHOLE, flip_y=True),
    "quarter turn": turned_by_quarters(replace(WHOLE, size=(160, 120), frame=(160, 120)), 1),
    "smaller": replace(WHOLE, size=(50, 71), frame=(50, 71)),
    "crop": replace(WHOLE, window=(31, 22, 97, 75), size=(106, 132), frame=(106, 132)),
    "jitter": replace(WHOLE, size=(150, 200), frame=(96, 128), offset=(33, 41)),
    "rotation": replace(WHOLE, angle=-12.5),
    "all": Geometry((11, 9, 118, 85), (130, 99), (101, 88), True, False, True, 24.0, (7, 13)),
}


@pytest.fixture
def data():
    data = get_config().data
    data.mask_size = 56
    return data


def blob(rng, centre) -> np.ndarray:
    """A polygon that is not convex."""
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radii = 17 + 6 * np.sin(3 * angles + rng.uniform(0, 6)) + 3 * np.sin(2 * angles)
    return np.stack([np.cos(angles), np.sin(angles)], 1) * radii[:, None] + centre


def shapes() -> list[Polygons]:
    rng = np.random.default_rng(0)
    centres = rng.uniform(28, (WIDTH - 28, HEIGHT - 28), (6, 2))
    parts = [blob(rng, centre) for centre in centres]
    return [Polygons([p]) for p in parts[:3]] + [Polygons(parts[3:5]), Polygons(parts[5:])]


def filled(polygons: Polygons, scale: int) -> np.ndarray:
    """The polygons filled at a multiple of the image's resolution, [h, w] uint8, 0 or 1."""
    canvas = np.zeros((HEIGHT * scale, WIDTH * scale), np.uint8)
    for part in polygons.parts:
        one = np.zeros_like(canvas)
        corners = np.rint((part * scale - 0.5) * 16).astype(np.int32)
        cv2.fillPoly(one, [corners], 1, shift=4)
        canvas |= one
    return canvas


def as_kind(kind: str, polygons: Polygons, path) -> tuple:
    """The mask stored in one of three ways, and its raster, FINE times as large as the image."""
    if kind == "polygons":
        return polygons, filled(polygons, FINE)
    mask = filled(polygons, 1)
    raster = mask.repeat(FINE, 0).repeat(FINE, 1)
    if kind == "file":
        Image.fromarray(mask * 255).save(path)
        return MaskFile(str(path)), raster
    return RLE(mask.shape, coco_mask.encode(np.asfortranarray(mask))["counts"]), raster


def box_of(raster: np.ndarray, scale: int = FINE) -> np.ndarray:
    rows, columns = np.flatnonzero(raster.any(1)), np.flatnonzero(raster.any(0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / scale


def record_of(objects: list[tuple], crowd: bool = False):
    """A record of (segmentation, box) pairs, all of class 1, 2, ... in their order."""
    instances = [Instance(box, i, crowd, mask, i, 1.0) for i, (mask, box) in enumerate(objects, 1)]
    return make_record(1, "x.png", HEIGHT, WIDTH, instances)


def warped(raster: np.ndarray, geometry: Geometry) -> np.ndarray:
    """The raster of a whole image as the frame shows it, looked up point by point, at FINE."""
    height, width = geometry.frame
    x, y = np.meshgrid(
        (np.arange(width * FINE) + 0.5) / FINE + geometry.offset[0],
        (np.arange(height * FINE) + 0.5) / FINE + geometry.offset[1],
    )
    height, width = geometry.size
    turn = np.deg2rad(-geometry.angle)
    x, y = x - width / 2, y - height / 2
    x, y = (
        x * np.cos(turn) - y * np.sin(turn) + width / 2,
        x * np.sin(turn) + y * np.cos(turn) + height / 2,
    )
    x, y = x / width, y / height  # of the turned window, 0 to 1
    x = 1 - x if geometry.flip_x else x
    y = 1 - y if geometry.flip_y else y
    x, y = (y, x) if geometry.transpose else (x, y)
    x1, y1, x2, y2 = geometry.window
    inside = (x >= 0) & (x < 1) & (y >= 0) & (y < 1)
    column = ((x1 + x * (x2 - x1)) * FINE).astype(int).clip(0, raster.shape[1] - 1)
    row = ((y1 + y * (y2 - y1)) * FINE).astype(int).clip(0, raster.shape[0] - 1)
    return inside & (raster[row, column] > 0)


def pasted(box: np.ndarray, grid: np.ndarray, geometry: Geometry) -> np.ndarray:
    """The grid inside its box, half covered or more, at FINE samples a pixel of the frame."""
    height, width = geometry.frame
    side = len(grid)
    cells = [
        ((np.arange(length * FINE) + 0.5) / FINE - low) / (high - low) * side
        for length, low, high in ((height, box[1], box[3]), (width, box[0], box[2]))
    ]
    rows, columns = (np.floor(c).astype(int) for c in cells)
    inside = np.outer((rows >= 0) & (rows < side), (columns >= 0) & (columns < side))
    return inside & (grid[rows.clip(0, side - 1)][:, columns.clip(0, side - 1)] > 127)


@pytest.mark.parametrize("kind", ["polygons", "runs", "file"])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_boxes_and_masks_are_those_of_the_warped_image(name, kind, data, tmp_path):
    geometry = GEOMETRIES[name]
    masks = [as_kind(kind, p, tmp_path / f"{i}.png") for i, p in enumerate(shapes())]
    boxes = [
        np.concatenate([np.concatenate(p.parts).min(0), np.concatenate(p.parts).max(0)])
        if kind == "polygons"
        else box_of(raster)
        for p, (_, raster) in zip(shapes(), masks, strict=True)
    ]
    record = record_of([(mask, box) for (mask, _), box in zip(masks, boxes, strict=True)])
    objects = place_objects(record, geometry, data)
    references = [warped(raster, geometry) for _, raster in masks]
    area = np.array([raster.sum() * geometry.area_scale for _, raster in masks])
    seen = np.array([reference.sum() for reference in references])
    sure = np.abs(seen / area - data.augment.min_visible) > 0.02  # that it is dropped or kept
    assert sure.all()
    np.testing.assert_array_equal(
        objects.indices, np.flatnonzero(seen >= data.augment.min_visible * area)
    )
    assert objects.masks.dtype == np.uint8
    assert objects.boxes.dtype == np.float32
    height, width = geometry.frame
    assert np.all((objects.boxes >= 0) & (objects.boxes <= [width, height, width, height]))
    for i, box, grid in zip(objects.indices, objects.boxes, objects.masks, strict=True):
        # Measured: 0.26 pixels, where a corner is sharper than the samples are dense.
        np.testing.assert_allclose(box, box_of(references[i]), atol=0.3)
        mask = pasted(box, grid, geometry)
        both, either = np.sum(mask & references[i]), np.sum(mask | references[i])
        assert both / either > 0.965  # measured: 0.969 to 0.988; cells are not interpolated


@pytest.mark.parametrize("kind", ["polygons", "runs", "file"])
@pytest.mark.parametrize("name", GEOMETRIES)
def test_pixels_of_the_frame_are_those_of_the_warped_image(name, kind, tmp_path):
    geometry = GEOMETRIES[name]
    for i, polygons in enumerate(shapes()):
        mask, raster = as_kind(kind, polygons, tmp_path / f"{i}.png")
        found = pixel_mask(mask, record_of([]), geometry)
        assert found.shape == geometry.frame
        height, width = geometry.frame
        share = warped(raster, geometry).reshape(height, FINE, width, FINE).mean((1, 3))
        both, either = np.sum(found * share), np.sum(np.maximum(found, share))
        assert both / either > 0.93  # measured: 0.933 at 330 pixels, 0.963 from 1,000 on


def test_all_kinds_of_masks_give_the_same_objects(data, tmp_path):
    """A rectangle of whole pixels is the same as polygon, run lengths and file."""
    corners = np.array([(20, 10), (70, 10), (70, 60), (20, 60)], float)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[10:60, 20:70] = 1
    Image.fromarray(mask * 255).save(tmp_path / "a.png")
    runs = RLE(mask.shape, coco_mask.encode(np.asfortranarray(mask))["counts"])
    kinds = [Polygons([corners]), runs, MaskFile(str(tmp_path / "a.png"))]
    record = record_of([(kind, (20, 10, 70, 60)) for kind in kinds])
    for geometry in GEOMETRIES.values():
        objects = place_objects(record, geometry, data)
        assert len(objects.indices) == 3
        for box, grid in zip(objects.boxes[1:], objects.masks[1:], strict=True):
            np.testing.assert_allclose(box, objects.boxes[0], atol=1e-4)
            assert np.abs(grid.astype(int) - objects.masks[0]).mean() < 2.5  # of 255


def test_a_cut_worked_by_hand(data):
    """A triangle cut by a crop: its box ends where its outline meets the border."""
    data.mask_size = 4
    triangle = Polygons([np.array([(10, 10), (50, 10), (10, 50)], float)])
    record = record_of([(triangle, (10, 10, 50, 50))])
    geometry = replace(WHOLE, window=(20, 0, 60, 40), size=(80, 80), frame=(80, 80))
    objects = place_objects(record, geometry, data)
    # A part of the image: from x = 20, where the slope is at y = 40, to (50, 10); all twice as
    # large.
    np.testing.assert_allclose(objects.boxes, [[0, 20, 60, 80]], atol=1e-4)
    upper_left = np.tri(4)[::-1]  # the slope halves the cells of its diagonal
    expected = 255 * (upper_left - np.fliplr(np.eye(4)) / 2)
    assert np.abs(objects.masks[0] - expected).max() <= 3


def test_too_little_of_an_object_is_not_kept(data):
    square = Polygons([np.array([(0, 0), (20, 0), (20, 20), (0, 20)], float)])
    record = record_of([(square, (0, 0, 20, 20))])
    for left, kept in ((17, True), (19, False)):  # 15 and 5 percent of it are to be seen
        geometry = replace(WHOLE, window=(left, 0, 100, 90), size=(90, 100), frame=(90, 100))
        assert len(place_objects(record, geometry, data).indices) == kept
        data.augment.min_visible = 0.0
        assert len(place_objects(record, geometry, data).indices) == 1
        data.augment.min_visible = 0.1
    gone = replace(WHOLE, window=(20, 0, 100, 90), size=(90, 100), frame=(90, 100))
    data.augment.min_visible = 0.0
    assert len(place_objects(record, gone, data).indices) == 0


def test_crowd_regions_stay_while_a_pixel_of_them_does(data):
    data.augment.min_visible = 1.0
    square = Polygons([np.array([(0, 0), (20, 0), (20, 20), (0, 20)], float)])
    record = record_of([(square, (0, 0, 20, 20))], crowd=True)
    for left, kept in ((19, 1), (20, 0)):
        geometry = replace(WHOLE, window=(left, 0, 100, 90), size=(90, 100), frame=(90, 100))
        assert len(place_objects(record, geometry, data).indices) == kept


def test_objects_smaller_than_a_pixel_go_unless_predictions_see_them_so_too(data):
    data.short_side, data.long_side, data.buckets = 96, 128, ((96, 128),)
    corners = np.array([(40, 40), (43, 40), (43, 43), (40, 43)], float)
    record = record_of([(Polygons([corners]), (40, 40, 43, 43))])
    smaller = replace(WHOLE, size=(24, 32), frame=(24, 32))  # 0.8 x 0.8 pixels
    assert len(place_objects(record, smaller, data).indices) == 0
    data.short_side, data.long_side, data.buckets = 24, 32, ((32, 32),)
    assert len(place_objects(record, smaller, data).indices) == 1


def test_an_object_outside_the_window_is_gone_whatever_the_angle(data):
    square = Polygons([np.array([(2, 2), (12, 2), (12, 12), (2, 12)], float)])
    record = record_of([(square, (2, 2, 12, 12))])
    for angle in (0.0, 40.0):
        geometry = replace(WHOLE, window=(60, 40, 110, 80), size=(40, 50), frame=(40, 50))
        objects = place_objects(record, replace(geometry, angle=angle), data)
        assert objects.boxes.shape == (0, 4)
        assert objects.masks.shape == (0, 56, 56)


def test_polygons_beyond_the_image_do_not_reach_into_empty_corners(data):
    """What an annotation says beyond the border is of no image, also where a rotation shows it."""
    beyond = Polygons([np.array([(-40, 30), (60, 30), (60, 60), (-40, 60)], float)])
    inside = Polygons([np.array([(0, 30), (60, 30), (60, 60), (0, 60)], float)])
    record = record_of([(mask, (0, 30, 60, 60)) for mask in (beyond, inside)])
    objects = place_objects(record, replace(WHOLE, angle=20.0), data)
    np.testing.assert_allclose(objects.boxes[0], objects.boxes[1], atol=1e-4)
    assert np.abs(objects.masks[0].astype(int) - objects.masks[1]).mean() < 1


def test_more_objects_than_slots_are_counted_after_the_cut(data):
    data.max_instances = 2
    corners = [(x, x, x + side, x + side) for x, side in ((0, 10), (30, 20), (52, 6), (70, 15))]
    squares = [
        (Polygons([np.array([(a, b), (c, b), (c, d), (a, d)], float)]), (a, b, c, d))
        for a, b, c, d in corners
    ]
    window = replace(WHOLE, window=(25, 25, 120, 90), size=(65, 95), frame=(65, 95))
    objects = place_objects(record_of(squares), window, data)
    np.testing.assert_array_equal(objects.indices, [1, 3])
    assert objects.num_cut == 1  # the first is not to be seen


def test_largest_breaks_ties_by_the_lower_index():
    boxes = np.array([[0, 0, 2, 2]] * 4, np.float32)
    np.testing.assert_array_equal(largest(boxes, 2), [0, 1])
    np.testing.assert_array_equal(largest(boxes, 4), [0, 1, 2, 3])
    assert len(largest(np.zeros((0, 4), np.float32), 2)) == 0
