"""A notice on stderr when a process ends without being able to print one itself.

Where several processes train together, one can end in ways that no Python code sees: killed, out
of memory, or aborted by JAX's runtime because another one is gone. A small child process notices
and prints which checkpoint stands and what to type. It is this file, run as a program, and imports
nothing else.
"""

import json
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO


class ExitNotice:
    """A child process that prints a message on stderr if this process ends while one is set.

    Args:
        process: the name of this process, which begins the message.
    """

    def __init__(self, process: str):
        # Its own session: a Ctrl-C or a signal to the group is meant for this process alone.
        self._child = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__).resolve()), process],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._words = ""
        self._checkpoints: str | None = None

    def set_message(self, words: str) -> None:
        """Sets what is printed if the process ends from now on.

        Args:
            words: a few sentences.
        """
        self._words = words
        self._tell()

    def name_checkpoint_in(self, folder: str | Path) -> None:
        """Has the newest checkpoint named after the message.

        Args:
            folder: of the checkpoints; it is read when the message is printed.
        """
        self._checkpoints = str(folder)
        self._tell()

    def cancel(self) -> None:
        """The process ends well: the child ends without a message."""
        self._words = ""
        self._tell()
        self._pipe.close()
        self._child.wait()

    @property
    def _pipe(self) -> IO[bytes]:
        assert self._child.stdin is not None
        return self._child.stdin

    def _tell(self) -> None:
        message = json.dumps([self._words, self._checkpoints])
        with suppress(OSError):  # the child has been killed; the run continues without it
            self._pipe.write(message.encode() + b"\n")
            self._pipe.flush()


def newest_checkpoint(folder: str | Path) -> str:
    """Returns a sentence on the newest complete checkpoint in a folder.

    Args:
        folder: with a folder for each checkpoint, which has the step for its name when complete.
    """
    try:
        steps = [int(path.name) for path in Path(folder).iterdir() if path.name.isdecimal()]
    except OSError:
        return f"There is no checkpoint in {folder} that can be seen from here."
    if not steps:
        return f"There is no complete checkpoint in {folder} yet."
    return f"The last complete checkpoint is of step {max(steps)}, in {folder}."


def _main(process: str) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    words, checkpoints = "", None
    for line in sys.stdin:  # until the process closes it, or is gone
        words, checkpoints = json.loads(line)
    if words:
        rest = f" {newest_checkpoint(checkpoints)}" if checkpoints else ""
        print(f"{process}: {words}{rest}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    _main(sys.argv[1])
