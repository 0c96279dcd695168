"""The words before the first step."""

import jax
import jax.numpy as jnp

from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.training.run.summary import describe, parameter_table


def test_parameter_table_counts_by_module():
    params = {
        "backbone": {
            "stem": {"conv": {"kernel": jnp.zeros((3, 4))}, "norm": {"scale": jnp.zeros(4)}},
            "top": {"kernel": jnp.zeros((10, 100)), "bias": jnp.zeros(100)},
        },
        "head": {"bias": jnp.zeros(7)},
    }
    trainable = jax.tree.map(lambda leaf: leaf.ndim == 2 and leaf.shape[0] == 10, params)
    trainable["head"]["bias"] = True
    table = parameter_table(params, trainable).splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in table[1:]}
    assert rows == {
        "backbone/stem": ["2", "16", "frozen"],
        "backbone/top": ["2", "1,100", "1,000"],
        "head": ["1", "7", "7"],
        "total": ["5", "1,123", "1,007"],
    }


def test_describe_says_what_is_out_of_the_ordinary(tiny_config, one_device_mesh):
    ordinary = describe(tiny_config, one_device_mesh, local_batch=2, num_images=12)
    assert "parts" not in ordinary
    assert "remat" not in ordinary
    assert "average" not in ordinary
    set_values(
        tiny_config.train,
        dict(batch_size=64, learning_rate_rule="sqrt", accumulate=2, remat="all", ema_decay=0.999),
    )
    text = describe(tiny_config, one_device_mesh, local_batch=64, num_images=12)
    for part in (
        "64 from this process, in 2 parts",
        "learning rate 0.01 (= 0.005 x sqrt(64/16))",
        "remat      all",
        "decay 0.999; it is evaluated",
    ):
        assert part in text


def test_describe_says_what_will_run(tiny_config, one_device_mesh):
    text = describe(tiny_config, one_device_mesh, local_batch=2, num_images=12)
    for part in (
        "1 x cpu",
        "mesh data 1 x fsdp 1 x space 1",
        "2 images per step, 2 from this process",
        "64x64",
        "8 steps = 1.3 epochs of 12 images",
        "layers     2+",
    ):
        assert part in text
