"""Colours: each change worked by hand, all in one step, and only where switched on."""

import colorsys

import cv2
import numpy as np
import pytest

from maskrcnn_jax.config import get_config
from maskrcnn_jax.data.augment.colour import add_noise, change_colours, map_colours
from maskrcnn_jax.data.augment.random_streams import Streams

IMAGE = np.random.default_rng(0).integers(40, 200, (24, 32, 3), dtype=np.uint8)
GREY = IMAGE @ np.array([0.299, 0.587, 0.114])


@pytest.fixture
def augment():
    return get_config().data.augment


def test_nothing_is_switched_on_by_default(augment):
    assert change_colours(Streams(0, 0, 0), IMAGE, augment) is IMAGE


def test_brightness_is_a_factor():
    found = map_colours(IMAGE, brightness=1.2)
    assert found.dtype == np.uint8
    assert np.abs(found - IMAGE * 1.2).max() <= 0.6
    assert np.all(map_colours(IMAGE, brightness=10.0) == 255)


def test_contrast_is_about_the_mean_grey():
    expected = GREY.mean() + 0.7 * (IMAGE - GREY.mean())
    assert np.abs(map_colours(IMAGE, contrast=0.7) - expected).max() <= 0.6
    assert np.ptp(map_colours(IMAGE, contrast=0.0)) == 0


def test_saturation_is_about_the_grey_of_each_pixel():
    expected = GREY[..., None] + 0.5 * (IMAGE - GREY[..., None])
    assert np.abs(map_colours(IMAGE, saturation=0.5) - expected).max() <= 0.6
    grey = map_colours(IMAGE, saturation=0.0)
    assert np.abs(grey - GREY[..., None]).max() <= 0.6


def test_hues_turn_and_brightness_stays():
    turned = map_colours(IMAGE // 4 + 96, turn=0.1).astype(float)  # far from the ends of the range
    luma = np.array([0.299, 0.587, 0.114])
    assert np.abs(turned @ luma - (IMAGE // 4 + 96) @ luma).max() <= 0.6
    # Red, yellow, green, ...: the circle of YIQ has the order of that of HSV, at other distances.
    red = np.array([[[180, 100, 100]]], np.uint8)
    shares = np.arange(6) / 6
    hues = [colorsys.rgb_to_hsv(*map_colours(red, turn=t)[0, 0] / 255)[0] for t in shares]
    np.testing.assert_allclose(hues, [0, 0.16, 0.28, 0.5, 0.66, 0.78], atol=0.02)
    back = map_colours(map_colours(IMAGE // 4 + 96, turn=0.2), turn=-0.2)
    assert np.abs(back - (IMAGE // 4 + 96.0)).max() <= 2
    grey = np.full((2, 2, 3), 77, np.uint8)
    np.testing.assert_array_equal(map_colours(grey, turn=0.3), grey)


def test_all_changes_in_one_step_are_one_after_the_other():
    image = IMAGE // 4 + 96
    found = map_colours(image, 1.1, 0.8, 0.6, 0.05).astype(float)
    value = image * 1.1
    mean = (value @ np.array([0.299, 0.587, 0.114])).mean()
    value = mean + 0.8 * (value - mean)
    stepwise = map_colours(np.rint(value).astype(np.uint8), 1.0, 1.0, 0.6, 0.05)
    assert np.abs(found - stepwise).max() <= 2


def test_noise_has_its_deviation():
    image = np.full((200, 200, 3), 128, np.uint8)
    deviations = []
    for seed in range(30):
        noisy = add_noise(np.random.default_rng(seed), image, 20.0)
        assert noisy.dtype == np.uint8
        deviations.append(noisy.std())
    assert max(deviations) < 20.5
    assert max(deviations) > 17
    assert min(deviations) < 3
    black = add_noise(np.random.default_rng(0), image * 0, 200.0)
    assert black.min() == 0
    assert black.max() > 0


def test_blur_keeps_the_mean_and_takes_detail(augment):
    augment.blur = 1.0
    blurred = change_colours(Streams(0, 0, 0), IMAGE, augment)
    assert blurred.mean() == pytest.approx(IMAGE.mean(), abs=1)
    assert cv2.Laplacian(blurred, cv2.CV_64F).std() < 0.5 * cv2.Laplacian(IMAGE, cv2.CV_64F).std()


def test_probabilities_are_followed(augment):
    augment.grey = 0.3
    images = [change_colours(Streams(0, 0, i), IMAGE, augment) for i in range(200)]
    assert 40 < sum(np.ptp(image, axis=2).max() == 0 for image in images) < 80
    assert all(image is IMAGE or np.ptp(image, axis=2).max() == 0 for image in images)


KEYS = {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.1, "noise": 9.0}


@pytest.mark.parametrize("key", [*KEYS, "grey", "blur"])
def test_each_key_alone_changes_the_image_the_same_way_every_time(augment, key):
    setattr(augment, key, KEYS.get(key, 1.0))
    one, two = (change_colours(Streams(1, 2, 3), IMAGE, augment) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, IMAGE)
    other = change_colours(Streams(1, 3, 3), IMAGE, augment)
    assert np.array_equal(one, other) == (key == "grey")
