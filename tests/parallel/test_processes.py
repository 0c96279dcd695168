"""Who the processes are, what they agree on, and what one says when it ends too early."""

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from maskrcnn_jax.parallel import agreement, processes
from maskrcnn_jax.parallel.exit_notice import newest_checkpoint
from maskrcnn_jax.parallel.processes import Cluster
from tests.forked import Forked

ROOT = Path(__file__).resolve().parents[2]


def test_nothing_is_joined_without_flags():
    processes.join(Cluster())
    assert not processes.is_one_of_several()
    assert processes.name() == ""


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(num_processes=2, process_id=0), "--coordinator must be given too"),
        (dict(coordinator="a:1"), "--num_processes, --process_id must be given too"),
        (dict(coordinator="a:1", num_processes=2, process_id=2), "expected 0 to 1"),
        (dict(coordinator="a:1", num_processes=0, process_id=0), "--num_processes is 0"),
        (dict(coordinator="a", num_processes=2, process_id=0), "expected HOST:PORT"),
        (dict(coordinator="a:99999", num_processes=2, process_id=0), "expected HOST:PORT"),
        (dict(local_devices=(0,)), "--local_devices says what one of several"),
        (
            dict(coordinator="a:1", num_processes=2, process_id=0, heartbeat_timeout=0),
            "--heartbeat_timeout is 0",
        ),
    ],
)
def test_incomplete_or_impossible_flags_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        processes.join(Cluster(**given))
    assert not processes.is_one_of_several()


def test_one_process_agrees_with_itself(tmp_path):
    assert agreement.Agreement()(15) == 15
    assert agreement.total({"a": 2.0}) == {"a": 2.0}
    assert agreement.of_first({"a": 0.1}) == {"a": 0.1}
    agreement.check_same({"a": 1})
    agreement.check_shared(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def test_processes_agree_or_find_out_that_they_do_not(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    program = ("tests/parallel/two_processes.py", address)
    processes = [Forked(*program, str(i), str(tmp_path)) for i in range(2)]
    found = []
    try:
        for index, process in enumerate(processes):
            out, err = process.communicate(timeout=200)
            assert process.returncode == 0, err
            assert err.replace("\n", "") == ""  # no notice
            assert f"process {index} of 2 on {socket.gethostname()}: 2 local devices" in out
            assert f"4 in all; coordinator {address}" in out
            found.append(json.loads(out.splitlines()[-1]))
    finally:
        for process in processes:
            process.kill()
    # Asked in turn: process 0 with 0, 2, 0, 0 and process 1 with 0, 15, 0, 0; one call late.
    assert [f["agreed"] for f in found] == [[0, 0, 15, 0]] * 2
    assert [f["total"] for f in found] == [{"a": 3.0, "b": 30.0}] * 2
    assert [f["of_first"] for f in found] == [{"a": 0.1, "b": None}] * 2
    for f in found:
        assert "differ from process 0: the seed (process 1)" in f["not_same"]
        assert "the classes" not in f["not_same"]
        assert "process 1 does not see what process 0 writes to" in f["not_shared"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "shared"]
    assert list((tmp_path / "shared").iterdir()) == []


SPEAKER = """
import os, signal, sys
from maskrcnn_jax.parallel.exit_notice import ExitNotice
words = ExitNotice("process 3")
words.set_message("never said")
words.set_message("gone too early.")
words.name_checkpoint_in(sys.argv[1])
os.makedirs(sys.argv[1] + "/12")
if sys.argv[2] == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "exit":
    os._exit(3)
words.cancel()
"""


@pytest.mark.parametrize(("way", "status"), [("kill", -signal.SIGKILL), ("exit", 3), ("well", 0)])
def test_exit_notice_is_printed_however_the_process_ends(tmp_path, way, status):
    folder = tmp_path / "checkpoints"
    ended = subprocess.run(
        [sys.executable, "-c", SPEAKER, str(folder), way],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == status, ended.stderr
    said = f"process 3: gone too early. The last complete checkpoint is of step 12, in {folder}.\n"
    assert ended.stderr == ("" if way == "well" else said)


def test_a_half_written_checkpoint_is_not_the_newest(tmp_path):
    assert "no checkpoint" in newest_checkpoint(tmp_path / "absent")
    (tmp_path / "8.orbax-checkpoint-tmp").mkdir()
    assert "no complete checkpoint" in newest_checkpoint(tmp_path)
    for name in ("4", "12", "damaged-16"):
        (tmp_path / name).mkdir()
    assert "is of step 12" in newest_checkpoint(tmp_path)
