"""The lock of a work directory, held by a process of its own."""

import errno
import os
import socket
import subprocess
import sys

import pytest

from maskrcnn_jax.training.run import lock as run_lock
from maskrcnn_jax.training.run.lock import check_free, only_run_in

pytest.importorskip("fcntl", reason="this platform has no locks of files")

HOLDER = """
import sys, time
from maskrcnn_jax.training.run.lock import only_run_in
with only_run_in(sys.argv[1]):
    print("held", flush=True)
    time.sleep(120)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that has the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait(60)
        process.stdout.close()


def test_a_second_run_is_refused_until_the_first_is_killed(holder, tmp_path):
    name = f"process {holder.pid} on {socket.gethostname()}"
    for _ in range(2):  # being refused changes nothing
        with pytest.raises(ValueError, match="another run") as refused, only_run_in(tmp_path):
            pytest.fail("both hold it")
        assert f"({name}) is writing to {tmp_path}" in str(refused.value)
        with pytest.raises(ValueError, match=f"another run .{name}"):
            check_free(tmp_path)
    holder.kill()  # SIGKILL
    holder.wait(60)
    check_free(tmp_path)
    with only_run_in(tmp_path):
        assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")


def test_it_is_free_after_an_error(tmp_path):
    with pytest.raises(KeyError), only_run_in(tmp_path):
        raise KeyError
    with only_run_in(tmp_path), pytest.raises(ValueError, match="another run"):
        check_free(tmp_path)
    check_free(tmp_path)


def test_to_ask_makes_nothing(tmp_path):
    check_free(tmp_path / "run")
    check_free(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", [errno.ENOLCK, errno.EOPNOTSUPP, None])
def test_a_run_goes_on_where_there_are_no_locks(tmp_path, monkeypatch, capsys, fault):
    def flock(*_):
        raise OSError(fault, os.strerror(fault))

    if fault is None:
        monkeypatch.setattr(run_lock, "fcntl", None)
    else:
        monkeypatch.setattr(run_lock.fcntl, "flock", flock)
    with only_run_in(tmp_path), only_run_in(tmp_path):
        pass
    assert ".lock cannot be locked" in capsys.readouterr().err


WRITTEN = (".lock", "checkpoints", "best/3", "damaged", "eval/pictures", "tensorboard/events")


@pytest.mark.parametrize("name", WRITTEN)
def test_a_run_writes_through_no_link(tmp_path, name):
    precious, run = tmp_path / "precious", tmp_path / "run"
    precious.write_text("kept")
    (run / name).parent.mkdir(parents=True)
    (run / name).symlink_to(precious)
    for enter in (check_free, lambda folder: only_run_in(folder).__enter__()):
        with pytest.raises(OSError, match=f"{name} is a link to {precious}"):
            enter(run)
    assert precious.read_text() == "kept"
