"""From the channels that a file has to those that are wanted."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maskrcnn_jax.images.channels import Kind, as_wanted, brightness, check_kind, fitted, in_fours
from maskrcnn_jax.images.pixels import PixelFormat

RNG = np.random.default_rng(0)


def picture(channels: int, dtype=np.uint8, height: int = 12, width: int = 17) -> np.ndarray:
    return RNG.integers(0, np.iinfo(dtype).max + 1, (height, width, channels)).astype(dtype)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        (Kind(5, 0, 16), (5, 16)),
        (Kind(5, 0, 16), (5, 8)),
        (Kind(1, 1, 8), (3, 8)),
        (Kind(3, 3, 8), (1, 8)),
        (Kind(4, 3, 16), (3, 16)),
        (Kind(4, 3, 8), (4, 8)),
        (Kind(2, 1, 8), (1, 8)),
    ],
)
def test_what_can_be_had_of_a_file(kind, wanted):
    check_kind(kind, PixelFormat(*wanted), "a.tif")


@pytest.mark.parametrize(
    ("kind", "wanted", "message"),
    [
        (
            Kind(3, 3, 8),
            (3, 16),
            r"a\.tif has 8 bits per value, config\.data\.depth is 16: set .* to 8",
        ),
        (Kind(3, 3, 8), (4, 8), r"a\.tif has 3 channels, config\.data\.channels is 4: set .* to 3"),
        (Kind(5, 0, 16), (3, 16), r"has 5 channels, config\.data\.channels is 3"),
        (
            Kind(3, 0, 16),
            (1, 16),
            r"has 3 channels, config\.data\.channels is 1",
        ),  # of another sense
        (Kind(1, 1, 8), (2, 8), r"has 1 channels, config\.data\.channels is 2"),
    ],
)
def test_what_cannot_be_had_is_refused(kind, wanted, message):
    with pytest.raises(ValueError, match=message):
        check_kind(kind, PixelFormat(*wanted), "a.tif")


def test_channels_by_hand():
    rgba = np.array([[[10, 20, 30, 99]]], np.uint8)
    grey = np.array([[[7, 99]]], np.uint8)
    assert fitted(rgba, 3, PixelFormat(3)).tolist() == [[[10, 20, 30]]]
    assert fitted(rgba, 3, PixelFormat(4)) is rgba
    assert fitted(grey, 1, PixelFormat(3)).tolist() == [[[7, 7, 7]]]
    assert fitted(grey, 1, PixelFormat(1)).tolist() == [[[7]]]
    # 0.299 * 10 + 0.587 * 20 + 0.114 * 30 = 18.15
    assert fitted(rgba, 3, PixelFormat(1)).tolist() == [[[18]]]
    deep = np.array([[[0x1234, 0xFFFF]]], np.uint16)
    assert fitted(deep, 0, PixelFormat(2, 16)) is deep
    assert fitted(deep, 0, PixelFormat(2, 8)).tolist() == [[[0x12, 0xFF]]]


def test_brightness_is_pillows_and_keeps_grey():
    image = picture(3)
    expected = np.asarray(Image.fromarray(image).convert("L"))
    np.testing.assert_array_equal(brightness(image)[..., 0], expected)
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    np.testing.assert_array_equal(brightness(np.repeat(every, 3, 2)), every)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 9, 200])
def test_opencv_gets_any_number_of_channels(channels):
    image, values = picture(channels), np.arange(channels)
    calls = []

    def half(part: np.ndarray, own: np.ndarray) -> np.ndarray:
        calls.append(own.tolist())
        return cv2.resize(part, (8, 6))

    found = in_fours(half, image, values)
    assert found.shape == (6, 8, channels)
    assert np.concatenate(calls).tolist() == values.tolist()
    assert max(map(len, calls)) <= 4
    for c in range(channels):
        alone = cv2.resize(np.ascontiguousarray(image[..., c]), (8, 6))
        np.testing.assert_array_equal(found[..., c], alone)
    assert in_fours(lambda part: part[:2], image[..., 0]).shape == (2, 17)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("depth", "percentiles"), [(8, (1.0, 99.8)), (16, (0.0, 100.0))])
def test_percentiles_become_the_whole_range_of_each_channel(dtype, depth, percentiles):
    rng = np.random.default_rng(0)
    pixels = rng.normal((60, 90, 120), (5, 12, 30), (40, 50, 3)).clip(0, 255).astype(dtype)
    wanted = PixelFormat(3, depth, percentiles)
    found = as_wanted(lambda form: fitted(pixels, 3, form), 8 * pixels.itemsize, wanted)
    limits = np.percentile(pixels, percentiles, (0, 1), method="inverted_cdf")
    most = 2**depth - 1
    parts = (pixels.astype(float) - limits[0]) / (limits[1] - limits[0])
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, np.round(most * parts.clip(0, 1)))
    assert found.min((0, 1)).tolist() == [0, 0, 0]
    assert found.max((0, 1)).tolist() == [most] * 3


def test_a_channel_of_one_value_is_stretched_to_nothing():
    same = np.full((4, 4, 1), 7, np.uint16)
    wanted = PixelFormat(1, 8, (1.0, 99.8))
    assert as_wanted(lambda form: fitted(same, 1, form), 16, wanted).max() == 0


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 65535), min_size=4, max_size=4),
    st.sampled_from([np.uint8, np.uint16]),
    st.tuples(st.floats(0, 49), st.floats(51, 100)),
    st.sampled_from([8, 16]),
)
def test_any_range_is_stretched_in_order(values, dtype, percentiles, depth):
    """Whatever the values: the lowest becomes 0, and none changes places with another."""
    pixels = np.array(values).astype(dtype).reshape(2, 2, 1)
    wanted = PixelFormat(1, depth, percentiles)
    found = as_wanted(lambda form: fitted(pixels, 1, form), 8 * pixels.itemsize, wanted)
    order = np.argsort(pixels.ravel(), kind="stable")
    assert np.all(np.diff(found.ravel()[order].astype(int)) >= 0)
    assert found.min() == 0
    whole = wanted._replace(percentiles=(0.0, 100.0))
    found = as_wanted(lambda form: fitted(pixels, 1, form), 8 * pixels.itemsize, whole)
    assert found.max() == (2**depth - 1 if len(set(pixels.ravel())) > 1 else 0)
