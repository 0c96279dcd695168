"""Names, shapes and layouts of matterport's weights; the parity test compares values."""

import jax
import numpy as np
import pytest

from maskrcnn_jax.config import get_config
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.models.build import abstract_variables, make_model
from maskrcnn_jax.pretrained import convert, sources
from maskrcnn_jax.pretrained.tables import keras_resnet, mapping, matterport
from maskrcnn_jax.pretrained.tables.coco_classes import class_list
from maskrcnn_jax.pretrained.weight_keys import weight_keys
from tests.pretrained import keras_weights
from tests.pretrained.narrow_matterport import (
    NUM_CLASSES,
    SOURCE,
    WIDTHS,
    config_model,
    imported,
    narrow_weights,
)


@pytest.mark.parametrize("depth", [50, 101])
def test_table_is_complete(depth):
    config = config_model(depth)
    published = keras_weights.matterport(depth, num_classes=81)
    if depth == 101:  # what Keras prints for mask_rcnn_coco.h5
        assert sum(np.prod(shape) for shape in published.values()) == 64_158_584
    ours = mapping.flat(abstract_variables(make_model(config, 80)))
    theirs = {}
    for entry in SOURCE.table(config):
        arrays = entry.layout.to_source(np.broadcast_to(np.float32(0), ours.pop(entry.path).shape))
        arrays = arrays if isinstance(arrays, tuple) else (arrays,)
        theirs |= {name: array.shape for name, array in zip(entry.names, arrays, strict=True)}
    assert not ours  # every array of ours has an entry
    assert theirs == published


@pytest.mark.parametrize("depth", [50, 101])
def test_import_export_import(depth):
    config = config_model(depth, **WIDTHS)
    weights = narrow_weights(depth)
    variables = imported(weights, config).variables
    exported = mapping.export_arrays(variables, SOURCE.table(config))
    assert {name: array.shape for name, array in exported.items()} == {
        name: array.shape for name, array in weights.items()
    }
    jax.tree.map(np.testing.assert_array_equal, imported(exported, config).variables, variables)


def test_recognised_by_its_names():
    weights = narrow_weights(101)
    source = sources.recognised(weights, "a file")
    assert source is SOURCE
    assert source.layers(weights)["backbone.depth"] == 101
    assert source.num_classes(weights) == NUM_CLASSES
    assert class_list(80)[0][:2] == ("person", "bicycle")  # its order of COCO's classes


def test_dialect_belongs_to_the_weights_and_settings_do_not():
    keys = weight_keys(config_model(101), SOURCE.part)
    assert keys.items() >= SOURCE.model.items()
    assert keys["backbone.depth"] == 101
    assert not keys.keys() & SOURCE.settings.keys()
    set_values(get_config().data, SOURCE.data)  # raises for an unknown key


def test_anchors_saved_as_a_variable_are_left_behind():
    weights = narrow_weights() | {"anchors/Variable": np.zeros((1, 9, 4), np.float32)}
    assert imported(weights, config_model(**WIDTHS)).left == ["anchors/Variable"]


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"rpn.convs": 2}, r"rpn\.conv_1\."),
        ({"fpn.norm": "bn"}, r"fpn\.lateral_c2\.conv, fpn\.lateral_c2\.norm_layer, "),
        ({"mask_head.norm": "none"}, r"mask_head\.conv_0\.conv, mask_head\.conv_0\.norm_layer, "),
        ({"backbone.depth": 18}, r"backbone\.stage_c2_0\.conv3\.conv, "),
    ],
)
def test_models_that_matterports_table_is_not_of(overrides, named):
    model = config_model(**{**WIDTHS, **overrides})
    with pytest.raises(ValueError, match=f"other arrays in {named}"):
        imported(narrow_weights(), model)


def test_faults_are_listed():
    weights = narrow_weights()
    del weights["bn4c_branch2b/moving_mean"], weights["res3a_branch1/bias"]
    weights["mrcnn_class_conv1/kernel"] = np.zeros((5, 5, 16, 20), np.float32)
    with pytest.raises(ValueError, match="are not those of such a model") as error:
        imported(weights, config_model(**WIDTHS))
    message = str(error.value)
    assert "missing (2): res3a_branch1/bias, bn4c_branch2b/moving_mean" in message
    assert "mrcnn_class_conv1/kernel: (5, 5, 16, 20) given, (7, 7, 16, 20) expected" in message


def test_file(tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed: no .h5 files can be read")
    weights = narrow_weights(101)
    with h5py.File(tmp_path / "mask_rcnn_mine.h5", "w") as file:  # as `save_weights` lays it out
        for name, array in weights.items():
            layer, weight = name.split("/")
            inside = f"rpn_model/{layer}" if layer.startswith("rpn_") else f"{layer}/{layer}"
            file[f"{inside}/{weight}:0"] = array
    loaded = convert.load(tmp_path / "mask_rcnn_mine.h5")
    assert loaded.kind == "matterport"
    assert loaded.class_names == ("class_1", "class_2", "class_3")
    assert loaded.model.items() >= {**WIDTHS, "backbone.depth": 101}.items()
    expected = imported(weights, config_model(101, **WIDTHS)).variables
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, expected)


# Layouts by hand.


def test_bias_before_a_norm_moves_its_mean():
    rng = np.random.default_rng(0)
    x, bias, mean, variance = rng.uniform(0.5, 2, (4, 5))
    theirs = (x + bias - mean) / np.sqrt(variance + 1e-3)
    folded = keras_resnet.MEAN.to_ours(mean, bias)
    np.testing.assert_allclose((x - folded) / np.sqrt(variance + 1e-3), theirs, rtol=1e-12)


def test_two_logits_become_their_difference():
    pairs = np.array([1.0, 4.0, 2.0, -3.0])  # (background, foreground) of two anchors
    ours = matterport.OBJECTNESS.to_ours(pairs)
    assert ours.tolist() == [3, -5]
    softmax = np.exp(pairs[1::2]) / (np.exp(pairs[::2]) + np.exp(pairs[1::2]))
    np.testing.assert_allclose(1 / (1 + np.exp(-ours)), softmax, rtol=1e-12)
    assert matterport.OBJECTNESS.to_source(ours).tolist() == [0, 3, 0, -5]


def test_layouts():
    deltas = np.arange(2 * 8).reshape(2, 8)  # two classes of (dy, dx, dh, dw)
    assert matterport.DELTAS.to_ours(deltas)[1].tolist() == [9, 8, 11, 10, 13, 12, 15, 14]
    window = np.arange(7 * 7 * 3 * 2).reshape(7, 7, 3, 2)  # row, column, in, out
    ours = matterport.whole_window(7).to_ours(window)
    assert ours[(4 * 7 + 5) * 3 + 2, 1] == window[4, 5, 2, 1]
    upsample = np.arange(2 * 2 * 3 * 5).reshape(2, 2, 3, 5)  # row, column, out, in
    assert matterport.UPSAMPLE.to_ours(upsample)[4, 0, 1, 2] == upsample[0, 1, 2, 4]
