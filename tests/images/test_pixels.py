"""What the configuration asks of images, and whether the model takes them."""

import numpy as np
import pytest

from maskrcnn_jax.config import get_config
from maskrcnn_jax.images.pixels import RGB8, PixelFormat, check_channels, pixel_format


def test_the_default_is_rgb_of_8_bits():
    config = get_config()
    assert pixel_format(config.data) == RGB8 == (3, 8)
    assert pixel_format({}) == RGB8  # of a run from before there were these keys
    check_channels(config)
    assert (RGB8.dtype, PixelFormat(5, 16).dtype) == (np.uint8, np.uint16)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.channels": 0}, r"data\.channels is 0; expected 1 \(grey\), 3"),
        ({"data.depth": 12}, r"data\.depth is 12; expected 8 or 16"),
        ({"model.pixel.mean": (3e3,) * 3}, r"data\.depth = 8 no value .* above 255: set .* to 16"),
        ({"data.channels": 5}, r"mean has 3 values and .*std 3; data\.channels = 5 .*\.data stats"),
        ({"model.pixel.std": (1.0,)}, r"mean has 3 values and model\.pixel\.std 1"),
        ({"model.pixel.std": (1.0, 0.0, 2.0)}, r"std is .* above 0: give 1 for a channel"),
        (
            {
                "data.channels": 1,
                "model.pixel.mean": (9.0,),
                "model.pixel.std": (1.0,),
                "model.pixel.order": "bgr",
            },
            r"order is 'bgr', of images with 3 channels",
        ),
    ],
)
def test_what_does_not_fit_is_told_with_the_way_out(changes, message):
    config = get_config()
    config.update_from_flattened_dict(changes)
    with pytest.raises(ValueError, match=message):
        check_channels(config)
