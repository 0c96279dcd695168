"""ConvNeXt: published sizes, shapes, its block in NumPy, stochastic depth."""

import math
from itertools import chain

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.models.backbones.convnext import Block, ConvNeXt, stages
from maskrcnn_jax.models.backbones.layers import Patches, stochastic_depth
from maskrcnn_jax.models.config import ModelConfig

KEY = jax.random.key(0)
NARROW = dict(blocks=(1, 1, 2, 1), channels=(4, 8, 12, 16))


def _shapes(model, size=64):
    image = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
    return jax.eval_shape(model.init_with_output, KEY, image)


@pytest.mark.parametrize(
    ("blocks", "width", "with_classifier"),
    [((3, 3, 9, 3), 96, 28_589_128), ((3, 3, 27, 3), 96, 50_223_688)],
)
def test_number_of_parameters_is_the_published_one(blocks, width, with_classifier):
    channels = tuple(width * 2**i for i in range(4))
    _, variables = _shapes(ConvNeXt(blocks, channels, norm_features=False))
    classifier = 2 * channels[-1] + (channels[-1] + 1) * 1000  # and the norm before it
    sizes = [leaf.size for leaf in jax.tree.leaves(variables["params"])]
    assert sum(sizes) == with_classifier - classifier


def test_feature_shapes_and_dtype():
    features, variables = _shapes(ConvNeXt(**NARROW, dtype=jnp.bfloat16))
    assert {name: (x.shape[1:], x.dtype) for name, x in features.items()} == {
        name: ((side, side, c), jnp.bfloat16)
        for name, side, c in zip(features, (16, 8, 4, 2), (4, 8, 12, 16), strict=True)
    }
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}


def test_stages_name_every_module_once():
    config = ModelConfig().backbone
    config.kind, config.convnext.blocks = "convnext", (1, 2, 7, 1)
    layers = list(chain(*stages(config).values()))
    names = list(chain(*layers))
    assert len(set(names)) == len(names)
    _, variables = _shapes(ConvNeXt(config.convnext.blocks, NARROW["channels"]))
    # C2 has no layer before it.
    assert set(names) == {*variables["params"], "downsample_c2"}
    # As the authors' published detectors count them: C4 by threes.
    assert [len([name for name in layer if "stage" in name]) for layer in layers] == [
        *(0, 1, 2),
        *(3, 3, 1),
        1,
    ]


def _block_in_numpy(x, params):
    """The paper's figure 4, of one image, in float64."""
    height, width, channels = x.shape
    kernel = params["depthwise"]["kernel"][:, :, 0]
    padded = np.pad(x.astype(np.float64), ((3, 3), (3, 3), (0, 0)))
    y = np.zeros((height, width, channels))
    for i in range(height):
        for j in range(width):
            y[i, j] = (padded[i : i + 7, j : j + 7] * kernel).sum((0, 1))
    y += params["depthwise"]["bias"]
    y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-6)
    y = y * params["norm"]["scale"] + params["norm"]["bias"]
    y = y @ params["expand"]["kernel"] + params["expand"]["bias"]
    y = y * 0.5 * (1 + np.vectorize(math.erf)(y / math.sqrt(2)))
    return x + params["layer_scale"] * (y @ params["project"]["kernel"] + params["project"]["bias"])


def test_the_block_is_the_papers():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 5, 9, 4), np.float32)
    block = Block(layer_scale=1.0)
    shapes = jax.eval_shape(block.init, KEY, x)
    variables = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape, np.float32), shapes)
    factor = np.float32([0, 1.25])
    plain, dropped = jax.jit(lambda v, x: (block.apply(v, x), block.apply(v, x, factor)))(
        variables, x
    )
    expected = np.stack([_block_in_numpy(image, variables["params"]) for image in x])
    np.testing.assert_allclose(plain, expected, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_array_equal(dropped[0], x[0])
    np.testing.assert_allclose(dropped[1] - x[1], 1.25 * (plain[1] - x[1]), rtol=1e-3, atol=1e-4)


def test_patches_are_a_convolution_whose_windows_do_not_overlap():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 8, 12, 3), np.float32)
    layer = Patches(5, 4)
    kernel, bias = rng.standard_normal((4, 4, 3, 5), np.float32), np.arange(5, dtype=np.float32)
    expected = jax.lax.conv_general_dilated(
        x, kernel, (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    ours = layer.apply({"params": {"kernel": kernel, "bias": bias}}, x)
    np.testing.assert_allclose(ours, expected + bias, atol=1e-4)


def test_stochastic_depth_leaves_out_branches_of_single_images():
    factors = np.asarray(stochastic_depth(KEY, 0.25, 4000))
    assert set(factors.tolist()) == {0.0, np.float32(1 / 0.75).item()}
    assert abs((factors == 0).mean() - 0.25) < 0.03
    assert np.array_equal(factors, stochastic_depth(KEY, 0.25, 4000))


def test_blocks_are_left_out_in_training_alone_and_the_later_the_oftener():
    model = ConvNeXt((1, 1, 9, 1), NARROW["channels"], stochastic_depth=0.5)
    assert model._factors(None, 8) == [None] * 12
    factors = np.stack(model._factors(KEY, 2000))
    np.testing.assert_allclose((factors == 0).mean(1), np.linspace(0, 0.5, 12), atol=0.04)
    # Each block and each image is drawn on its own.
    assert len({row.tobytes() for row in factors[1:]}) == 11
    assert np.abs(np.corrcoef(factors[6:])[np.triu_indices(6, 1)]).max() < 0.1
    assert not np.array_equal(factors, np.stack(model._factors(jax.random.key(1), 2000)))
