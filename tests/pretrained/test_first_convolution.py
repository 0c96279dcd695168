"""RGB weights for images of other channels: by hand, and as a run begins with them."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.checkpoints.manager import Checkpoints
from maskrcnn_jax.checkpoints.state import TrainState
from maskrcnn_jax.config_json import copied
from maskrcnn_jax.models.build import abstract_variables, make_model
from maskrcnn_jax.models.config import PixelConfig
from maskrcnn_jax.models.layers import Conv
from maskrcnn_jax.models.mask_rcnn import normalized
from maskrcnn_jax.pretrained.first_convolution import STEM, inflated, with_channels
from maskrcnn_jax.pretrained.merge import check_fit
from maskrcnn_jax.pretrained.start import begin
from tests.end_to_end.tiny import get_config
from tests.pretrained.narrow import narrow_model, random_state, write

KERNEL = np.random.default_rng(0).normal(size=(7, 7, 3, 4)).astype(np.float32)


def stem_of(variables):
    for name in STEM:
        variables = variables[name]
    return variables


def tree(kernel):
    for name in reversed(STEM):
        kernel = {name: kernel}
    return kernel


def features(image, kernel, pixel):
    """What the first convolution makes of an image [H, W, C] uint8."""
    size = np.float32([image.shape[:2]])
    given = normalized(image[None], size, replace(pixel, order="rgb", padding="mean"))
    return Conv(4, 7, 2, use_bias=False).apply({"params": {"kernel": kernel}}, given)


def test_a_grey_image_gives_what_it_gave_as_three_equal_channels():
    grey = np.random.default_rng(1).integers(0, 256, (32, 64, 1)).astype(np.uint8)
    rgb = np.repeat(grey, 3, 2)
    three = features(rgb, KERNEL, PixelConfig(mean=(110.0,) * 3, std=(50.0,) * 3))
    one = features(grey, inflated(KERNEL, 1), PixelConfig(mean=(110.0,), std=(50.0,)))
    np.testing.assert_allclose(one, three, rtol=1e-5, atol=2e-4)
    # In numbers without rounding they are the same to the bit.
    whole = np.rint(4 * KERNEL)
    pixel = PixelConfig(mean=(128.0,), std=(1.0,))
    three = features(rgb, whole, PixelConfig(mean=3 * pixel.mean, std=3 * pixel.std))
    np.testing.assert_array_equal(features(grey, inflated(whole, 1), pixel), three)


@pytest.mark.parametrize("channels", [2, 4, 5, 6, 13])
def test_other_channels_repeat_the_three_in_turn(channels):
    found = inflated(KERNEL, channels)
    assert found.shape == (7, 7, channels, 4)
    assert found.dtype == np.float32
    for c in range(channels):
        np.testing.assert_allclose(found[:, :, c], KERNEL[:, :, c % 3] * 3 / channels, rtol=1e-6)
    if channels % 3 == 0:  # of channels alike the response is as large as before
        np.testing.assert_allclose(found.sum(2), KERNEL.sum(2), atol=1e-5)


def test_three_channels_stay():
    assert inflated(KERNEL, 3) is KERNEL


def test_the_order_of_colours_and_the_scale_of_the_weights():
    found = stem_of(with_channels(tree(KERNEL), 3, (58.0, 57.0, 57.0), reverse=True))
    np.testing.assert_array_equal(found, KERNEL[:, :, ::-1])
    found = stem_of(with_channels(tree(KERNEL), 4, (58.0, 57.0, 57.0), reverse=True))
    np.testing.assert_allclose(found[:, :, 3], KERNEL[:, :, 2] * 0.75, rtol=1e-6)
    # Weights that take pixels in full range: (x - mean) is (x - mean) / std times std.
    found = stem_of(with_channels(tree(KERNEL), 3, (1.0, 1.0, 1.0), reverse=False))
    np.testing.assert_allclose(found[:, :, 0], KERNEL[:, :, 0] * 58.395, rtol=1e-6)
    np.testing.assert_allclose(found[:, :, 2], KERNEL[:, :, 2] * 57.375, rtol=1e-6)


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """A narrow detector in a file, as torchvision would write it, and its stem."""
    path = tmp_path_factory.mktemp("files") / "detector.safetensors"
    state = random_state(narrow_model("v1"))
    return write(path, state), state["backbone.body.conv1.weight"].transpose(2, 3, 1, 0)


def configured(detector, channels, depth):
    config = get_config()
    config.init = str(detector[0])
    config.data.channels, config.data.depth = channels, depth
    config.model.pixel.mean = tuple(100.0 + c for c in range(channels))
    config.model.pixel.std = tuple(50.0 + c for c in range(channels))
    return config


@pytest.mark.parametrize(("channels", "depth"), [(1, 8), (5, 16), (3, 16)])
def test_a_run_begins_with_weights_made_fit(detector, tmp_path, channels, depth):
    given = configured(detector, channels, depth)
    config, start = begin(given, tmp_path / "new")
    assert config.model.pixel == given.model.pixel
    assert config.model.backbone.depth == 18
    variables = start.weights.variables
    model = make_model(config.model, len(start.weights.class_names))
    check_fit(abstract_variables(model), variables, start.parts, "the file")
    np.testing.assert_array_equal(stem_of(variables), inflated(detector[1], channels))
    text = "\n".join(start.lines)
    assert f"the data have {channels} of {depth}" in text
    said = {1: "are summed", 3: None, 5: "repeated in turn, times 3 / 5"}[channels]
    assert said in text if said else "first convolution" not in text
    assert not any(key.startswith("pixel.") for key in start.record["model"])


def test_rgb_weights_for_rgb_images_stay_as_they_are(detector, tmp_path):
    config, start = begin(configured(detector, 3, 8), tmp_path / "new")
    assert config.model.pixel.mean == (123.675, 116.28, 103.53)
    np.testing.assert_array_equal(stem_of(start.weights.variables), detector[1])
    assert not any("first convolution" in line for line in start.lines)


def test_a_run_of_our_own_with_five_channels(tmp_path):
    config = get_config()
    config.data.channels, config.data.depth = 5, 16
    config.model.pixel.mean, config.model.pixel.std = (3000.0,) * 5, (900.0,) * 5
    shapes = abstract_variables(make_model(config.model, 3))
    facts = {"config": config, "class_names": ("a", "b", "c"), "category_ids": (1, 2, 3)}
    checkpoints = Checkpoints(tmp_path / "run", 1, {"num_images": 1, "init": None, **facts})
    variables = jax.tree.map(lambda s: jnp.ones(s.shape, s.dtype), shapes)
    checkpoints.save(TrainState(step=jnp.int32(1), opt_state={}, **variables), 1, {})
    checkpoints.close()
    same = copied(config)
    same.init = str(tmp_path / "run")
    same.model.pixel.mean = (1.0,) * 5
    begun, start = begin(same, tmp_path / "new")
    assert begun.model.pixel.mean == (3000.0,) * 5  # of the same images, so it comes with them
    np.testing.assert_array_equal(stem_of(start.weights.variables), 1)
    other = get_config()
    other.init = same.init
    with pytest.raises(
        ValueError, match=r"for images of 5 channels, config\.data\.channels is 3; give"
    ):
        begin(other, tmp_path / "new")


def test_without_the_backbone_nothing_is_inflated(detector, tmp_path):
    config = configured(detector, 5, 16)
    config.init_parts = ("fpn", "rpn")
    _, start = begin(config, tmp_path / "new")
    assert "first convolution" not in "\n".join(start.lines)
    assert jax.tree.leaves(start.weights.variables)
