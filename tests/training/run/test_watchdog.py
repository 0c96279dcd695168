"""When a step is reported, what the report says, and the end of the process."""

import threading

import pytest

from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.training.run.activity import Activity
from maskrcnn_jax.training.run.watchdog import (
    EXIT_STATUS,
    Watchdog,
    stacks_of_threads,
)


class _Clock:
    """Seconds that pass only when told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class _Run:
    """A run whose steps take as long as told."""

    def __init__(self, settings, workdir):
        self.clock = _Clock()
        self.activity = Activity(0, self.clock)
        self.left = []
        self.step = 0
        self.dog = Watchdog(self.activity, settings, workdir, leave=self.left.append)

    def steps(self, number, seconds):
        for _ in range(number):
            self.clock.now += seconds
            self.step += 1
            self.activity.step_done(self.step)

    def after(self, seconds):
        self.clock.now += seconds
        self.dog.look()


@pytest.fixture
def settings(base_train):
    set_values(
        base_train, dict(watchdog_factor=10.0, watchdog_seconds=60.0, watchdog_abort_seconds=0.0)
    )
    return base_train


def test_a_step_is_reported_once_after_so_many_medians(settings, tmp_path, capsys):
    run = _Run(settings, tmp_path)
    run.steps(9, seconds=8)
    run.after(79)
    assert capsys.readouterr().err == ""
    with run.activity.doing("waiting for data"):
        run.after(2)
        run.after(100)
    said = capsys.readouterr().err
    assert said.count("watchdog: step 10 has taken 81.0 s so far") == 1
    assert "median of the steps before it: 8 s). What it is at: waiting for data." in said
    written = (tmp_path / "stacks-0.txt").read_text()
    assert written.count("step 10 has taken 81.0 s") == 1
    run.steps(1, seconds=0)
    run.after(1)
    assert "step 10 has ended after all" in capsys.readouterr().err
    run.after(200)  # the next one is another matter
    assert "step 11 has taken 201.0 s" in capsys.readouterr().err
    assert (tmp_path / "stacks-0.txt").read_text().count("so far") == 2


def test_short_steps_have_a_floor_of_seconds(settings, tmp_path, capsys):
    run = _Run(settings, tmp_path)
    run.steps(9, seconds=0.5)
    run.after(59)
    assert capsys.readouterr().err == ""
    run.after(1)
    assert "step 10 has taken 60.0 s" in capsys.readouterr().err


def test_before_there_is_a_median_the_limit_is_wide(settings, tmp_path, capsys):
    run = _Run(settings, tmp_path)
    run.after(599)
    assert capsys.readouterr().err == ""
    run.after(1)
    assert "too few steps were done" in capsys.readouterr().err


def test_pauses_are_not_watched(settings, tmp_path, capsys):
    settings.watchdog_abort_seconds = 5000.0
    run = _Run(settings, tmp_path)
    run.steps(9, seconds=1)
    with run.activity.doing("an evaluation", is_pause=True):
        run.after(10_000)
    run.after(59)
    assert capsys.readouterr().err == ""
    assert run.left == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seconds", [60.0, 0.0])
def test_the_process_ends_where_told_to(settings, tmp_path, capsys, seconds):
    set_values(settings, dict(watchdog_seconds=seconds, watchdog_abort_seconds=300.0))
    run = _Run(settings, tmp_path)
    run.steps(9, seconds=1)
    run.after(299)
    assert run.left == []
    run.after(1)
    assert run.left == [EXIT_STATUS]
    said = capsys.readouterr().err
    assert "step 10 has taken 300 s, and config.train.watchdog_abort_seconds is 300" in said
    assert "The last checkpoint stands" in said
    assert said.count("What it is at") == 1  # the stacks are told in any case


def test_a_file_that_cannot_be_written_keeps_nothing_back(settings, tmp_path, capsys):
    run = _Run(settings, tmp_path / "absent")
    run.steps(9, seconds=1)
    run.after(60)
    said = capsys.readouterr().err
    assert "stacks-0.txt cannot be written" in said
    assert "thread " in said


def test_the_file_of_stacks_is_not_written_through_a_link(settings, tmp_path, capsys):
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (tmp_path / "stacks-0.txt").symlink_to(precious)
    run = _Run(settings, tmp_path)
    run.steps(9, seconds=1)
    run.after(60)
    assert "stacks-0.txt is a link" in capsys.readouterr().err
    assert precious.read_text() == "kept"


def test_the_stack_of_every_other_thread_is_told(settings):
    def stand_here(started, ended):
        started.set()
        ended.wait()

    started, ended = threading.Event(), threading.Event()
    thread = threading.Thread(target=stand_here, args=(started, ended), name="standing")
    thread.start()
    try:
        assert started.wait(10)
        stacks = stacks_of_threads()
    finally:
        ended.set()
        thread.join()
    assert f"thread standing ({thread.ident})" in stacks
    assert "in stand_here" in stacks
    assert "test_the_stack_of_every_other_thread_is_told" not in stacks


def test_the_thread_reports_by_itself_and_ends(settings, tmp_path, capsys):
    set_values(settings, dict(watchdog_factor=1.0, watchdog_seconds=0.04))
    activity = Activity(0)
    for step in range(1, 7):
        activity.step_done(step)
    before = threading.active_count()
    with Watchdog(activity, settings, tmp_path):
        reported = threading.Event()
        for _ in range(1000):
            if reported.wait(0.01) or (tmp_path / "stacks-0.txt").exists():
                break
    assert threading.active_count() == before
    written = (tmp_path / "stacks-0.txt").read_text()
    assert "step 7 has taken" in written
    assert "thread MainThread" in written
    assert "test_the_thread_reports_by_itself_and_ends" in written


def test_off_means_no_thread(settings, tmp_path):
    settings.watchdog_seconds = 0.0
    before = threading.active_count()
    with Watchdog(Activity(0), settings, tmp_path):
        assert threading.active_count() == before


@pytest.mark.parametrize(
    ("key", "value"),
    [("watchdog_factor", 0.5), ("watchdog_seconds", -1.0), ("watchdog_abort_seconds", -1.0)],
)
def test_impossible_settings_are_named(settings, key, value):
    settings.validate()
    setattr(settings, key, value)
    with pytest.raises(ValueError, match=rf"config\.train\.{key} is {value}"):
        settings.validate()
