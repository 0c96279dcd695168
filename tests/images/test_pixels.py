"""What the configuration asks of images."""

import numpy as np
import pytest

from maskrcnn_jax.images.config import ImageConfig, image_config
from maskrcnn_jax.images.pixels import RGB8, PixelFormat, pixel_format


def test_the_default_is_rgb_of_8_bits():
    assert pixel_format(ImageConfig()) == RGB8 == (3, 8, None)
    assert pixel_format(image_config({})) == RGB8  # of a run from before there were these keys
    assert (RGB8.dtype, PixelFormat(5, 16).dtype) == (np.uint8, np.uint16)


def test_percentiles_are_asked_for_where_the_configuration_says_so():
    assert pixel_format(ImageConfig(normalize="percentile")).percentiles == (1.0, 99.8)
    assert pixel_format(ImageConfig(percentiles=(1.0, 99.0))).percentiles is None
    with pytest.raises(ValueError, match=r"percentiles is .*the first must be below"):
        ImageConfig(percentiles=(99.0, 1.0)).validate()


def test_prediction_takes_its_keys_of_the_data_section():
    found = image_config({"short_side": 64, "format": "coco", "train": {"root": "x"}})
    assert found == ImageConfig(short_side=64)
