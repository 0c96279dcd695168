"""Images of other channels and depths in the network."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.models.build import initial_variables, make_model
from maskrcnn_jax.models.config import PixelConfig
from maskrcnn_jax.models.mask_rcnn import normalized
from tests.end_to_end.tiny import get_config

MEAN, STD = (1000.0, 2000.0, 9.0, 0.0, 30000.0), (500.0, 100.0, 3.0, 1.0, 10000.0)


@pytest.mark.parametrize("channels", [1, 5])
def test_each_channel_is_normalised_by_its_own_values(channels):
    pixel = PixelConfig(mean=MEAN[:channels], std=STD[:channels])
    image = np.random.default_rng(0).integers(0, 65536, (1, 32, 64, channels)).astype(np.uint16)
    size = np.float32([[20, 30]])
    found = np.asarray(normalized(jnp.asarray(image), size, pixel))
    expected = (image[0, :20, :30] - np.array(pixel.mean)) / np.array(pixel.std)
    np.testing.assert_allclose(found[0, :20, :30], expected, rtol=1e-5, atol=1e-5)
    assert not found[0, 20:].any()
    black = np.asarray(normalized(jnp.asarray(image), size, replace(pixel, padding="black")))
    outside = -np.array(pixel.mean) / np.array(pixel.std)
    np.testing.assert_allclose(black[0, 31, 63], outside, rtol=1e-6)


def test_other_images_than_the_models_are_refused():
    image = jnp.zeros((1, 32, 32, 3), jnp.uint8)
    with pytest.raises(
        ValueError, match=r"have 3 channels and config\.model\.pixel\.mean 5 values"
    ):
        normalized(image, np.float32([[32, 32]]), PixelConfig(mean=MEAN, std=STD))


def test_the_first_convolution_has_as_many_channels_as_there_are_means():
    config = get_config().model
    config.pixel.mean, config.pixel.std = MEAN, STD
    model = make_model(config, 2)
    shapes = jax.eval_shape(lambda: initial_variables(model, jax.random.key(0)))
    assert shapes["params"]["backbone"]["stem"]["conv"]["kernel"].shape == (7, 7, 5, 8)
