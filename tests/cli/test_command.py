"""How a command ends that is one of several processes."""

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from maskrcnn_jax.cli import processes as command
from tests.forked import Forked

ROOT = Path(__file__).resolve().parents[2]
HEARTBEAT = 5


@pytest.mark.parametrize(("failing", "way"), [(0, "error"), (1, "error"), (1, "kill")])
def test_when_one_process_fails_all_end_in_time(failing, way):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    program = ["tests/failing_process.py", str(failing), way]
    program += [f"--coordinator={address}", "--num_processes=2", f"--heartbeat_timeout={HEARTBEAT}"]
    processes = [Forked(*program, f"--process_id={i}") for i in range(2)]
    try:
        errors = ["", ""]
        _, errors[failing] = processes[failing].communicate(timeout=200)
        began = time.monotonic()
        _, errors[1 - failing] = processes[1 - failing].communicate(timeout=200)
        seconds = time.monotonic() - began
    finally:
        for process in processes:
            process.kill()
    status = 2 if way == "error" else -signal.SIGKILL
    assert processes[failing].returncode == status, errors[failing]
    assert processes[1 - failing].returncode != 0, errors[1 - failing]
    assert seconds < HEARTBEAT + 25
    assert (f"process {failing}: error: no such image" in errors[failing]) == (way == "error")
    assert "no such image" not in errors[1 - failing]
    for index, text in enumerate(errors):
        last = text.splitlines()[-1]
        assert last.startswith(f"process {index} ({socket.gethostname()}): ended early"), text
        assert f"all end within {HEARTBEAT} s" in last
        assert "There is no checkpoint in nowhere" in last


WAYS_OUT = {
    "done": ("pass", 0, ""),
    "a mistake": ("raise ValueError('no such image')", 2, "error: no such image\n"),
    "Ctrl-C": ("raise KeyboardInterrupt", 130, "interrupted\n"),
    "a signal": ("raise Interrupted(15, 'stopped; saved')", 143, "stopped; saved\n"),
}


@pytest.mark.parametrize("way", WAYS_OUT)
def test_the_status_is_that_of_the_command_whatever_the_end_of_the_interpreter_does(way):
    what, status, said = WAYS_OUT[way]
    # `crash` stands for what threads of native code do when the interpreter goes.
    program = f"""
import atexit, os, sys
from maskrcnn_jax.cli import processes
from maskrcnn_jax.parallel.interrupts import Interrupted

@atexit.register
def crash():
    os.abort()

def work():
    sys.stdout.write("printed")
    {what}

processes.run(work, debug=False)
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True,
                           text=True, timeout=200)  # fmt: skip
    assert (ended.returncode, ended.stdout, ended.stderr) == (status, "printed", said)


def test_late_errors_of_a_failed_write_are_left_out():
    seen = []
    hook = command._without_late_writes(seen.append)
    late, other = (
        SimpleNamespace(exc_value=RuntimeError(text)) for text in ("Event loop is closed", "else")
    )
    hook(late)
    hook(other)
    assert seen == [other]
