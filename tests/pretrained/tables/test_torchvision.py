"""Names, layouts and refusals of the torchvision importer; the parity test compares values."""

import jax
import numpy as np
import pytest

from maskrcnn_jax.config import get_config
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.models.build import initial_variables
from maskrcnn_jax.models.mask_rcnn import MaskRCNN
from maskrcnn_jax.pretrained.tables import mapping, torchvision


@pytest.fixture
def config():
    config = get_config().model
    set_values(config.backbone, dict(dict(depth=18, width=4)))
    config.fpn.channels = 8
    set_values(config.box_head, dict(dict(conv_channels=4, dense_channels=6)))
    config.mask_head.channels = 4
    return config


def random_state(config, num_classes=2):
    """A state dict with the names and shapes of the model."""
    model = MaskRCNN(config, num_classes)
    types = jax.eval_shape(lambda key: initial_variables(model, key), jax.random.key(0))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda x: rng.standard_normal(x.shape).astype(np.float32), types)
    return torchvision.export_state(variables, config), variables


@pytest.mark.parametrize("arch", ["v1", "v2"])
@pytest.mark.parametrize("depth", [18, 50])
def test_every_array_goes_in_and_out_unchanged(config, arch, depth):
    set_values(config, torchvision.MODEL_OVERRIDES[arch])
    config.backbone.depth = depth
    state, variables = random_state(config)
    imported = torchvision.import_state(state, config, num_classes=2)
    jax.tree.map(np.testing.assert_array_equal, imported, variables)  # also the structure


def test_layouts_by_hand():
    conv = np.arange(2 * 3 * 1 * 5).reshape(2, 3, 1, 5)  # out, in, row, column
    assert mapping.CONV.to_ours(conv)[0, 4, 2, 1] == conv[1, 2, 0, 4]
    upsample = np.arange(2 * 3 * 2 * 2).reshape(2, 3, 2, 2)  # in, out, row, column
    assert mapping.UPSAMPLE.to_ours(upsample)[1, 0, 1, 2] == upsample[1, 2, 0, 1]
    dense = np.arange(2 * 3 * 7 * 7).reshape(2, -1)  # out, (in, row, column)
    ours = mapping.pooled_dense(7).to_ours(dense)
    assert ours.shape == (147, 2)
    assert ours[(4 * 7 + 5) * 3 + 2, 1] == dense[1, (2 * 7 + 4) * 7 + 5]


def test_names_of_the_published_file(config):
    state, variables = random_state(config)
    older = {
        "backbone.fpn.inner_blocks.2.0.weight": "backbone.fpn.inner_blocks.2.weight",
        "backbone.fpn.layer_blocks.0.0.bias": "backbone.fpn.layer_blocks.0.bias",
        "rpn.head.conv.0.0.weight": "rpn.head.conv.weight",
        "roi_heads.mask_head.0.0.weight": "roi_heads.mask_head.mask_fcn1.weight",
        "roi_heads.mask_head.3.0.bias": "roi_heads.mask_head.mask_fcn4.bias",
    }
    state = {older.get(name, name): array for name, array in state.items()}
    assert set(older.values()) <= set(state)
    imported = torchvision.import_state(state, config, num_classes=2)
    jax.tree.map(np.testing.assert_array_equal, imported, variables)


def test_counters_of_batch_norm_are_accepted(config):
    state, _ = random_state(config)
    state["backbone.body.bn1.num_batches_tracked"] = np.array(7)
    torchvision.import_state(state, config, num_classes=2)


def test_every_fault_is_listed(config):
    state, _ = random_state(config)
    del state["rpn.head.cls_logits.weight"], state["backbone.body.bn1.running_var"]
    state["backbone.fc.weight"] = np.zeros((10, 4))
    state["roi_heads.box_predictor.cls_score.bias"] = np.zeros(91)
    with pytest.raises(ValueError, match="are not those of such a model") as error:
        torchvision.import_state(state, config, num_classes=2)
    message = str(error.value)
    assert "missing (2): " in message
    assert "rpn.head.cls_logits.weight" in message
    assert "backbone.body.bn1.running_var" in message
    assert "unknown (1): backbone.fc.weight" in message
    assert "roi_heads.box_predictor.cls_score.bias: (91,) given, (3,) expected" in message


def test_weights_of_the_other_generation_are_refused(config):
    state, _ = random_state(config)
    set_values(config, torchvision.MODEL_OVERRIDES["v2"])
    with pytest.raises(
        ValueError, match=r"missing \(72\): (.|\n)*unknown .*roi_heads\.box_head\.fc6\.weight"
    ):
        torchvision.import_state(state, config, num_classes=2)
