"""How a command ends that is one of several processes."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEARTBEAT = 5


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_in_one_process_ends_all_in_time(failing):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    program = [sys.executable, str(ROOT / "tests/failing_process.py"), str(failing)]
    program += [f"--coordinator={address}", "--num_processes=2", f"--heartbeat_timeout={HEARTBEAT}"]
    processes = [
        subprocess.Popen([*program, f"--process_id={i}"], env=environment, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for i in range(2)
    ]  # fmt: skip
    try:
        errors = ["", ""]
        _, errors[failing] = processes[failing].communicate(timeout=200)
        began = time.monotonic()
        _, errors[1 - failing] = processes[1 - failing].communicate(timeout=200)
        seconds = time.monotonic() - began
    finally:
        for process in processes:
            process.kill()
    assert processes[failing].returncode == 2, errors[failing]
    assert processes[1 - failing].returncode != 0, errors[1 - failing]
    assert seconds < HEARTBEAT + 25
    assert f"process {failing}: error: no such image" in errors[failing]
    assert "no such image" not in errors[1 - failing]
    for index, text in enumerate(errors):
        last = text.splitlines()[-1]
        assert last.startswith(f"process {index} ({socket.gethostname()}): ended early"), text
        assert f"all end within {HEARTBEAT} s" in last
        assert "There is no checkpoint in nowhere" in last
