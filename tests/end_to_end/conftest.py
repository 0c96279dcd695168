"""Runs of the commands in processes of their own, as a user starts them."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def start_command():
    """Gives a process that runs a command of the repository, its output a pipe of text."""

    def start(command: str, *arguments: str) -> subprocess.Popen:
        # Compiled programs are shared with the other tests.
        cache = f"--compilation_cache={jax.config.jax_compilation_cache_dir}"
        return subprocess.Popen(
            [sys.executable, command, cache, *arguments],
            cwd=ROOT,
            env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture(scope="session")
def run_command(start_command):
    """Gives `(exit status, stdout, stderr)` of a command that has ended."""

    def run(command: str, *arguments: str) -> tuple[int, str, str]:
        process = start_command(command, *arguments)
        out, err = process.communicate(timeout=600)
        return process.returncode, out, err

    return run
