"""ResNet: published sizes, strides, pooling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.models.backbones.resnet import Bottleneck, ResNet, max_pool

KEY = jax.random.key(0)


def shapes(model, size=64):
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return jax.eval_shape(model.init_with_output, KEY, image)


@pytest.mark.parametrize(
    ("depth", "with_classifier", "classifier"),
    [
        (18, 11_689_512, 513_000),
        (34, 21_797_672, 513_000),
        (50, 25_557_032, 2_049_000),
        (101, 44_549_160, 2_049_000),
        (152, 60_192_808, 2_049_000),
    ],
)
def test_number_of_parameters_is_the_published_one(depth, with_classifier, classifier):
    _, variables = shapes(ResNet(depth))
    sizes = [leaf.size for leaf in jax.tree.leaves(variables["params"])]
    assert sum(sizes) == with_classifier - classifier


@pytest.mark.parametrize(("depth", "channels"), [(18, (8, 16, 32, 64)), (50, (32, 64, 128, 256))])
def test_feature_shapes(depth, channels):
    features, _ = shapes(ResNet(depth, width=8))
    sides = {name: 64 // stride for name, stride in zip(features, (4, 8, 16, 32), strict=True)}
    assert {name: x.shape for name, x in features.items()} == {
        name: (1, sides[name], sides[name], c)
        for name, c in zip(("c2", "c3", "c4", "c5"), channels, strict=True)
    }


@pytest.mark.parametrize("stride_in_1x1", [False, True])
def test_stride_goes_to_the_3x3_or_the_1x1_convolution(stride_in_1x1):
    block = Bottleneck(4, 2, True, stride_in_1x1, norm="frozen_bn", norm_eps=0.0)
    image = np.random.default_rng(0).standard_normal((1, 8, 8, 4)).astype(np.float32)
    before, variables = jax.jit(block.init_with_output)(KEY, image)
    assert before.shape == (1, 4, 4, 16)
    without_odd_rows = image.copy()
    without_odd_rows[:, 1::2] = 0
    after = jax.jit(block.apply)(variables, without_odd_rows)
    # A strided 1x1 convolution never sees the odd rows.
    assert np.array_equal(before, after) == stride_in_1x1


@pytest.mark.parametrize("padding", ["symmetric", "same"])
@pytest.mark.parametrize("shape", [(6, 8), (7, 9), (5, 6), (1, 2)])
def test_max_pool_against_numpy(shape, padding):
    x = -np.random.default_rng(0).uniform(1, 2, (1, *shape, 1)).astype(np.float32)
    ours = max_pool(x, padding)
    pads, sides = [], []
    for side in shape:
        out = -(-side // 2)
        total = max((out - 1) * 2 + 3 - side, 0)  # as TensorFlow documents "SAME"
        pads.append((total // 2, total - total // 2) if padding == "same" else (1, 1))
        sides.append(out)
    padded = np.pad(x[0, ..., 0], pads, constant_values=-np.inf)
    expected = [
        [padded[2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max() for j in range(sides[1])]
        for i in range(sides[0])
    ]
    np.testing.assert_array_equal(ours[0, ..., 0], expected)


def test_same_padding_moves_the_windows_of_an_even_side():
    row = np.arange(6, dtype=np.float32).reshape(1, 1, 6, 1)
    assert max_pool(row, "symmetric").ravel().tolist() == [1, 3, 5]
    assert max_pool(row, "same").ravel().tolist() == [2, 4, 5]


def test_the_stem_pools_as_it_is_told():
    image = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype(np.float32)
    model = ResNet(18, width=8)
    variables = jax.jit(model.init)(KEY, image)
    stem = jax.jit(lambda v, x: jax.nn.relu(model.bind(v).stem(x)))(variables, image)
    pooled = {padding: max_pool(stem, padding) for padding in ("symmetric", "same")}

    def after_pooling(x):
        blocks = model.bind(variables).stage["c2"]
        return blocks[1](blocks[0](x))

    for padding, x in pooled.items():
        features = jax.jit(model.clone(pool_padding=padding).apply)(variables, image)
        np.testing.assert_allclose(features["c2"], jax.jit(after_pooling)(x), atol=1e-5)
    assert np.abs(pooled["symmetric"] - pooled["same"]).max() > 0.1


def test_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match=r"depth is 20.*18, 34, 50, 101, 152"):
        shapes(ResNet(20))
