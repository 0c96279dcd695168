"""Where the numbers of a run go: a line on the screen, `metrics.jsonl`, TensorBoard."""

import json
import math
import time
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from maskrcnn_jax.files import write_atomically

FILE = "metrics.jsonl"


class MetricsLog:
    """Writes the metrics of one run; used as a context manager.

    A run that goes on from a checkpoint replaces what an earlier one has logged beyond it.

    Args:
        workdir: the run's folder.
        start_step: steps done before.
        active: False for all processes but the first: nothing is written.

    Attributes:
        evaluations: the rows of all evaluations so far, oldest first.
    """

    def __init__(self, workdir: Path, start_step: int, active: bool = True):
        self._active = active
        rows = [row for row in read(workdir) if row["step"] <= start_step]
        self.evaluations = [row for row in rows if row["kind"] == "eval"]
        if active:
            write_atomically(workdir / FILE, "".join(_line(row) for row in rows))
            self._lines = open(workdir / FILE, "a", encoding="utf-8")  # noqa: SIM115
            self._events = _Events(workdir / "tensorboard", start_step)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        if self._active:
            self._lines.close()
            self._events.close()

    @property
    def evaluated_step(self) -> int:
        """Returns the step of the newest evaluation in the log, 0 where there is none."""
        return max((row["step"] for row in self.evaluations), default=0)

    def write(self, kind: str, step: int, metrics: dict[str, float]) -> None:
        """Writes numbers to the two files.

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
        self._lines.write(_line(row))
        self._lines.flush()
        self._events.write(step, {f"{kind}/{key}": value for key, value in metrics.items()})


def read(workdir: str | Path) -> list[dict[str, Any]]:
    """Returns the rows of a run's `metrics.jsonl`; none where there is no such file.

    Args:
        workdir: the run's folder.

    Returns:
        Dicts with `kind` (`train` or `eval`), `step` and the metrics. A last line that a killed
        run has left half written is dropped.
    """
    path = Path(workdir) / FILE
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _line(row: dict[str, Any]) -> str:
    finite = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value
        for key, value in row.items()
    }
    return json.dumps(finite) + "\n"


class _Events:
    """A TensorBoard event file, written without TensorFlow."""

    def __init__(self, folder: Path, start_step: int):
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.6f}.maskrcnn_jax"
        self._records = RecordWriter(open(folder / name, "wb"))  # noqa: SIM115
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
