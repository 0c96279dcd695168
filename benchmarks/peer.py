"""Our end of the pipe to `peer_torchvision.py`, which runs under the peer's own interpreter."""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from benchmarks import measure

_PROGRAM = Path(__file__).with_name("peer_torchvision.py")
# Memory layouts of torch's feature maps: which one is faster depends on the machine and the layers.
LAYOUTS = ("channels_last", "contiguous_format")


class Peer:
    """One case of the peer, prepared; a call runs and times it once."""

    def __init__(self, python: str, case: str, arrays: dict[str, np.ndarray], **options):
        try:
            self._process = subprocess.Popen(
                [python, str(_PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        except OSError as error:
            raise ValueError(
                f"--peer-python={python}: cannot be started ({error}); give the path of an "
                "interpreter that has torch and torchvision"
            ) from error
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "arrays.npz"
            np.savez(file, **arrays)
            answer = self._ask({"prepare": case, "arrays": str(file), **options})
        self.versions = answer["versions"]

    def __call__(self) -> tuple[float, dict]:
        answer = self._ask({"run": True})
        return answer["seconds"], answer["counts"]

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()

    def _ask(self, request: dict) -> dict:
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise RuntimeError(
                f"the peer has ended with status {self._process.wait()}; its message is above"
            )
        return json.loads(answer)


@contextmanager
def peers(
    arguments, case: str, arrays: dict[str, np.ndarray], layouts=("",), **options
) -> Iterator[tuple[dict[str, measure.Side], dict | None]]:
    """Prepares the peer that the command line asks for, once for each layout.

    Args:
        arguments: of the command line.
        case: a key of `CASES` in peer_torchvision.py.
        arrays: its input.
        layouts: memory layouts to try; ("",) where the case has none.
        options: what else the case takes.

    Yields:
        The sides by name, empty without a peer, and the versions of its libraries.
    """
    with ExitStack() as stack:
        sides, versions = {}, None
        for layout in layouts if arguments.peer else ():
            chosen = {"layout": layout} if layout else {}
            threads = measure.use_threads(0)
            side = Peer(arguments.peer_python, case, arrays, threads=threads, **chosen, **options)
            stack.callback(side.close)
            sides[f"{arguments.peer} {layout}".strip()] = side
            versions = side.versions
        yield sides, versions
