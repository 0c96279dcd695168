"""Runs of the commands in processes of their own, as a user starts them."""

import jax
import pytest

from tests.forked import Forked


@pytest.fixture(scope="session")
def start_command():
    """Gives a process that runs a command of the repository, its output a pipe of text."""

    def start(command: str, *arguments: str, prelude: str = "") -> Forked:
        # Compiled programs are shared with the other tests.
        cache = f"--compilation_cache={jax.config.jax_compilation_cache_dir}"
        return Forked(command, cache, *arguments, prelude=prelude)

    return start


@pytest.fixture(scope="session")
def run_command(start_command):
    """Gives `(exit status, stdout, stderr)` of a command that has ended."""

    def run(command: str, *arguments: str, prelude: str = "") -> tuple[int, str, str]:
        process = start_command(command, *arguments, prelude=prelude)
        out, err = process.communicate(timeout=600)
        return process.wait(), out, err

    return run
