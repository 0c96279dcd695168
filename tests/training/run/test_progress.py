"""Sums, speeds and the check for losses that are not finite."""

import math

import pytest

from maskrcnn_jax.training.run.progress import NonFiniteLoss, Progress, duration


class _Clock:
    """Seconds that pass only when told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def _metrics(loss, norm=1.0):
    return {"loss_mask": loss, "loss_total": loss, "learning_rate": 0.1, "grad_norm": norm}


def _info(ids=(7, "b.jpg"), cut=0, skipped=()):
    return {"image_ids": list(ids), "num_cut": cut, "skipped": list(skipped), "epoch": 2}


def test_a_row_by_hand():
    clock = _Clock()
    progress = Progress(10, 20, batch_size=4, clock=clock)
    with progress.pause():
        clock.now += 50  # compilation counts for nothing
    with progress.waiting():
        clock.now += 1
    progress.add(11, _metrics(1.0), _info(cut=2))
    clock.now += 3
    progress.add(12, _metrics(3.0), _info(cut=1, skipped=["x"]))
    progress.fetch()
    row = progress.row(12, epoch=2)
    assert row["loss_total"] == 2.0
    assert row["instances_cut"] == 3
    assert row["images_skipped"] == 1
    assert row["images_per_second"] == pytest.approx(8 / 4)
    assert row["data_wait_seconds"] == 1
    assert row["data_wait_share"] == pytest.approx(0.25)
    assert row["eta_seconds"] == pytest.approx(8 * 4 / 2)
    line = progress.line(12, row)
    for part in ("step 12/20", "epoch 2", "loss 2.0000", "mask 2.0000", "lr 1.00e-01"):
        assert part in line
    for part in ("2.00 images/s", "data wait 25 %", "eta 0:00:16", "instances cut 3"):
        assert part in line


def test_a_row_starts_anew():
    clock = _Clock()
    progress = Progress(0, 4, batch_size=1, clock=clock)
    progress.add(1, _metrics(5.0), _info(cut=1))
    clock.now += 1
    progress.fetch()
    progress.row(1, 0)
    progress.add(2, _metrics(1.0), _info())
    clock.now += 3
    progress.fetch()
    row = progress.row(2, 0)
    assert row["loss_total"] == 1.0
    assert row["instances_cut"] == 0
    assert row["images_per_second"] == pytest.approx(1 / 3)
    assert row["eta_seconds"] == pytest.approx(2 * (1 + 3) / 2)  # over all steps so far


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (1.0, math.nan)])
def test_what_is_not_finite_is_told_one_step_later(loss, norm):
    progress = Progress(0, 4, batch_size=1)
    progress.add(1, _metrics(1.0), _info())
    progress.add(2, _metrics(loss, norm), _info())
    with pytest.raises(NonFiniteLoss, match="step 2 gave") as error:
        progress.add(3, _metrics(1.0), _info(ids=(8, 9)))
    message = str(error.value)
    for part in (f"loss_mask {loss:g}", f"grad_norm {norm:g}", "7, b.jpg", "learning_rate"):
        assert part in message


def test_durations():
    assert [duration(s) for s in (0, 59.6, 3661, 360_000)] == [
        "0:00:00",
        "0:01:00",
        "1:01:01",
        "100:00:00",
    ]
