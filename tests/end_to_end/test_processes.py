"""`train.py` and `eval.py` as several processes: the same results as one, and the same end."""

import json
import re
import signal
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from tests.end_to_end.processes import Run

STEPS = 12
COMMAND = (
    "train.py",
    "--config=tests/end_to_end/tiny.py",
    f"--config.train.steps={STEPS}",
    "--config.train.batch_size=4",
    "--config.data.val.count=5",
    "--config.eval.batch_size=4",
    "--config.eval.loss=True",
    "--config.train.log_every=1",
    "--config.train.checkpoint_every=4",
)
HEARTBEAT = 10
# The sums of a batch are made in another order, and the steps carry the differences on.
LOSS_TOLERANCE = dict(rtol=1e-5, atol=1e-6)
PARAMETER_TOLERANCE = dict(rtol=0, atol=1e-5)


def _losses(workdir):
    """The losses of each step, [steps, losses]."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["kind"] == "train"]
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    keys = sorted(key for key in rows[0] if key.startswith("loss_"))
    return np.array([[row[key] for key in keys] for row in rows])


def _arrays(workdir):
    """All arrays of the last step's checkpoint, by their paths."""
    checkpointer, arrays = ocp.PyTreeCheckpointer(), {}
    for item in ("variables", "optimizer"):
        folder = workdir / "checkpoints" / str(STEPS) / item
        leaves = checkpointer.metadata(folder).item_metadata.tree
        # On the host: the devices that they were saved from are not here.
        kind = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), leaves)
        tree = checkpointer.restore(folder, restore_args=kind)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            arrays[item + jax.tree_util.keystr(path)] = np.asarray(leaf)
    return arrays


def _assert_same(found, expected):
    """Compares the runs of two work directories."""
    np.testing.assert_allclose(_losses(found), _losses(expected), **LOSS_TOLERANCE)
    arrays, wanted = _arrays(found), _arrays(expected)
    assert arrays.keys() == wanted.keys()
    assert len(arrays) > 100
    for key, array in wanted.items():
        np.testing.assert_allclose(arrays[key], array, err_msg=key, **PARAMETER_TOLERANCE)


def _detections(folder):
    entries = json.loads((folder / "detections.json").read_text())
    return sorted(entries, key=lambda entry: (entry["image_id"], -entry["score"]))


def _assert_same_evaluation(found, expected):
    metrics, wanted = (json.loads((f / "metrics.json").read_text()) for f in (found, expected))
    assert metrics["images"] == wanted["images"] == 5  # the last batch is one of them
    for key in ("bbox/AP", "segm/AP"):
        assert metrics[key] == pytest.approx(wanted[key], abs=1e-3)
    losses = [key for key in wanted if key.startswith("loss_")]
    assert len(losses) == 6
    for key in losses:
        assert metrics[key] == pytest.approx(wanted[key], rel=1e-4), key
    detections, wanted = _detections(found), _detections(expected)
    assert len(detections) == len(wanted) > 0
    assert [d["image_id"] for d in detections] == [d["image_id"] for d in wanted]
    np.testing.assert_allclose(
        [d["score"] for d in detections], [d["score"] for d in wanted], atol=1e-3
    )


@pytest.fixture(scope="module")
def one(run_command, tmp_path_factory):
    """The work directory of a run as one process with one device."""
    workdir = tmp_path_factory.mktemp("one")
    status, _, err = run_command(*COMMAND, f"--workdir={workdir}")
    assert status == 0, err
    return workdir


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The same as two processes, of which one is terminated first.

    Gives the work directory and the ended runs.
    """
    workdir = tmp_path_factory.mktemp("two")
    arguments = (*COMMAND, f"--workdir={workdir}")
    with Run(*arguments, processes=2, devices=2) as terminated:
        terminated.wait_for("step 5/")
        terminated.processes[1].send_signal(signal.SIGTERM)
        terminated.wait()
    with Run(*arguments, processes=2, devices=2) as finished:
        finished.wait()
    return workdir, (terminated, finished)


def test_the_processes_say_who_they_are_and_then_the_first_one_speaks(two):
    run = two[1][0]
    for index, lines in enumerate(run.out):
        assert re.match(rf"process {index} of 2 on \S+: 2 local devices .*, 4 in all", lines[0])
    # Threads of Gloo's write at the same time, and tear each other's lines.
    said = [line for line in run.out[1] if "Gloo" not in line and "peer ranks" not in line]
    assert len(said) == 1, said
    assert "batch      4 images per step, 2 from this process" in "".join(run.out[0])


def test_a_signal_to_one_stops_all_after_the_same_step(two):
    run = two[1][0]
    assert run.wait() == [128 + signal.SIGTERM] * 2, run.text()
    stops = [re.search(r"stopped by SIGTERM after step (\d+); saved", "".join(e)) for e in run.err]
    assert all(stops), run.text()
    assert stops[0][1] == stops[1][1]
    assert "SIGTERM: stopping" not in "".join(run.err[0])  # it was sent to the other one
    assert f"resuming from step {stops[0][1]}" in "".join(two[1][1].out[0])


@pytest.mark.slow  # cli/test_command.py kills one of two small processes
def test_when_one_is_killed_the_other_ends_in_time_and_says_what_stands(tmp_path):
    arguments = (*COMMAND, f"--workdir={tmp_path}")
    with Run(*arguments, processes=2, devices=2, heartbeat=HEARTBEAT) as run:
        run.wait_for("step 6/")
        run.processes[1].kill()
        began = time.monotonic()
        statuses = run.wait()
        seconds = time.monotonic() - began
    assert statuses[1] == -signal.SIGKILL, run.text()
    assert statuses[0] not in (0, None)
    assert seconds < HEARTBEAT + 30  # of which the coredump and a busy machine take theirs
    for index, lines in enumerate(run.err):
        assert re.match(rf"process {index} \(\S+\): ended early", lines[-1]), run.text()
        assert f"within {HEARTBEAT} s (--heartbeat_timeout)" in lines[-1]
    assert re.search(r"last complete checkpoint is of step \d+", run.err[0][-1])


def test_two_processes_train_as_one(one, two):
    workdir, (_, run) = two
    assert run.wait() == [0, 0], run.text()
    assert "".join(run.err[1]) == ""
    _assert_same(workdir, one)
    _assert_same_evaluation(workdir / "eval", one / "eval")


@pytest.mark.slow
def test_two_processes_evaluate_as_one(one, run_command, tmp_path):
    status, _, err = run_command("eval.py", f"--workdir={one}", f"--out={tmp_path / 'one'}")
    assert status == 0, err
    arguments = ("eval.py", f"--workdir={one}", f"--out={tmp_path / 'two'}")
    with Run(*arguments, processes=2, devices=2) as run:
        assert run.wait() == [0, 0], run.text()
    assert "images" in "".join(run.out[0])
    _assert_same_evaluation(tmp_path / "two", tmp_path / "one")


MESHES = {
    "data 4, 4 processes": (4, 1, {}),
    "fsdp 4": (2, 2, dict(fsdp=4)),
    "data 2, space 2": (2, 2, dict(space=2)),
    "data 2, fsdp 2, space 2, 4 processes": (4, 2, dict(fsdp=2, space=2)),
}


@pytest.mark.slow
@pytest.mark.parametrize("mesh", MESHES)
def test_any_mesh_over_processes_trains_as_one_device(one, tmp_path, mesh):
    processes, devices, axes = MESHES[mesh]
    sizes = [f"--config.mesh.{axis}={size}" for axis, size in axes.items()]
    arguments = (*COMMAND, f"--workdir={tmp_path}", *sizes)
    with Run(*arguments, processes=processes, devices=devices) as run:
        assert set(run.wait(580)) == {0}, run.text()
    _assert_same(tmp_path, one)
    _assert_same_evaluation(tmp_path / "eval", one / "eval")


@pytest.mark.slow
def test_stopping_several_processes_changes_no_bit(two, tmp_path):
    with Run(*COMMAND, f"--workdir={tmp_path}", processes=2, devices=2) as run:
        assert run.wait(580) == [0, 0], run.text()
    found, expected = _arrays(two[0]), _arrays(tmp_path)
    assert found.keys() == expected.keys()
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array, err_msg=key)
    np.testing.assert_array_equal(_losses(two[0]), _losses(tmp_path))


# Processes, devices of each, and axes of the mesh: of the first half of the steps, and of the rest.
MOVES = {
    "from 4 processes to 1": ((4, 1, {}), None),
    "from 1 process to 2 with 4 devices each": (None, (2, 4, dict(fsdp=2, space=2))),
}


@pytest.mark.slow
@pytest.mark.parametrize("move", MOVES)
def test_a_run_goes_on_with_other_processes_with_the_same_images(one, run_command, tmp_path, move):
    for steps, place in zip((STEPS // 2, STEPS), MOVES[move], strict=True):
        arguments = (*COMMAND, f"--workdir={tmp_path}", f"--config.train.steps={steps}")
        if place is None:
            status, _, err = run_command(*arguments)
            assert status == 0, err
        else:
            processes, devices, axes = place
            sizes = [f"--config.mesh.{axis}={size}" for axis, size in axes.items()]
            with Run(*arguments, *sizes, processes=processes, devices=devices) as run:
                assert set(run.wait(580)) == {0}, run.text()
    _assert_same(tmp_path, one)
