"""Geometries drawn at random: they fit, follow their settings, and do not disturb each other."""

import itertools
from collections import Counter

import numpy as np
import pytest

from maskrcnn_jax.config import get_config
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.data.augment.augmentation import draw_geometry, plain_geometry
from maskrcnn_jax.data.augment.random_streams import Streams
from maskrcnn_jax.images.sizes import bucket_of_size

WINDOW = (0, 0, 640, 480)


@pytest.fixture
def data():
    return get_config().data


def drawn(data, window=WINDOW, count: int = 300) -> list:
    x1, y1, x2, y2 = window
    bucket = data.buckets[bucket_of_size(y2 - y1, x2 - x1, data)]
    return [draw_geometry(Streams(0, 0, i), window, bucket, data) for i in range(count)]


def test_defaults_only_flip(data):
    plain = plain_geometry(WINDOW, (800, 1088), data)
    assert (plain.size, plain.frame) == ((800, 1066), (800, 1066))
    geometries = drawn(data)
    flips = [np.random.default_rng([0, 0, i]).random() < 0.5 for i in range(300)]
    assert [geometry.flip_x for geometry in geometries] == flips
    assert 120 < sum(flips) < 180
    assert {(g.size, g.frame, g.transpose, g.flip_y, g.angle, g.offset) for g in geometries} == {
        ((800, 1066), (800, 1066), False, False, 0.0, (0, 0))
    }


def test_probabilities_are_followed(data):
    data.augment.flip, data.augment.vertical_flip = 0.0, 0.25
    assert 45 < sum(geometry.flip_y for geometry in drawn(data)) < 105
    data.augment.vertical_flip, data.augment.quarter_turns = 0.0, 1.0
    ways = Counter((g.transpose, g.flip_x, g.flip_y) for g in drawn(data))
    # 90, 180 and 270 degrees; no turn is left as it was, and none is mirrored.
    assert set(ways) == {(True, True, False), (False, True, True), (True, False, True)}
    assert min(ways.values()) > 70


@pytest.mark.parametrize("resize", ["short_side", "square"])
def test_every_result_fits_the_bucket_of_the_image(data, resize):
    data.short_side, data.long_side, data.resize = 64, 96, resize
    data.buckets = ((64, 96), (96, 64))
    augment = data.augment
    augment.quarter_turns = augment.crop = 0.5
    augment.crop_range = (0.05, 1.0)
    for scale_range, rotate in itertools.product([(), (0.1, 2.0)], [0.0, 30.0]):
        augment.scale_range, augment.rotate = scale_range, rotate
        for size in ((48, 64), (64, 48), (100, 17), (17, 100), (1, 1), (300, 300)):
            bucket = data.buckets[bucket_of_size(*size, data)]
            for geometry in drawn(data, (0, 0, size[1], size[0]), 40):
                assert 1 <= geometry.frame[0] <= bucket[0]
                assert 1 <= geometry.frame[1] <= bucket[1]
                x1, y1, x2, y2 = geometry.window
                assert 0 <= x1 < x2 <= size[1]
                assert 0 <= y1 < y2 <= size[0]
                assert geometry.offset[0] + geometry.frame[1] <= geometry.size[1]
                assert geometry.offset[1] + geometry.frame[0] <= geometry.size[0]


def test_a_turned_image_fills_its_bucket_as_far_as_it_can(data):
    data.augment.quarter_turns = 1.0
    sizes = {g.transpose: g.size for g in drawn(data)}
    assert sizes == {False: (800, 1066), True: (800, 600)}


def test_short_sides(data):
    data.augment.short_sides = (640, 720, 800)
    sizes = Counter(geometry.size for geometry in drawn(data))
    assert set(sizes) == {(640, 853), (720, 960), (800, 1066)}
    assert min(sizes.values()) > 70
    data.augment.short_sides, data.augment.short_side_range = (), (640, 642)
    assert {geometry.size[0] for geometry in drawn(data)} == {640, 641, 642}
    # The long side has the limit that it has without.
    assert max(g.size[1] for g in drawn(data, (0, 0, 3000, 480))) <= 1333


def test_large_scale_jitter(data):
    data.augment.scale_range = (0.1, 2.0)
    geometries = drawn(data, count=1000)
    # Scale 1 fills the bucket of 800 x 1088: 800 rows.
    scales = np.array([geometry.size[0] / 800 for geometry in geometries])
    assert scales.min() < 0.12
    assert scales.max() > 1.98
    assert abs(scales.mean() - 1.05) < 0.06
    for geometry in geometries:
        height, width = geometry.size
        assert geometry.frame == (min(height, 800), min(width, 1088))
        assert abs(width / height - 4 / 3) < 0.02
    # Where some are cut, each place is as likely as another.
    places = [g.offset[1] / (g.size[0] - 800) for g in geometries if g.size[0] > 900]
    assert abs(np.mean(places) - 0.5) < 0.05
    assert min(places) < 0.02
    assert max(places) > 0.98


def test_a_crop_is_a_part_somewhere_in_the_window(data):
    data.augment.crop, data.augment.crop_range = 1.0, (0.3, 0.6)
    window = (100, 50, 500, 350)
    parts = np.array([geometry.window for geometry in drawn(data, window)])
    shares = (parts[:, 2:] - parts[:, :2]) / (400, 300)
    assert shares.min() >= 0.29
    assert shares.max() <= 0.61
    assert np.all(parts[:, :2] >= window[:2])
    assert np.all(parts[:, 2:] <= window[2:])
    assert np.ptp(parts[:, 0]) > 200
    assert abs(np.corrcoef(shares.T)[0, 1]) < 0.2
    data.augment.crop = 0.0
    assert {geometry.window for geometry in drawn(data, window)} == {window}


def test_angles_lie_within_their_limit(data):
    data.augment.rotate = 10.0
    angles = np.array([geometry.angle for geometry in drawn(data)])
    assert np.abs(angles).max() <= 10
    assert angles.min() < -9
    assert angles.max() > 9
    expected = [Streams(0, 0, i).of("rotate").uniform(-10, 10) for i in range(300)]
    np.testing.assert_array_equal(angles, expected)


SWITCHES = {
    "flip": 0.7,
    "vertical_flip": 0.5,
    "quarter_turns": 0.5,
    "rotate": 10.0,
    "crop": 0.5,
    "short_side_range": (600, 800),
}


@pytest.mark.parametrize("switch", SWITCHES)
def test_switching_one_on_leaves_what_the_others_draw(data, switch):
    for key, value in SWITCHES.items():
        setattr(data.augment, key, value)
    if switch != "quarter_turns":  # they turn what a flip does
        data.augment.quarter_turns = 0.0
    before = drawn(data, count=60)
    setattr(data.augment, switch, () if switch == "short_side_range" else 0.0)
    after = drawn(data, count=60)
    assert before != after
    touched = {
        "flip": {"flip_x"},
        "vertical_flip": {"flip_y"},
        "quarter_turns": {"transpose", "flip_x", "flip_y", "size", "frame"},
        "rotate": {"angle"},
        "crop": {"window", "size", "frame"},
        "short_side_range": {"size", "frame"},
    }
    names = {"window", "size", "frame", "transpose", "flip_x", "flip_y", "angle", "offset"}
    for one, other in zip(before, after, strict=True):
        changed = {name for name in names if getattr(one, name) != getattr(other, name)}
        assert changed <= touched[switch]


def test_the_defaults_are_fine(data):
    data.validate()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"flip": -0.1}, r"augment\.flip is -0\.1; expected within"),
        ({"flip": float("nan")}, r"augment\.flip is nan"),
        ({"copy_paste": 1.5}, r"augment\.copy_paste is 1\.5"),
        ({"min_visible": 2.0}, r"augment\.min_visible is 2\.0"),
        ({"hue": 0.6}, r"augment\.hue is 0\.6; expected within"),
        ({"rotate": 181.0}, r"augment\.rotate is 181\.0; expected within"),
        ({"noise": 300.0}, r"augment\.noise is 300"),
        ({"scale_range": (2.0, 0.1)}, r"scale_range is \(2\.0, 0\.1\); expected two .*, or \(\)"),
        ({"scale_range": (0.0, 1.0)}, r"scale_range is \(0\.0, 1\.0\)"),
        ({"scale_range": (1.0,)}, r"scale_range is \(1\.0,\)"),
        ({"scale_range": ("a", "b")}, r"scale_range is \('a', 'b'\)"),
        ({"crop_range": ()}, r"crop_range is \(\); expected two numbers"),
        ({"crop_range": (0.5, 1.5)}, r"crop_range is \(0\.5, 1\.5\); .* to 1$"),
        ({"blur_range": (0.0, 1.0)}, r"blur_range is \(0\.0, 1\.0\)"),
        ({"fill": (1, 2), "rotate": 9.0}, r"fill is \(1, 2\); expected 3 numbers, one for each"),
        ({"fill": (1, 2, 256), "rotate": 9.0}, r"fill is \(1, 2, 256\)"),
        ({"short_sides": (0,)}, r"short_sides is \(0,\); expected within"),
        ({"short_sides": (640, 900)}, r"up to 900, above config\.data\.short_side = 800"),
        ({"short_side_range": (640, 900)}, r"up to 900, above config\.data\.short_side = 800"),
        (
            {"short_sides": (640,), "scale_range": (0.5, 1.0)},
            r"short_sides and config\.data\.augment\.scale_range are set; .* choose one",
        ),
        ({"tile": -1}, r"tile is -1"),
        ({"tile": 64, "tile_overlap": 64}, r"tile_overlap is 64; .* less than .*tile = 64"),
        ({"tile_overlap": -1}, r"tile_overlap is -1"),
    ],
)
def test_senseless_settings_are_refused(data, changes, message):
    set_values(data.augment, changes)
    with pytest.raises(ValueError, match=message):
        data.validate()


def test_short_sides_belong_to_their_way_of_resizing(data):
    data.resize, data.augment.short_sides = "square", (640,)
    with pytest.raises(ValueError, match=r"is set, but config\.data\.resize is 'square'"):
        data.validate()
    data.augment.short_sides, data.augment.scale_range = (), (0.5, 2.0)
    data.validate()
