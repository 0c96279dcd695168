"""A signal while the main thread is in code that runs no handler, as XLA's compiler."""

import subprocess
import sys
import time

import pytest


def run(doing: str, seconds: float) -> subprocess.CompletedProcess:
    program = f"""
import hashlib, os, signal, sys, threading
from pathlib import Path
from maskrcnn_jax.training.run.activity import Activity
from maskrcnn_jax.training.run.emergency import leaves_compilation

activity = Activity(0)
signal.signal(signal.SIGTERM, lambda *_: print("handled", flush=True))
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
with leaves_compilation({seconds}, activity, Path("nowhere")):
    with activity.doing({doing!r}, is_pause=True):
        # One call into C that takes seconds, and runs no handler.
        hashlib.pbkdf2_hmac("sha256", b"a", b"b", 6_000_000)
print("ended", flush=True)
"""
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120
    )


def test_a_compilation_is_left_in_time():
    began = time.monotonic()
    done = run("compilation", 0.2)
    assert (done.returncode, done.stdout) == (128 + 15, "")
    assert "compilation has not ended within 0.2 s of the signal" in done.stderr
    assert "There is no checkpoint in nowhere" in done.stderr
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("doing", "seconds"), [("a step on the devices", 0.2), ("compilation", 60)]
)
def test_nothing_else_is_left(doing, seconds):
    done = run(doing, seconds)
    assert (done.returncode, done.stdout) == (0, "handled\nended\n")
