"""What is better, and after how many evaluations that are not a run ends."""

import math

import pytest

from maskrcnn_jax.checkpoints.best import is_better
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.training.early_stopping import reason_to_stop


@pytest.mark.parametrize(
    ("metric", "new", "old", "expected"),
    [
        ("segm/AP", 0.2, 0.1, True),
        ("segm/AP", 0.1, 0.2, False),
        ("segm/AP", 0.1, 0.1, False),
        ("loss_mask", 0.1, 0.2, True),
        ("loss_mask", 0.2, 0.1, False),
        ("loss_total", 0.1, 0.1, False),
        ("loss_total", math.nan, 0.1, False),
        ("segm/AP", None, None, False),
        ("segm/AP", -1.0, None, False),
        ("segm/AP", math.nan, -1.0, False),
        ("segm/AP", 0.0, -1.0, True),
        ("loss_total", -2.0, -1.0, True),
        ("loss_total", 5.0, math.inf, True),
    ],
)
def test_higher_is_better_but_for_losses(metric, new, old, expected):
    assert is_better(metric, new, old) is expected


def _rows(metric, values):
    return [
        {"kind": "eval", "step": 10 * number, metric: value}
        for number, value in enumerate(values, start=1)
    ]


@pytest.mark.parametrize(
    ("metric", "values", "stops"),
    [
        ("segm/AP", [0.1, 0.3, 0.2], False),
        ("segm/AP", [0.1, 0.3, 0.2, 0.3], True),  # as good is not better
        ("segm/AP", [0.1, 0.3, 0.2, 0.31], False),
        ("segm/AP", [0.3, None, math.nan], True),
        ("loss_total", [2.0, 1.0, 1.5], False),
        ("loss_total", [2.0, 1.0, 1.5, 1.2], True),
        ("loss_total", [2.0, 1.0, 1.5, 0.9], False),
    ],
)
def test_patience_is_counted_from_the_best(base_train, metric, values, stops):
    set_values(base_train, dict(best_metric=metric, early_stop=2))
    assert bool(reason_to_stop(_rows(metric, values), base_train)) is stops


def test_the_reason_names_the_best_and_what_goes_on(base_train):
    base_train.early_stop = 2
    reason = reason_to_stop(_rows("segm/AP", [0.1, 0.3, 0.2, 0.3]), base_train)
    assert "segm/AP was no better than 0.3000 at step 20 in 2 evaluations" in reason
    assert "the last of step 40 (config.train.early_stop is 2" in reason
    base_train.early_stop = 0
    assert reason_to_stop(_rows("segm/AP", [0.3] * 9), base_train) == ""


def test_evaluations_without_the_metric_do_not_count(base_train):
    set_values(base_train, dict(best_metric="loss_total", early_stop=2))
    rows = _rows("segm/AP", [0.1] * 5) + _rows("loss_total", [1.0, 2.0])
    assert reason_to_stop(rows, base_train) == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"early_stop": -1}, "early_stop is -1"),
        ({"early_stop": 2, "eval_every": 0}, "eval_every is 0, so that there is one at the end"),
    ],
)
def test_settings_that_cannot_be_meant(base_train, changes, message):
    base_train.validate()
    set_values(base_train, changes)
    with pytest.raises(ValueError, match=message):
        base_train.validate()
