"""ViT: published sizes, windows and positions by hand, attention in NumPy, stochastic depth."""

from itertools import chain

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.models.backbones import resizing
from maskrcnn_jax.models.backbones.attention import Attention, from_windows, relative, to_windows
from maskrcnn_jax.models.backbones.config import BackboneConfig
from maskrcnn_jax.models.backbones.simple_pyramid import SimplePyramid
from maskrcnn_jax.models.backbones.vit import ViT, stages
from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.models.mask_rcnn import normalized

KEY = jax.random.key(0)
NARROW = dict(
    depth=4, channels=8, heads=2, window=2, global_blocks=(1, 3), position_grid=2, relative_grid=4
)


def _shapes(model, height=64, width=64):
    image = jax.ShapeDtypeStruct((2, height, width, 3), jnp.float32)
    return jax.eval_shape(model.init_with_output, KEY, image)


@pytest.mark.parametrize(
    ("depth", "channels", "heads", "with_classifier"),
    [(12, 768, 12, 86_567_656), (24, 1024, 16, 304_326_632)],
)
def test_number_of_parameters_is_the_published_one(depth, channels, heads, with_classifier):
    last = tuple(i * depth // 4 - 1 for i in range(1, 5))
    model = ViT(depth=depth, channels=channels, heads=heads, global_blocks=last)
    _, variables = _shapes(model)
    # The classifier and the norm before it, the class token and its position.
    classifier = (channels + 1) * 1000 + 2 * channels + 2 * channels
    flat = jax.tree_util.tree_leaves_with_path(variables["params"])
    own = [leaf.size for path, leaf in flat if "relative" not in path[-1].key]
    assert sum(own) == with_classifier - classifier
    # Relative positions are ViTDet's: of 27 offsets in windows of 14, of 127 in images of 64.
    more = [leaf.shape for path, leaf in flat if "relative" in path[-1].key]
    assert more.count((27, 64)) == 2 * (depth - 4)
    assert more.count((127, 64)) == 2 * 4


def test_feature_shapes_and_dtype():
    features, variables = _shapes(ViT(**NARROW, dtype=jnp.bfloat16), 64, 96)
    assert {name: (x.shape, x.dtype) for name, x in features.items()} == {
        "c4": ((2, 4, 6, 8), jnp.bfloat16)
    }
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    levels, _ = jax.eval_shape(SimplePyramid(5, "ln").init_with_output, KEY, features)
    assert [x.shape[1:] for x in levels.values()] == [
        *((16, 24, 5), (8, 12, 5), (4, 6, 5)),
        *((2, 3, 5), (1, 2, 5)),
    ]


def test_stages_are_quarters_whose_last_block_sees_the_whole_image():
    config = BackboneConfig(kind="vit")
    found = stages(config)
    assert [found[name][-1] for name in ("c2", "c3", "c4", "c5")] == [
        (f"block_{i}",) for i in config.vit.global_blocks
    ]
    names = list(chain(*chain(*found.values())))
    config.vit.depth = 6
    assert list(chain(*chain(*stages(config).values()))) == names[:7]
    assert set(names) == set(_shapes(ViT())[1]["params"])


def test_linear_resizing_by_hand():
    np.testing.assert_array_equal(
        resizing.linear(4, 2), [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
    )
    np.testing.assert_array_equal(resizing.linear(3, 3), np.eye(3))


def test_cubic_resizing_by_hand():
    """Position 1.25 of eight cells made of four, by Keys' formula with a = -3/4."""
    weights = np.array([-27, 225, 67, -9]) / 256  # of the cells 0 to 3
    found = resizing.cubic(8, 4)
    np.testing.assert_allclose(found[3], weights, atol=1e-7)
    np.testing.assert_allclose(found[4], weights[::-1], atol=1e-7)
    # Beyond the sides their cells repeat.
    np.testing.assert_allclose(found[0], [*(weights[::-1][:3].sum(), weights[0], 0, 0)], atol=1e-7)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    np.testing.assert_array_equal(resizing.cubic(5, 5), np.eye(5))


def test_windows_by_hand():
    x = np.arange(1, 13, dtype=np.float32).reshape(1, 3, 4, 1)
    windows = np.asarray(to_windows(jnp.asarray(x), 3))
    expected = [
        [[1, 2, 3], [5, 6, 7], [9, 10, 11]],
        [[4, 0, 0], [8, 0, 0], [12, 0, 0]],
    ]
    np.testing.assert_array_equal(windows[0, ..., 0], expected)
    # What filled a window up stays out, whatever became of it.
    poisoned = np.where(windows == 0, np.nan, windows)
    np.testing.assert_array_equal(from_windows(jnp.asarray(poisoned), 3, 4), x)


def test_relative_positions_by_hand():
    table = np.arange(5, dtype=np.float32)[:, None]  # 2 behind its key .. 2 before it
    np.testing.assert_array_equal(
        relative(table, 3)[..., 0],  # query, key
        [[2, 1, 0], [3, 2, 1], [4, 3, 2]],
    )
    # Of two positions three offsets are needed: the middles of thirds of the five.
    np.testing.assert_allclose(relative(table, 2)[..., 0], [[2, 1 / 3], [11 / 3, 2]], rtol=1e-6)


def _attention_in_numpy(x, params, heads):
    """Of one window [h, w, C], pair by pair, in float64."""
    height, width, channels = x.shape
    size = channels // heads
    tables = {}
    for axis, count in (("rows", height), ("columns", width)):
        table = params[f"relative_{axis}"].astype(np.float64)
        stored, wanted = len(table), 2 * count - 1
        where = (np.arange(wanted) + 0.5) * stored / wanted - 0.5
        each = [np.interp(where, np.arange(stored), table[:, c]) for c in range(size)]
        tables[axis] = np.stack(each, axis=1), count - 1
    qkv = x.astype(np.float64) @ params["qkv"]["kernel"] + params["qkv"]["bias"]
    out = np.zeros(x.shape)
    for head in range(heads):
        q, k, v = (
            qkv[..., part * channels + head * size :][..., :size].reshape(-1, size)
            for part in range(3)
        )
        for i in range(height * width):
            logits = np.zeros(height * width)
            for j in range(height * width):
                logits[j] = q[i] @ k[j] / np.sqrt(size)
                for axis, step in (
                    ("rows", i // width - j // width),
                    ("columns", i % width - j % width),
                ):
                    table, middle = tables[axis]
                    logits[j] += q[i] @ table[middle + step]
            weights = np.exp(logits - logits.max())
            mixed = (weights / weights.sum()) @ v
            out[i // width, i % width, head * size : (head + 1) * size] = mixed
    return out @ params["project"]["kernel"] + params["project"]["bias"]


def test_attention_is_the_papers():
    """Two windows of 2 x 3 patches; rows are resized from 3 stored ones, columns are not."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 2, 2, 3, 4), np.float32)
    module = Attention(heads=2, grid=3)
    shapes = jax.eval_shape(module.init, KEY, x)
    variables = jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape, np.float32), shapes)
    expected = np.stack([_attention_in_numpy(w, variables["params"], 2) for w in x[0]])
    found = jax.jit(module.apply)(variables, x)[0]
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


class Narrow:
    """The backbone and its pyramid in one compiled program, of two images."""

    def __init__(self):
        self.backbone, self.pyramid = ViT(**NARROW, stochastic_depth=0.5), SimplePyramid(8, "ln")
        rng, (features, shapes) = np.random.default_rng(0), _shapes(self.backbone)
        shapes = shapes, jax.eval_shape(self.pyramid.init, KEY, features)
        self.variables = jax.tree.map(
            lambda leaf: 0.5 * rng.standard_normal(leaf.shape, np.float32), shapes
        )
        self.image = rng.integers(0, 256, (2, 64, 64, 3), np.uint8)
        self.size = np.float32([[64, 64], [40, 50]])
        self._run = jax.jit(self._computed)

    def _computed(self, image, size, rng):
        image = normalized(image, size, ModelConfig().pixel)
        backbone, pyramid = self.variables
        return self.pyramid.apply(pyramid, self.backbone.apply(backbone, image, 0, None, rng))

    def __call__(self, image=None, seed=0):
        """Levels in training, since nothing else is random there than which blocks are left out."""
        image = self.image if image is None else image
        return jax.device_get(self._run(image, self.size, jax.random.key(seed)))


@pytest.fixture(scope="module")
def narrow():
    return Narrow()


def test_nothing_outside_of_an_image_is_seen(narrow):
    image = narrow.image.copy()
    image[1, 40:] = image[1, :, 50:] = 255
    assert (image != narrow.image).any()
    for one, other in zip(narrow().values(), narrow(image).values(), strict=True):
        assert np.isfinite(one).all()
        np.testing.assert_array_equal(one, other)


def test_the_same_key_leaves_out_the_same_blocks(narrow):
    first, again, other = (narrow(seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first["p2"], again["p2"])
    assert not np.array_equal(first["p2"], other["p2"])


def test_blocks_are_left_out_in_training_alone_and_the_later_the_oftener():
    model = ViT(**{**NARROW, "depth": 6}, stochastic_depth=0.5)
    assert model._factors(None, 8) == [None] * 6
    factors = np.array(model._factors(KEY, 2000))
    np.testing.assert_allclose(
        (factors == 0).mean(2), np.linspace(0, 0.5, 6)[:, None].repeat(2, 1), atol=0.04
    )
    # Both branches of each block and each image are drawn on their own.
    flat = factors[1:].reshape(10, -1)
    assert np.abs(np.corrcoef(flat)[np.triu_indices(10, 1)]).max() < 0.1


def test_every_norm_and_no_norm_makes_a_pyramid():
    features = {"c4": jax.ShapeDtypeStruct((1, 4, 4, 8), jnp.float32)}
    for norm in ("none", "frozen_bn", "bn", "gn", "ln"):
        levels, variables = jax.eval_shape(SimplePyramid(16, norm).init_with_output, KEY, features)
        assert levels["p2"].shape == (1, 16, 16, 16)
        assert ("norm_layer" in variables["params"]) == (norm != "none")
        assert ("bias" in variables["params"]["output_p2"]["conv"]) == (norm == "none")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"heads": 7}, "channels is 768, which .*vit.heads divides by 7"),
        ({"channels": 6, "heads": 3}, "channels is 6, which the up-sampling of the pyramid"),
        ({"global_blocks": (2, 12)}, "global_blocks names block 12, .*depth = 12 the last one is"),
        ({"depth": 3}, "depth is 3; expected within"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(changes, fault):
    model = ModelConfig()
    model.backbone.kind = "vit"
    set_values(model.backbone.vit, changes)
    with pytest.raises(ValueError, match=f"^config.model.backbone.vit.{fault}"):
        model.validate()
