"""Where the numbers of a run go: a line on the screen, `metrics.jsonl`, TensorBoard."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn_jax.files import own, regular, set_aside, write_atomically
from maskrcnn_jax.parallel.messages import warn
from maskrcnn_jax.training.run.events import Events

FILE = "metrics.jsonl"
FOLDER = "tensorboard"
_KINDS = ("train", "eval")


class MetricsLog:
    """Writes the metrics of one run; used as a context manager.

    A run that resumes from a checkpoint replaces what an earlier one has logged beyond it. One that
    starts at step 0, as there is no checkpoint, moves that log to `metrics-1.jsonl` or the next
    such name that is free.

    Args:
        workdir: the run's folder.
        start_step: steps done before.
        active: False for all processes but the first: nothing is written.

    Attributes:
        evaluations: the rows of all evaluations so far, oldest first.
    """

    def __init__(self, workdir: Path, start_step: int, active: bool = True):
        self._active = active
        if active and start_step == 0 and read(workdir):
            place = set_aside(workdir / FILE)
            warn(f"the log of an earlier start, of which there is no checkpoint, is now {place}")
        rows = [row for row in read(workdir) if row["step"] <= start_step] if start_step else []
        self.evaluations = [row for row in rows if row["kind"] == "eval"]
        if active:
            write_atomically(workdir / FILE, "".join(_line(row) for row in rows))
            self._lines = _Lines(workdir / FILE)
            self._folder = workdir / FOLDER
            self._events = {kind: Events(self._folder / kind, start_step) for kind in _KINDS}
            self._fails = False

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        if self._active:
            self._lines.close()
            for events in self._events.values():
                events.close()

    @property
    def evaluated_step(self) -> int:
        """Returns the step of the newest evaluation in the log, 0 where there is none."""
        return max((row["step"] for row in self.evaluations), default=0)

    def write(self, kind: str, step: int, metrics: dict[str, float]) -> None:
        """Writes numbers to the two files.

        Where the disk is full, that is reported on stderr, and the run continues: the rows of
        `metrics.jsonl` are written when there is room again, those for TensorBoard are lost.

        Args:
            kind: `train` or `eval`.
            step: steps done.
            metrics: the numbers; one that is not finite becomes null in `metrics.jsonl`.
        """
        row = {"kind": kind, "step": step, **metrics}
        if kind == "eval":
            self.evaluations.append(row)
        if self._active and self._written(lambda: self._lines.write(_line(row))):
            self._add(kind, step, lambda events: events.scalars(step, metrics))

    def write_pictures(self, step: int, files: Mapping[str, bytes]) -> None:
        """Writes pictures, PNG files by name, of the evaluation after a step for TensorBoard."""
        self._add("eval", step, lambda events: events.pictures(step, files))

    def write_histograms(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes how the numbers of arrays are distributed after a step for TensorBoard."""
        self._add("train", step, lambda events: events.histograms(step, arrays))

    def _add(self, kind: str, step: int, write: Callable[[Events], None]) -> None:
        if not self._active:
            return

        def add() -> None:
            if kind not in self._events:
                self._events[kind] = Events(self._folder / kind, step - 1)
            write(self._events[kind])

        if not self._written(add):
            self._events.pop(kind, None)  # its file may end with half a record

    def _written(self, write: Callable[[], None]) -> bool:
        """Returns whether it could be written; the first time that it cannot is reported."""
        try:
            write()
            self._fails = False
        except OSError as error:
            if not self._fails:
                warn(f"the log in {self._folder.parent} cannot be written: {error}")
            self._fails = True
        return not self._fails


def read(workdir: str | Path) -> list[dict[str, Any]]:
    """Returns the rows of a run's `metrics.jsonl`; none where there is no such file.

    Args:
        workdir: the run's folder.

    Returns:
        Dicts with `kind` (`train` or `eval`), `step` and the metrics. A last line that a killed
        run has left half written is dropped.

    Raises:
        ValueError: naming a line that is no such row.
    """
    path = Path(workdir) / FILE
    if not path.is_file():
        return []
    with open(path, encoding="utf-8", errors="replace", opener=regular) as file:
        lines = file.read().splitlines(keepends=True)
    return [_row(line, f"{path}, line {n}") for n, line in enumerate(lines, 1) if line[-1] == "\n"]


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
        if isinstance(row["step"], int) and row["kind"] in _KINDS:
            return row
    except (ValueError, KeyError, TypeError):  # no JSON, or another thing than a row
        pass
    shown = line.strip()[:60]
    raise ValueError(
        f"{where} is not a row of a run's log but {shown!r}; delete this line, or move the file "
        f"away"
    )


def _line(row: dict[str, Any]) -> str:
    finite = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }
    return json.dumps(finite) + "\n"


class _Lines:
    """A file that lines are added to; those that cannot be written are kept for the next time."""

    def __init__(self, path: Path):
        self._file = open(path, "ab", buffering=0, opener=own)  # noqa: SIM115
        self._end = self._file.tell()
        self._pending = b""

    def write(self, line: str) -> None:
        self._pending += line.encode()
        try:
            rest = self._pending
            while rest:  # a disk that becomes full takes a part
                rest = rest[self._file.write(rest) :]
        except OSError:
            self._file.truncate(self._end)  # a line is there as a whole or not at all
            raise
        self._end, self._pending = self._end + len(self._pending), b""

    def close(self) -> None:
        self._file.close()
