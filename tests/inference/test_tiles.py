"""Objects of tiles joined to those of the image, with a detector that sees all there is."""

from collections.abc import Sequence

import numpy as np
import pytest

from maskrcnn_jax.images.paste import MaskCrop
from maskrcnn_jax.images.tiles import tile_windows
from maskrcnn_jax.inference.result import Result
from maskrcnn_jax.inference.tiles import merge_tiles
from tests.inference.tiny_model import tiny_predictor


def _seen(masks: Sequence[np.ndarray], classes: Sequence[int], window: tuple) -> Result:
    """What a perfect detector finds in a tile: the visible part of every mask."""
    x1, y1, x2, y2 = window
    boxes, crops, scores, labels = [], [], [], []
    for mask, label in zip(masks, classes, strict=True):
        rows, columns = np.nonzero(mask[y1:y2, x1:x2])
        if len(rows) < 3:
            continue
        box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        part = mask[y1 + box[1] : y1 + box[3], x1 + box[0] : x1 + box[2]]
        boxes.append(box)
        crops.append(MaskCrop(part, int(box[1]), int(box[0])))
        scores.append(0.5 + len(rows) / mask.sum() / 2.1)
        labels.append(label)
    return Result(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.array(scores, np.float32),
        classes=np.array(labels, np.int32),
        class_names=tuple("ab"[label - 1] for label in labels),
        crops=tuple(crops),
        height=y2 - y1,
        width=x2 - x1,
    )


def _merged(masks, side, overlap, classes=None) -> Result:
    height, width = masks[0].shape
    windows = tile_windows(height, width, side, overlap)
    classes = classes or [1] * len(masks)
    found = merge_tiles([_seen(masks, classes, w) for w in windows], windows, height, width)
    assert (found.height, found.width) == (height, width)
    assert (np.diff(found.scores) <= 0).all()
    return found


def _as_set(masks) -> set[bytes]:
    return {np.packbits(mask).tobytes() for mask in masks}


def _disc(size, y, x, radius) -> np.ndarray:
    rows, columns = np.mgrid[: size[0], : size[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


@pytest.mark.parametrize("seed", range(5))
def test_every_object_of_a_crowded_image_is_found_once(seed):
    rng = np.random.default_rng(seed)
    discs, free = [], np.ones((150, 190), bool)
    for _ in range(120):
        disc = _disc(free.shape, rng.integers(150), rng.integers(190), rng.integers(4, 11))
        if not (disc & ~free).any():  # they may touch
            discs.append(disc)
            free &= ~disc
    assert len(discs) > 30
    found = _merged(discs, 64, 24)
    assert len(found) == len(discs)
    assert _as_set(found.masks) == _as_set(discs)


def test_an_object_that_every_tile_cuts_is_joined():
    bar = np.zeros((50, 200), bool)
    bar[20:26, 10:190] = True
    ell = np.zeros((50, 200), bool)
    ell[2:8, 3:120] = True
    found = _merged([bar, ell], 50, 12)
    assert _as_set(found.masks) == _as_set([bar, ell])
    assert sorted(map(tuple, found.boxes.tolist())) == [(3, 2, 120, 8), (10, 20, 190, 26)]


def test_other_classes_and_objects_of_one_tile_are_left_apart():
    disc = _disc((60, 100), 30, 50, 9)
    found = _merged([disc, disc], 60, 30, classes=[1, 2])
    assert sorted(found.class_names) == ["a", "b"]
    twice = _merged([disc, disc], 100, 30)  # one tile: what the network says stays
    assert len(twice) == 2


def test_without_objects():
    assert len(_merged([np.zeros((60, 100), bool)], 40, 10)) == 0


def test_the_predictor_gives_the_same_where_one_tile_is_the_image():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    predictor = tiny_predictor()
    whole, tiled = predictor(image), predictor(image, tile=64)
    np.testing.assert_array_equal(tiled.boxes, whole.boxes)
    np.testing.assert_array_equal(tiled.masks, whole.masks)
    assert tiled.source == whole.source
    large = np.tile(image, (2, 2, 1))
    found = predictor(large, tile=64, overlap=0)
    assert (found.height, found.width) == (128, 128)
    corner = found.chosen(np.flatnonzero((found.boxes[:, 2:] <= 62).all(1)))
    inside = whole.chosen(np.flatnonzero((whole.boxes[:, 2:] <= 62).all(1)))
    np.testing.assert_array_equal(corner.scores, inside.scores)
    assert predictor._steps[None]._cache_size() <= 2
    for wrong in ({"tile": 1}, {"tile": 64, "overlap": 1.0}, {"tile": 64, "overlap": -0.1}):
        with pytest.raises(ValueError, match=f"tile is {wrong['tile']}"):
            predictor(image, **wrong)
