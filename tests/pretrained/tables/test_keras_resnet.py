"""Keras' ResNet weights of both generations: names, shapes, and features against references."""

import jax
import numpy as np
import pytest

from maskrcnn_jax.config import get_config
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.models.backbones.interface import make_backbone
from maskrcnn_jax.models.build import abstract_variables, make_model
from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.models.mask_rcnn import normalized
from maskrcnn_jax.pretrained import convert, sources
from maskrcnn_jax.pretrained.tables import mapping
from tests.parity.reference import EPS, FACTOR
from tests.pretrained import keras_weights, matterport_numpy

NEWER, OLDER = (
    next(source for source in sources.SOURCES if source.name == name)
    for name in ("keras_resnet", "keras_resnet_older")
)
PUBLISHED = {NEWER.name: keras_weights.newer_resnet, OLDER.name: keras_weights.older_resnet}
# What Keras prints for its models without top.
PARAMETERS = {50: 23_587_712, 101: 42_658_176, 152: 58_370_944}
CASES = [(NEWER, 50), (NEWER, 101), (NEWER, 152), (OLDER, 50)]


def config_model(source, depth=50, **overrides) -> ModelConfig:
    config = get_config().model
    set_values(config, {**source.model, "backbone.depth": depth, **overrides})
    return config


def narrow_weights(source, depth=50):
    return keras_weights.random_weights(PUBLISHED[source.name](depth, width=4))


def imported(source, weights, config):
    expected = abstract_variables(make_model(config, 1))
    return mapping.import_arrays(
        weights, source.table(config), expected, what="the weights", ignored=source.ignored
    )


def features(variables, config, image):
    """C2 to C5 of our backbone for an image [H, W, 3] uint8, RGB."""
    size = np.float32([image.shape[:2]])
    x = normalized(image[None], size, config.pixel)
    ours = {name: collection["backbone"] for name, collection in variables.items()}
    with jax.default_matmul_precision("float32"):
        maps = jax.jit(make_backbone(config.backbone, np.float32, False).apply)(ours, x)
    return [np.asarray(maps[name][0]) for name in ("c2", "c3", "c4", "c5")]


@pytest.mark.parametrize(("source", "depth"), CASES)
def test_table_is_complete(source, depth):
    config = config_model(source, depth)
    published = PUBLISHED[source.name](depth)
    assert sum(np.prod(shape) for shape in published.values()) == PARAMETERS[depth]
    every = mapping.flat(abstract_variables(make_model(config, 1)))
    ours = {path: array for path, array in every.items() if path[1] == "backbone"}
    theirs = {}
    for entry in source.table(config):
        arrays = entry.layout.to_source(np.broadcast_to(np.float32(0), ours.pop(entry.path).shape))
        arrays = arrays if isinstance(arrays, tuple) else (arrays,)
        theirs |= {name: array.shape for name, array in zip(entry.names, arrays, strict=True)}
    assert not ours  # every array of ours has an entry
    assert theirs == published


@pytest.mark.parametrize(("source", "depth"), CASES)
def test_import_export_import(source, depth):
    config = config_model(source, depth, **{"backbone.width": 4})
    weights = narrow_weights(source, depth)
    variables = imported(source, weights, config).variables
    exported = mapping.export_arrays(variables, source.table(config))
    assert exported.keys() == weights.keys()
    again = imported(source, exported, config).variables
    jax.tree.map(np.testing.assert_array_equal, again, variables)


@pytest.mark.parametrize(("source", "depth"), CASES)
def test_recognised_by_its_names(source, depth):
    weights = narrow_weights(source, depth)
    assert sources.recognised(weights, "a file") is source
    assert source.layers(weights)["backbone.depth"] == depth


def test_residual_networks_of_version_2_are_refused():
    # They have no norm behind the first convolution, but one before each block.
    weights = narrow_weights(NEWER)
    for name in ("gamma", "beta", "moving_mean", "moving_variance"):
        weights[f"conv2_block1_preact_bn/{name}"] = weights.pop(f"conv1_bn/{name}")
    with pytest.raises(ValueError, match="no known kind"):
        sources.recognised(weights, "resnet50v2.h5")


@pytest.mark.parametrize(("source", "top"), [(NEWER, "predictions"), (OLDER, "fc1000")])
def test_classifier_is_left_behind(source, top):
    weights = narrow_weights(source)
    weights |= {f"{top}/kernel": np.zeros((128, 10)), f"{top}/bias": np.zeros(10)}
    config = config_model(source, **{"backbone.width": 4})
    assert imported(source, weights, config).left == [f"{top}/kernel", f"{top}/bias"]


def newer_names(stage, block, branch):
    name = "conv1" if stage == 1 else f"conv{stage}_block{block + 1}_{branch}"
    return f"{name}_conv", f"{name}_bn"


@pytest.mark.parametrize(
    ("source", "names", "epsilon", "pool"),
    [
        (NEWER, newer_names, 1.001e-5, lambda x: matterport_numpy.max_pool(x, 1, 1)),
        (OLDER, matterport_numpy.older_names, 1e-3, matterport_numpy.max_pool_same),
    ],
)
def test_features(source, names, epsilon, pool):
    weights = narrow_weights(source)
    config = config_model(source, **{"backbone.width": 4})
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    blue_green_red = image[..., ::-1] - np.array([103.939, 116.779, 123.68])

    def reference(dtype):
        arrays = {name: array.astype(dtype) for name, array in weights.items()}
        pixels = blue_green_red.astype(dtype)
        return matterport_numpy.resnet(pixels, arrays, (3, 4, 6, 3), names, epsilon, pool)

    ours = features(imported(source, weights, config).variables, config, image)
    levels = zip(ours, reference(np.float64), reference(np.float32), strict=True)
    for level, (a, exact, rounded) in enumerate(levels, start=2):
        tolerance = FACTOR * np.abs(rounded - exact).max() + 4 * EPS * np.abs(exact).max()
        np.testing.assert_allclose(a, exact, rtol=0, atol=tolerance, err_msg=f"c{level}")


def test_keras_itself(tmp_path):
    applications = pytest.importorskip("keras", reason="Keras is not installed").applications
    pytest.importorskip("h5py", reason="h5py is not installed: no .h5 files can be read")
    keras_model = applications.ResNet50(weights=None, include_top=False, input_shape=(64, 64, 3))
    weights = keras_weights.random_weights(keras_weights.newer_resnet(50))
    for variable in keras_model.weights:
        variable.assign(weights.pop("/".join(variable.path.split("/")[-2:])))
    assert not weights  # Keras has no other names
    keras_model.save(tmp_path / "resnet50.h5")
    loaded = convert.load(tmp_path / "resnet50.h5")
    assert loaded.kind == NEWER.name

    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    x = applications.resnet50.preprocess_input(image[None].astype(np.float32))
    expected = np.asarray(keras_model(x, training=False))[0]
    config = config_model(NEWER)
    ours = features(loaded.variables, config, image)[-1]
    np.testing.assert_allclose(ours, expected, atol=1e-3)
