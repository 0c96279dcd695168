"""Where the numbers of a run go: a line on the screen, `metrics.jsonl`, TensorBoard."""

import json
import math
import time
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from maskrcnn_jax.files import own, regular, set_aside, write_atomically
from maskrcnn_jax.parallel.messages import warn

FILE = "metrics.jsonl"


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
            self._folder = workdir / "tensorboard"
            self._events: _Events | None = _Events(self._folder, start_step)
            self._fails = False

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        if self._active:
            self._lines.close()
            if self._events is not None:
                self._events.close()

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
        if not self._active:
            return
        try:
            self._lines.write(_line(row))
            if self._events is None:
                self._events = _Events(self._folder, step - 1)
            self._events.write(step, {f"{kind}/{key}": value for key, value in metrics.items()})
            self._fails = False
        except OSError as error:
            self._events = None  # its file may end with half a record: the next is a new one
            if not self._fails:
                warn(f"the log in {self._folder.parent} cannot be written: {error}")
            self._fails = True


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
        if isinstance(row["step"], int) and row["kind"] in ("train", "eval"):
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


class _Events:
    """A TensorBoard event file, written without TensorFlow."""

    def __init__(self, folder: Path, start_step: int):
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.6f}.maskrcnn_jax"
        self._records = RecordWriter(open(folder / name, "xb"))  # noqa: SIM115
        self._add(Event(file_version="brain.Event:2"))
        # TensorBoard then drops what earlier files have from this step on.
        start = SessionLog(status=SessionLog.START)
        self._add(Event(step=start_step + 1, session_log=start))

    def write(self, step: int, scalars: dict[str, float]) -> None:
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._add(Event(step=step, summary=Summary(value=values)))

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
        self._records.flush()

    def close(self) -> None:
        self._records.close()
