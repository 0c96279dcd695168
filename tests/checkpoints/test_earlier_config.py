"""The configuration in a checkpoint of before the typed one is still read, and resumed."""

import json
from pathlib import Path

import pytest

from maskrcnn_jax import config_json
from maskrcnn_jax.checkpoints.resume import check_resumable
from maskrcnn_jax.config import Config, get_config

# `to_json(get_config())` at the last commit whose configuration was a ConfigDict, e5d51a7.
EARLIER = json.loads((Path(__file__).parent / "earlier_config.json").read_text())


# Defaults that have changed since: a checkpoint keeps its own.
CHANGED = [("model.detections.mask_paste", "torchvision", "exact")]


def test_every_key_is_still_known_and_means_the_same():
    config = config_json.section(Config, EARLIER)
    config.validate()
    # A key that came later must behave, by default, as if there were none.
    assert config_json.differences(config, get_config()) == CHANGED


def test_such_a_run_resumes_with_today_s_configuration():
    said = check_resumable(get_config(), EARLIER, "where")
    assert said == [f"config.{key}: {old!r} -> {new!r}" for key, old, new in CHANGED]
    changed = get_config()
    changed.model.fpn.channels = 128
    changed.train.steps = 7
    with pytest.raises(ValueError, match=r"config\.model\.fpn\.channels: 256 -> 128\. Put"):
        check_resumable(changed, EARLIER, "where")
