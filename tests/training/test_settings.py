"""What is refused before any data are looked at."""

import pytest

from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.training.settings import check_run

FAULTS = {
    "train.steps": 0,
    "train.emergency_seconds": 0.0,
    "train.early_stop": -1,
    "train.watchdog_factor": 0.5,
    "train.accumulate": 3,
    "train.ema_decay": 1.5,
    "train.layers": "everything",
    "train.schedule": "linear",
    "train.optimizer": "adam",
    "train.remat": "heads",
    "mesh.space": 3,
    "mesh.fsdp": 0,
}


def test_a_good_configuration_gives_its_mesh(tiny_config):
    tiny_config.mesh.data = 1
    assert dict(check_run(tiny_config).shape) == {"data": 1, "fsdp": 1, "space": 1}


@pytest.mark.parametrize(
    ("section", "key", "kind"),
    [
        ("backbone", "norm", "bn"),
        ("fpn", "norm", "gn"),
        ("box_head", "dense_norm", "bn"),
        ("mask_head", "norm", "bn"),
    ],
)
def test_norms_that_learn_need_an_epsilon(tiny_config, section, key, kind):
    set_values(tiny_config.model, {f"{section}.norm_eps": 0.0, f"{section}.{key}": "frozen_bn"})
    check_run(tiny_config)
    set_values(tiny_config.model, {f"{section}.{key}": kind})
    with pytest.raises(ValueError, match=f"config.model.{section}.norm_eps is 0.*norm = '{kind}'"):
        check_run(tiny_config)


@pytest.mark.parametrize("key", FAULTS)
def test_a_fault_is_named(tiny_config, key):
    set_values(tiny_config, {key: FAULTS[key]})
    tail = key if key != "mesh.space" else "mesh.fsdp x space"
    with pytest.raises(ValueError, match=rf"{tail} is '?{FAULTS[key] if tail == key else '1 x 3'}"):
        check_run(tiny_config)
