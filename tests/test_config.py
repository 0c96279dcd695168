"""The whole configuration: checks across sections, and the page that prints it."""

import re

import pytest

from maskrcnn_jax.config import Config, get_config
from maskrcnn_jax.config_fields import check_fields, fields
from maskrcnn_jax.config_json import set_values


def test_the_default_passes_and_every_key_is_described():
    get_config().validate()
    keys = list(fields(get_config(), "config"))
    assert len(keys) >= 150
    assert [key for key, field, _ in keys if not field.metadata["meaning"]] == []


def test_defaults_are_not_shared():
    one = Config()
    one.model.rpn.convs, one.data.train.root = 2, "here"
    assert Config().model.rpn.convs == 1
    assert not Config().data.train


def test_a_misspelt_key_is_an_error_in_a_recipe():
    with pytest.raises(AttributeError, match="stpes"):
        get_config().train.stpes = 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.channels": 0}, r"config\.data\.channels is 0; expected at least 1"),
        ({"data.depth": 12}, r"config\.data\.depth is 12; expected 8 \| 16"),
        ({"model.pixel.mean": (3e3,) * 3}, r"data\.depth = 8 no value .* above 255: set .* to 16"),
        ({"data.channels": 5}, r"mean and std have 3 values; config\.data\.channels = 5 .* stats"),
        (
            {
                "data.channels": 1,
                "model.pixel.mean": (9.0,),
                "model.pixel.std": (1.0,),
                "model.pixel.order": "bgr",
            },
            r"order is 'bgr', of images with 3 channels",
        ),
        ({"model.masks": False}, r"best_metric is of masks .* set .* to bbox/AP"),
        (
            {
                "model.masks": False,
                "train.best_metric": "bbox/AP",
                "eval.metrics": ("voc07", "boundary"),
            },
            r"config\.eval\.metrics is of masks \(boundary\)",
        ),
        (
            {"model.masks": False, "train.best_metric": "bbox/AP", "data.boxes": "masks"},
            r"data\.boxes = 'masks' need masks",
        ),
        ({"train.best_metric": "loss_total"}, r"only with config\.eval\.loss=True"),
        ({"init_parts": ("fpn", "neck")}, r"init_parts is .*neck.*; expected backbone \| fpn"),
        ({"init_parts": ()}, r"config\.init_parts is empty"),
        ({"eval.max_detections": (100, 10)}, r"max_detections is \(100, 10\); expected increasing"),
        ({"mesh.data": 0}, r"config\.mesh\.data is 0"),
        ({"train.early_stop": 2, "train.eval_every": 0}, r"early_stop is 2 .*eval_every is 0"),
        (
            {"data.buckets": ((100, 64),)},
            r"data\.buckets has \(100, 64\).* multiples of 32",
        ),
        ({"data.buckets": ()}, r"config\.data\.buckets is empty"),
    ],
)
def test_what_does_not_fit_is_told_with_the_way_out(changes, message):
    config = get_config()
    set_values(config, changes)
    with pytest.raises(ValueError, match=message):
        config.validate()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("steps", "many", "config.train.steps is 'many'; expected a whole number"),
        ("steps", True, "config.train.steps is True; expected a whole number"),
        ("learning_rate", float("nan"), "config.train.learning_rate is nan; expected above 0"),
        ("decay_steps", (1, "2"), "config.train.decay_steps is (1, '2'); expected a tuple"),
    ],
)
def test_values_of_another_type_are_refused(key, value, message):
    train = get_config().train
    setattr(train, key, value)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_fields(train, "config.train")


def test_what_a_recipe_may_write_otherwise_is_put_right():
    config = get_config()
    config.train.decay_steps, config.train.weight_decay = [5, 6], 0
    config.data.train = {"root": "here"}
    config.data.buckets = [[64, 64]]
    config.validate()
    assert config.train.decay_steps == (5, 6)
    assert config.data.train.root == "here"
    assert config.data.buckets == ((64, 64),)
