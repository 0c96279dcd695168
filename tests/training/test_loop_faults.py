"""The loop on a disk that becomes full, and with checkpoints that are missing or damaged."""

import errno
import os
import shutil
import signal

import pytest

from maskrcnn_jax.checkpoints.manager import Checkpoints
from maskrcnn_jax.parallel.interrupts import Interrupted
from maskrcnn_jax.training.run.log import read
from tests.training.test_loop import _assert_same, _Data, _final, config, data, train

__all__ = ["config", "data"]  # fixtures


def _steps(workdir, folder="checkpoints"):
    return sorted((path.name for path in (workdir / folder).iterdir()), key=str)


@pytest.fixture
def whole(config, tmp_path):
    """The end of a run that nothing has disturbed."""
    config.train.eval_every = 0
    train(config, tmp_path / "whole", _Data().training_data())
    return _final(tmp_path / "whole")


def _fail(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_failed_save_ends_nothing(config, data, whole, tmp_path, capsys, monkeypatch):
    workdir = tmp_path / "run"
    original = Checkpoints.save

    def save(checkpoints, state, step, metrics):
        with monkeypatch.context() as patch:
            if step == 2:
                patch.setattr(checkpoints._last.manager, "save", _fail)
            return original(checkpoints, state, step, metrics)

    monkeypatch.setattr(Checkpoints, "save", save)
    train(config, workdir, data.training_data())
    said = capsys.readouterr().err
    assert "checkpoint of step 2 could not be written" in said
    assert "There is none before it; training continues" in said
    assert _steps(workdir) == ["4", "6"]
    rows = {row["step"]: row["checkpoint_failures"] for row in read(workdir) if "loss_total" in row}
    assert rows == {2: 0.0, 4: 1.0, 6: 1.0}
    _assert_same(whole, _final(workdir))


def test_a_last_state_that_cannot_be_saved_is_an_error(
    config, data, whole, tmp_path, capsys, monkeypatch
):
    workdir = tmp_path / "run"

    def fail():
        for manager in managers:
            manager.save = _fail

    managers = []
    original = Checkpoints.__init__

    def init(checkpoints, *arguments):
        original(checkpoints, *arguments)
        managers.extend((checkpoints._last.manager, checkpoints._best.manager))

    monkeypatch.setattr(Checkpoints, "__init__", init)
    data.before[5] = lambda batch: fail()
    with monkeypatch.context() as patch:
        patch.setattr("maskrcnn_jax.checkpoints.folder.CheckpointFolder._renew", _nothing)
        with pytest.raises(OSError, match=r"after step 6 could not be saved .* is of step 4, in"):
            train(config, workdir, data.training_data())
    assert _steps(workdir) == ["2", "4"]
    # The same command resumes, and comes to the same end.
    train(config, workdir, data.training_data())
    _assert_same(whole, _final(workdir))


def _nothing(*_):
    pass


def test_a_signal_without_room_says_what_stands(config, data, tmp_path, monkeypatch):
    monkeypatch.setattr("maskrcnn_jax.checkpoints.folder.CheckpointFolder._renew", _nothing)

    def stop(batch):
        monkeypatch.setattr("orbax.checkpoint.CheckpointManager.save", _fail)
        os.kill(os.getpid(), signal.SIGTERM)

    data.before[4] = stop
    with pytest.raises(Interrupted) as interrupted:
        train(config, tmp_path, data.training_data())
    message = str(interrupted.value)
    assert "stopped by SIGTERM after step 5; NOT saved" in message
    assert "The last complete checkpoint is of step 4" in message
    assert "The same command resumes from there" in message


@pytest.mark.parametrize("kind", ["deleted", "cut", "metadata"])
def test_a_run_goes_on_from_the_checkpoint_before(config, data, whole, tmp_path, capsys, kind):
    workdir = tmp_path / "run"
    config.train.steps = 4
    train(config, workdir, data.training_data())
    newest = workdir / "checkpoints" / "4"
    assert _steps(workdir, "best") == ["4"]
    if kind == "deleted":
        shutil.rmtree(newest)
    elif kind == "metadata":
        shutil.rmtree(newest / "metadata")
    else:
        files = (path for path in (newest / "optimizer").rglob("*") if path.is_file())
        for file in files:
            os.truncate(file, file.stat().st_size // 2)
    config.train.steps = 6
    capsys.readouterr()
    train(config, workdir, data.training_data())
    out, err = capsys.readouterr()
    assert "resuming from step 2" in out
    assert "the best checkpoint is of step 4, ahead of this one" in out
    assert ("checkpoints/4 is damaged" in err) is (kind != "deleted")
    _assert_same(whole, _final(workdir))


def test_a_run_does_not_start_over_where_none_can_be_read(config, data, tmp_path):
    train(config, tmp_path, data.training_data())
    for folder in (tmp_path / "checkpoints").iterdir():
        shutil.rmtree(folder / "metadata")
    with pytest.raises(ValueError, match=r"is damaged: .* no older one to resume from"):
        train(config, tmp_path, data.training_data())
    assert len(_steps(tmp_path)) == 1
    assert len(_steps(tmp_path, "damaged")) == 2


def test_a_file_in_the_way_is_an_error_before_the_first_step(config, data, tmp_path):
    (tmp_path / "best").touch()
    with pytest.raises(OSError, match=r"cannot be written.*A file of that name is in the way"):
        train(config, tmp_path, data.training_data())
    assert data.served == []
