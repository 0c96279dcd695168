"""TensorBoard's event files, written without TensorFlow.

`tensorboard/train` and `tensorboard/eval` are two runs to TensorBoard, so that a number of both, as
`loss_total`, is two curves in one chart.
"""

import struct
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary
from tensorboard.summary.writer.record_writer import RecordWriter

_BINS = 50


class Events:
    """An event file.

    Args:
        folder: gets the file; made where it does not exist.
        start_step: steps done before.
    """

    def __init__(self, folder: Path, start_step: int):
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.6f}.maskrcnn_jax"
        self._records = RecordWriter(open(folder / name, "xb"))  # noqa: SIM115
        self._add(Event(file_version="brain.Event:2"))
        # TensorBoard then drops what earlier files have from this step on.
        start = SessionLog(status=SessionLog.START)
        self._add(Event(step=start_step + 1, session_log=start))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes numbers of a step, by name."""
        self._write(step, [Summary.Value(tag=tag, simple_value=v) for tag, v in values.items()])

    def pictures(self, step: int, files: Mapping[str, bytes]) -> None:
        """Writes pictures of a step, PNG files by name."""
        for tag, file in files.items():  # an event each, as they are large
            width, height = struct.unpack(">2I", file[16:24])  # of the header's chunk
            image = Summary.Image(height=height, width=width, encoded_image_string=file)
            self._write(step, [Summary.Value(tag=tag, image=image)])

    def histograms(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes the distributions of arrays, by name; what is not finite is left out."""
        self._write(
            step, [Summary.Value(tag=tag, histo=_histogram(a)) for tag, a in arrays.items()]
        )

    def close(self) -> None:
        """Closes the file."""
        self._records.close()

    def _write(self, step: int, values: list[Summary.Value]) -> None:
        self._add(Event(step=step, summary=Summary(value=values)))

    def _add(self, event: Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
        self._records.flush()


def _histogram(array: np.ndarray) -> HistogramProto:
    values = np.asarray(array, np.float64).ravel()
    values = values[np.isfinite(values)]
    if not values.size:
        values = np.zeros(1)
    counts, edges = np.histogram(values, _BINS)
    return HistogramProto(
        min=values.min(),
        max=values.max(),
        num=values.size,
        sum=values.sum(),
        sum_squares=np.square(values).sum(),
        bucket_limit=edges[1:].tolist(),
        bucket=counts.tolist(),
    )
