"""The schedules of configs/coco.py, as the command line names them."""

import pytest
from absl import flags

from configs.coco import SCHEDULES, get_config
from maskrcnn_jax.config_flags import faulty_flag, read
from maskrcnn_jax.training.optimizer import make_schedule


def test_a_schedule_comes_after_the_files_name():
    config = read("configs/coco.py:2x", ["--config.train.batch_size=8"])
    assert config.train.steps == 180_000
    assert config.train.decay_steps == (120_000, 160_000)
    assert config.train.batch_size == 8
    assert config.name == "coco_2x"
    assert read("configs/coco.py") == get_config("1x")


def test_every_schedule_falls_as_it_should():
    for name, ends in (("1x", 2e-4), ("2x", 2e-4), ("3x", 2e-4), ("cosine", 0.0)):
        train = get_config(name).train
        schedule = make_schedule(train)
        assert float(schedule(train.warmup_steps)) == pytest.approx(0.02, rel=1e-3)
        assert float(schedule(train.steps)) == pytest.approx(ends, abs=1e-9, rel=1e-5)
        assert all(step < train.steps for step in train.decay_steps)
    assert set(SCHEDULES) == {"1x", "2x", "3x", "cosine"}


def test_an_unknown_schedule_is_named_without_a_traceback():
    with pytest.raises(ValueError) as error:  # noqa: PT011
        read("configs/coco.py:4x")
    assert str(error.value) == (
        "flag --config=configs/coco.py:4x: there is no schedule '4x'; give "
        "--config=configs/coco.py:NAME with one of 1x, 2x, 3x, cosine, r101, x101, lsj, lsj_paste"
    )
    assert faulty_flag(flags.Error("Unknown command line flag 'x'")).endswith("flag 'x'")
