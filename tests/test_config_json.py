"""Configurations through JSON, and which differences end a run."""

import json

import pytest
from ml_collections import ConfigDict, FrozenConfigDict

from maskrcnn_jax.config import get_config
from maskrcnn_jax.config_json import (
    check_resumable,
    differences,
    from_json,
    to_json,
    with_defaults,
)


def _through_json(config):
    return from_json(json.loads(json.dumps(to_json(config))))


def test_every_key_of_the_default_configuration_survives():
    config = get_config()
    again = _through_json(config)
    assert again == config.to_dict()
    assert differences(config, again) == []
    # What a type alone tells apart: 1 and 1.0, a tuple and a list.
    assert repr(ConfigDict(again)) == repr(config)
    assert hash(FrozenConfigDict(again)) == hash(FrozenConfigDict(config))


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


def test_keys_that_did_not_exist_yet_get_their_defaults():
    old = _through_json(get_config())
    del old["model"]["detections"]["mask_paste"], old["eval"]
    old["train"]["steps"] = 7
    old["data"]["train"] = {"root": "here"}
    filled = with_defaults(old, get_config())
    assert filled["model"]["detections"]["mask_paste"] == "torchvision"
    assert filled["eval"] == get_config().eval.to_dict()
    assert filled["train"]["steps"] == 7
    assert filled["data"]["train"] == {"root": "here"}


def _saved(**changes):
    config = get_config()
    config.data.train = ConfigDict({"root": "here", "count": 5})
    config.update_from_flattened_dict(changes)
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
    assert check_resumable(_saved(**{key: value}), to_json(_saved()), "") == [shown]


def test_other_data_end_the_run():
    with pytest.raises(ValueError, match=r"data.train.count: 5 -> 6"):
        check_resumable(_saved(**{"data.train.count": 6}), to_json(_saved()), "")


def test_keys_that_came_or_went_are_differences():
    assert differences({"a": 1, "b": {"c": 2}}, {"a": 1, "d": 3}) == [
        ("b.c", 2, ...),
        ("d", ..., 3),
    ]
