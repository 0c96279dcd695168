"""Learning rates that fall from layer to layer, worked by hand."""

import jax
import numpy as np
import optax
import pytest

from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.models.backbones.config import BackboneConfig
from maskrcnn_jax.models.build import abstract_variables, make_model
from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.training.layer_decay import layer_factors
from maskrcnn_jax.training.optimizer import make_optimizer


def _convnext() -> BackboneConfig:
    backbone = BackboneConfig(kind="convnext")
    backbone.convnext.blocks = (2, 1, 7, 1)
    return backbone


def test_factors_by_hand():
    """Seven layers: the stem, C2, C3, three of C4, C5; each half of the one above."""
    names = ["stem", "stage_c2_1", "downsample_c3", "stage_c4_2", "stage_c4_3", "stage_c4_6"]
    names += ["norm_c4", "stage_c5_0"]
    params = {"backbone": {name: {"kernel": 0} for name in names}, "fpn": {"lateral": 0}}
    found = layer_factors(params, _convnext(), 0.5)
    assert [found["backbone"][name]["kernel"] * 2**8 for name in names] == [
        2,  # 2^-7
        4,
        8,
        16,
        32,
        *(64, 64),
        128,
    ]
    assert found["fpn"]["lateral"] == 1


def test_factors_of_a_vit_are_detectron2s():
    """Its `get_vit_lr_decay_rate`: the 12th power for the first block of 12, the 13th before it."""
    names = ["stem", "block_0", "block_1", "block_11"]
    params = {"backbone": {name: {"kernel": 0} for name in names}}
    found = layer_factors(params, BackboneConfig(kind="vit"), 0.7)["backbone"]
    assert [found[name]["kernel"] for name in names] == [0.7**power for power in (13, 12, 11, 1)]


@pytest.mark.parametrize(
    "changes", [{}, {"depth": 18, "norm": "gn"}, {"kind": "convnext"}, {"kind": "vit"}]
)
def test_every_array_of_every_backbone_has_a_factor(changes):
    config = ModelConfig()
    set_values(config.backbone, changes)
    params = abstract_variables(make_model(config, 2))["params"]
    found = layer_factors(params, config.backbone, 0.9)
    assert jax.tree.structure(found) == jax.tree.structure(params)
    assert max(jax.tree.leaves(found["backbone"])) == 0.9
    assert set(jax.tree.leaves({**found, "backbone": {}})) == {1.0}


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb"])
def test_the_whole_update_is_scaled_and_frozen_parameters_stay(base_train, name):
    """That of weight decay, too: it is the learning rate that is another."""
    set_values(base_train, dict(optimizer=name, weight_decay=0.1, learning_rate=0.5))
    rng = np.random.default_rng(0)
    params, gradient = (
        {key: rng.standard_normal(3, np.float32) for key in ("a", "b", "frozen")} for _ in range(2)
    )
    trainable = {"a": True, "b": True, "frozen": False}
    factors = {"a": 0.25, "b": 1.0, "frozen": 0.5}

    def update(factors):
        optimizer = make_optimizer(base_train, lambda step: 0.5, trainable, factors)
        return optimizer.update(gradient, optimizer.init(params), params)

    plain, state = update(None)
    scaled, scaled_state = update(factors)
    np.testing.assert_allclose(scaled["a"], 0.25 * plain["a"], rtol=1e-6)
    np.testing.assert_array_equal(scaled["b"], plain["b"])
    assert not scaled["frozen"].any()
    # A checkpoint's state fits whether there is a decay or not.
    assert len(jax.tree.leaves(state)) == len(jax.tree.leaves(scaled_state))
    assert isinstance(scaled_state, optax.PartitionState)
