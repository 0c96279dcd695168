"""The settings of the model: what is refused, and which of them come with weights."""

import re

import pytest

from maskrcnn_jax.config_fields import allowed, fields
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.models.config import ALL_PARTS, ModelConfig

FIELDS = {key: field for key, field, _ in fields(ModelConfig(), "config.model")}
CHOICES = [key for key, field in FIELDS.items() if field.metadata["choices"]]


def test_the_default_configuration_passes():
    ModelConfig().validate()


@pytest.mark.parametrize("key", CHOICES)
def test_an_unknown_choice_is_refused(key):
    model, field, name = ModelConfig(), FIELDS[key], key.removeprefix("config.model.")
    for choice in field.metadata["choices"]:
        set_values(model, {name: choice})
        model.validate()
    unknown = type(field.default)(999)
    set_values(model, {name: unknown})
    message = f"{key} is {unknown!r}; expected {allowed(field)}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        model.validate()


def test_every_field_says_which_weights_need_it():
    unsaid = [key for key, field in FIELDS.items() if field.metadata["weights"] is None]
    assert unsaid == []
    assert all(set(field.metadata["weights"]) <= set(ALL_PARTS) for field in FIELDS.values())


def test_every_field_says_what_it_means():
    assert [key for key, field in FIELDS.items() if not field.metadata["meaning"]] == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pixel.std": (1.0,)}, r"pixel\.mean has 3 values and config\.model\.pixel\.std 1"),
        ({"pixel.std": (1.0, 0.0, 2.0)}, r"pixel\.std is .*; expected above 0"),
        ({"anchors.sizes": (32.0,)}, r"config\.model\.anchors\.sizes has 1 values"),
        ({"rpn.positive_fraction": 1.5}, r"positive_fraction is 1.5; expected within \[0, 1\]"),
        ({"box_head.coder_weights": (1.0, 1.0)}, r"coder_weights is .*; expected a tuple"),
    ],
)
def test_values_that_make_no_sense_are_refused(changes, message):
    model = ModelConfig()
    set_values(model, changes)
    with pytest.raises(ValueError, match=message):
        model.validate()
