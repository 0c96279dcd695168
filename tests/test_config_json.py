"""Configurations through JSON, and which differences end a run."""

import json

import pytest
from ml_collections import ConfigDict

from maskrcnn_jax.checkpoints.resume import check_resumable
from maskrcnn_jax.config import Config, get_config
from maskrcnn_jax.config_json import (
    differences,
    from_json,
    section,
    set_values,
    to_json,
)


def _through_json(config):
    return from_json(json.loads(json.dumps(to_json(config))))


def test_every_key_of_the_default_configuration_survives():
    config = get_config()
    again = _through_json(config)
    assert differences(config, again) == []
    # What a type alone tells apart: 1 and 1.0, a tuple and a list.
    assert repr(section(Config, again)) == repr(config)


def test_nested_tuples_none_and_empty_sections_survive():
    config = ConfigDict({"a": ((1, 2), (3.0,), ()), "b": {"c": None, "d": {}}, "e": True})
    assert _through_json(config) == {
        "a": ((1, 2), (3.0,), ()),
        "b": {"c": None, "d": {}},
        "e": True,
    }


@pytest.mark.parametrize(("value", "fault"), [(float("nan"), "nan"), (object(), "object")])
def test_what_json_cannot_hold_is_named(value, fault):
    with pytest.raises(ValueError, match=f"config.a.b is .*{fault}"):
        to_json(ConfigDict({"a": {"b": value}}))


def test_keys_that_did_not_exist_yet_mean_what_they_did():
    old = _through_json(get_config())
    del old["model"]["detections"]["mask_paste"], old["eval"]
    old["train"]["steps"] = 7
    old["data"]["train"] = {"root": "here"}
    filled = section(Config, old)
    # Masks were pasted by torchvision's rule before there was a choice.
    assert filled.model.detections.mask_paste == "torchvision"
    filled.model.detections.mask_paste = get_config().model.detections.mask_paste
    assert filled.model == get_config().model
    assert filled.eval == get_config().eval
    assert filled.train.steps == 7
    assert filled.data.train.to_dict() == {"root": "here"}


def _saved(**changes):
    config = get_config()
    config.data.train = ConfigDict({"root": "here", "count": 5})
    set_values(config, changes)
    return config


def test_all_keys_that_forbid_resuming_are_named_at_once():
    now = _saved(**{"seed": 7, "train.batch_size": 2, "model.fpn.channels": 8, "train.steps": 3})
    with pytest.raises(ValueError, match="another configuration") as error:
        check_resumable(now, to_json(_saved()), "runs/x/checkpoints")
    message = str(error.value)
    assert "seed: 0 -> 7" in message
    assert "train.batch_size: 16 -> 2" in message
    assert "model.fpn.channels: 256 -> 8" in message
    assert "runs/x/checkpoints" in message
    assert "train.steps" not in message


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("train.steps", 5, "train.steps: 90000 -> 5"),
        ("train.log_every", 1, "train.log_every: 20 -> 1"),
        ("train.learning_rate", 0.5, "train.learning_rate: 0.02 -> 0.5"),
        ("eval.batch_size", 1, "eval.batch_size: 16 -> 1"),
        ("data.workers", 3, "data.workers: 0 -> 3"),
        ("data.train.root", "there", "data.train.root: 'here' -> 'there'"),
    ],
)
def test_harmless_changes_are_reported(key, value, shown):
    assert check_resumable(_saved(**{key: value}), to_json(_saved()), "") == [f"config.{shown}"]


def test_other_data_end_the_run():
    with pytest.raises(ValueError, match=r"data.train.count: 5 -> 6"):
        check_resumable(_saved(**{"data.train.count": 6}), to_json(_saved()), "")


def test_keys_that_came_or_went_are_differences():
    assert differences({"a": 1, "b": {"c": 2}}, {"a": 1, "d": 3}) == [
        ("b.c", 2, ...),
        ("d", ..., 3),
    ]


def test_a_key_of_another_version_is_named_with_the_nearest():
    with pytest.raises(ValueError, match=r"train\.step; did you mean config\.train\.steps"):
        section(Config, {"train": {"step": 3}})
    with pytest.raises(ValueError, match=r"config\.train is 3; it is a section"):
        section(Config, {"train": 3})


def test_values_are_set_by_dotted_keys_of_their_type():
    config = get_config()
    set_values(config, {"train.steps": 3, "train.learning_rate": 1, "data.buckets": [[64, 64]]})
    assert (config.train.steps, config.train.learning_rate) == (3, 1.0)
    assert config.data.buckets == ((64, 64),)
    with pytest.raises(ValueError, match=r"config\.train\.steps cannot be 'x'; expected a int"):
        set_values(config, {"train.steps": "x"})
    with pytest.raises(ValueError, match=r"no key config\.train to set, but a section"):
        set_values(config, {"train": 3})
