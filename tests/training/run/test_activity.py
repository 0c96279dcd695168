"""How long steps take, seen from another thread."""

import pytest

from maskrcnn_jax.training.run.activity import Activity


class _Clock:
    """Seconds that pass only when told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return _Clock()


def test_seconds_and_median_by_hand(clock):
    activity = Activity(10, clock)
    for step, seconds in enumerate((9, 1, 2, 3, 4), start=11):
        assert activity.now().usual is None
        clock.now += seconds
        activity.step_done(step)
    clock.now += 7
    now = activity.now()
    assert (now.step, now.seconds, now.usual, now.is_paused) == (16, 7, 3, False)


def test_the_median_forgets_what_is_long_past(clock):
    activity = Activity(0, clock)
    for step in range(1, 61):
        clock.now += 100 if step <= 30 else 1
        activity.step_done(step)
    assert activity.now().usual == 1


def test_pauses_do_not_count(clock):
    activity = Activity(0, clock)
    clock.now += 2
    with activity.doing("evaluation", is_pause=True):
        clock.now += 50
        with activity.doing("waiting for data"):
            clock.now += 50
            assert activity.now().doing == "waiting for data"
            assert activity.now().is_paused
        with activity.doing("another pause", is_pause=True):  # counted once
            clock.now += 1
    clock.now += 1
    assert activity.now().seconds == 3
    assert not activity.now().is_paused


def test_what_is_done_ends_with_an_error(clock):
    activity = Activity(0, clock)
    usual = activity.now().doing
    with pytest.raises(OSError, match="no data"), activity.doing("waiting for data"):
        raise OSError("no data")
    assert activity.now().doing == usual
