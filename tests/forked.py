"""Commands in processes of their own, forked from one that has imported what all of them do.

Importing takes two seconds of each command, and there are a hundred of them.
"""

import gc
import io
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

import jax

ROOT = Path(__file__).resolve().parents[1]

# Puts these packages out of reach.
NO_TENSORFLOW = """
import sys
from importlib.machinery import PathFinder
class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        absent = name.partition(".")[0] in ("tensorflow", "tensorflow_datasets")
        return None if absent else super().find_spec(name, path, target)
assert "tensorflow" not in sys.modules
sys.meta_path[sys.meta_path.index(PathFinder)] = Without
"""

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.preloaded"])


class Forked:
    """A process that runs a command; it is used like a `subprocess.Popen` with pipes of text.

    Args:
        arguments: of Python: a file or -m and a module, and what follows.
        prelude: Python code that runs before.
        **environment: variables that this process does not have.
    """

    def __init__(self, *arguments: str, prelude: str = "", **environment: str) -> None:
        (out, out_end), (err, err_end) = (_CONTEXT.Pipe(duplex=False) for _ in range(2))
        wanted = {**os.environ, "JAX_PLATFORMS": "cpu", **environment}
        self._process = _CONTEXT.Process(
            target=_run, args=(arguments, prelude, wanted, out_end, err_end)
        )
        self._process.start()
        self.stdout, self.stderr = _text(out), _text(err)
        for connection in (out_end, err_end):
            connection.close()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("the command", timeout or 0.0)
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Returns the rest of both streams when the process has ended."""
        said: list[list[str]] = [[], []]
        readers = [
            threading.Thread(target=lines.extend, args=(stream,), daemon=True)
            for lines, stream in zip(said, (self.stdout, self.stderr), strict=True)
        ]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join(30)
        out, err = ("".join(lines) for lines in said)
        return out, err

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self._process.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run(
    *arguments: str, prelude: str = "", timeout: float = 600, **environment: str
) -> tuple[int, str, str]:
    """Returns `(exit status, stdout, stderr)` of a command that has ended."""
    process = Forked(*arguments, prelude=prelude, **environment)
    out, err = process.communicate(timeout)
    return process.wait(), out, err


def _text(connection: Connection) -> IO[str]:
    """Returns what comes from the end of a pipe, which is closed."""
    with connection:
        return open(os.dup(connection.fileno()))


def _stream(end: Connection, descriptor: int, errors: str) -> IO[str]:
    """Returns the stream that writes into the end of a pipe, unbuffered."""
    with end:
        os.dup2(end.fileno(), descriptor)
    file = io.FileIO(descriptor, "wb", closefd=False)
    return io.TextIOWrapper(file, "utf-8", errors, write_through=True)


def _run(
    arguments: tuple[str, ...],
    prelude: str,
    environment: Mapping[str, str],
    out: Connection,
    err: Connection,
) -> None:
    """What the process does: as `python ARGUMENTS...`, but for the imports."""
    sys.stdout, sys.stderr = _stream(out, 1, "strict"), _stream(err, 2, "backslashreplace")
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment)
    # Read when JAX was imported.
    jax.config.update("jax_num_cpu_devices", int(environment.get("JAX_NUM_CPU_DEVICES", -1)))
    gc.set_threshold(50_000, 20, 100)
    exec(prelude, {})
    is_module = arguments[0] == "-m"
    sys.argv = list(arguments[is_module:])
    if is_module:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")
