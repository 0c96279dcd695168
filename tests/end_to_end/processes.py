"""Several processes on this machine that make one run of a command."""

import socket
import threading

import jax

from tests.forked import Forked


class Run:
    """One run as several processes of a command, whose output is gathered while they work.

    Args:
        command: such as train.py.
        arguments: the same for all.
        processes: how many.
        devices: of each.
        heartbeat: seconds of silence after which a process counts as gone.
    """

    def __init__(self, command, *arguments, processes, devices, heartbeat=60):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            address = f"localhost:{free.getsockname()[1]}"
        shared = [
            command,
            f"--compilation_cache={jax.config.jax_compilation_cache_dir}",
            f"--coordinator={address}",
            f"--num_processes={processes}",
            f"--heartbeat_timeout={heartbeat}",
            "--initialization_timeout=120",
            *arguments,
        ]
        self.processes = [
            Forked(*shared, f"--process_id={index}", JAX_NUM_CPU_DEVICES=str(devices))
            for index in range(processes)
        ]
        self.out = [[] for _ in self.processes]
        self.err = [[] for _ in self.processes]
        self._seen = threading.Condition()
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for index, process in enumerate(self.processes)
            for stream, lines in (
                (process.stdout, self.out[index]),
                (process.stderr, self.err[index]),
            )
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()

    def wait_for(self, beginning, timeout=400):
        """Waits until the first process has printed a line that begins so."""
        with self._seen:
            found = self._seen.wait_for(
                lambda: (
                    any(line.startswith(beginning) for line in self.out[0])
                    or self.processes[0].poll() is not None
                ),
                timeout,
            )
        assert found, f"no line {beginning!r}: {self.text()}"
        assert any(line.startswith(beginning) for line in self.out[0]), self.text()

    def wait(self, timeout=400):
        """Returns the exit statuses when all processes have ended."""
        statuses = [process.wait(timeout) for process in self.processes]
        for reader in self._readers:
            reader.join(30)
        return statuses

    def text(self):
        """Returns everything that was printed."""
        streams = [("out", self.out), ("err", self.err)]
        parts = [
            f"{kind} {index}:\n{''.join(lines)}"
            for kind, of_processes in streams
            for index, lines in enumerate(of_processes)
        ]
        return "\n".join(parts)

    def _read(self, stream, lines):
        for line in stream:
            with self._seen:
                lines.append(line)
                self._seen.notify_all()
        with self._seen:
            self._seen.notify_all()
