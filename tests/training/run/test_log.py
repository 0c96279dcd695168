"""The log's two files."""

import json
import math
import shutil

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event, SessionLog

from maskrcnn_jax.images.png import encode_png
from maskrcnn_jax.training.run.log import MetricsLog, read


def _events(workdir):
    files = [path for path in (workdir / "tensorboard").rglob("*") if path.is_file()]
    files.sort(key=lambda path: path.stat().st_mtime_ns)
    return [Event.FromString(raw) for file in files for raw in RawEventFileLoader(str(file)).Load()]


def _accumulated(workdir, kind):
    """What TensorBoard itself reads."""
    accumulator = EventAccumulator(str(workdir / "tensorboard" / kind))
    accumulator.Reload()
    return accumulator


def test_numbers_reach_both_files(tmp_path):
    with MetricsLog(tmp_path, 0) as log:
        log.write("train", 2, {"loss_total": 1.5})
        log.write("eval", 2, {"segm/AP": math.nan, "bbox/AP": 0.25})
    assert read(tmp_path) == [
        {"kind": "train", "step": 2, "loss_total": 1.5},
        {"kind": "eval", "step": 2, "segm/AP": None, "bbox/AP": 0.25},
    ]
    assert _accumulated(tmp_path, "train").Scalars("loss_total")[0].value == 1.5
    evaluated = _accumulated(tmp_path, "eval")  # a run of its own: two curves in one chart
    assert [(s.step, s.value) for s in evaluated.Scalars("bbox/AP")] == [(2, 0.25)]
    assert math.isnan(evaluated.Scalars("segm/AP")[0].value)


def test_tensorboard_reads_pictures_and_histograms(tmp_path):
    picture = np.zeros((3, 5, 3), np.uint8)
    with MetricsLog(tmp_path, 0) as log:
        log.write_pictures(4, {"eval_000000_a": encode_png(picture)})
        log.write_histograms(4, {"fpn/kernel": np.array([[0.0, 1.0], [math.nan, 4.0]])})
        log.write_histograms(4, {"dead": np.full(3, math.inf)})
    (image,) = _accumulated(tmp_path, "eval").Images("eval_000000_a")
    assert (image.step, image.height, image.width) == (4, 3, 5)
    found = _accumulated(tmp_path, "train")
    values = found.Histograms("fpn/kernel")[0].histogram_value
    assert (values.min, values.max, values.num, values.sum, values.sum_squares) == (0, 4, 3, 5, 17)
    assert sum(values.bucket) == 3
    assert values.bucket_limit[-1] == 4
    assert found.Histograms("dead")[0].histogram_value.num == 1


def test_a_run_that_goes_on_replaces_what_lies_beyond_its_checkpoint(tmp_path):
    with MetricsLog(tmp_path, 0) as log:
        assert log.evaluated_step == 0
        for step in (1, 2, 3):
            log.write("train", step, {"loss_total": float(step)})
        log.write("eval", 2, {"segm/AP": 0.5})
        log.write("eval", 3, {"segm/AP": 0.6})
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"kind": "train", "step": 4, "lo')  # killed while writing
    with MetricsLog(tmp_path, 2) as log:
        assert log.evaluated_step == 2
        log.write("train", 3, {"loss_total": 30.0})
    rows = [(row["kind"], row["step"], row.get("loss_total")) for row in read(tmp_path)]
    assert rows == [("train", 1, 1.0), ("train", 2, 2.0), ("eval", 2, None), ("train", 3, 30.0)]
    starts = [e.step for e in _events(tmp_path) if e.session_log.status == SessionLog.START]
    assert sorted(starts) == [1, 1, 3, 3]  # TensorBoard drops older events from these steps on


def test_other_processes_write_nothing(tmp_path):
    with MetricsLog(tmp_path, 0, active=False) as log:
        log.write("train", 1, {"loss_total": 1.0})
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_line_in_the_middle_is_an_error(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"kind": "tra\n{"kind": "eval", "step": 1}\n')
    with pytest.raises(ValueError, match=r"metrics.jsonl, line 1 is not a row .*delete this line"):
        read(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"kind": "eval", "step": 1}\n{"step": 2}\n')
    with pytest.raises(ValueError, match=r"line 2 is not a row of a run's log but '.\"step\": 2.'"):
        read(tmp_path)


def test_a_run_without_a_checkpoint_moves_the_log_away(tmp_path, capfd):
    for number in (1, 2, 3):
        with MetricsLog(tmp_path, 0) as log:
            assert log.evaluated_step == 0
            log.write("eval", number, {"segm/AP": 0.5})
    assert [row["step"] for row in read(tmp_path)] == [3]
    said = capfd.readouterr().err
    for number in (1, 2):
        place = tmp_path / f"metrics-{number}.jsonl"
        assert json.loads(place.read_text())["step"] == number
        assert f"is now {place}" in said


def test_rows_that_a_full_disk_refuses_are_written_later(small_disk, capfd):
    row = {"loss_total": 0.5}
    filler = small_disk / "filler"
    with MetricsLog(small_disk, 0) as log:
        log.write("train", 1, {"loss_total": 0.5})
        filler.write_bytes(bytes(shutil.disk_usage(small_disk).free))
        for step in range(2, 20):
            log.write("train", step, {**row, **{f"loss_{i}": 0.5 for i in range(40)}})
        said = capfd.readouterr().err
        assert said.count("WARNING: the log in") == 1
        assert "No space left on device" in said
        assert [r["step"] for r in read(small_disk)][:1] == [1]
        assert len(read(small_disk)) < 19
        filler.unlink()
        log.write("train", 20, {"loss_total": 0.25})
    assert [r["step"] for r in read(small_disk)] == list(range(1, 21))
    assert 20 in [event.step for event in _events(small_disk) if event.summary.value]
