"""`train.py` from outside: killed, terminated, resumed, and given wrong input."""

import json
import re
import signal
import time

import jax
import numpy as np
import pytest
from orbax.checkpoint import StandardCheckpointer

from tests.forked import NO_TENSORFLOW

STEPS = 24
COMMAND = (
    "train.py",
    "--config=tests/end_to_end/tiny.py",
    f"--config.train.steps={STEPS}",
    "--config.train.log_every=1",
    "--config.train.checkpoint_every=4",
)


def _read_steps(process, number):
    """Reads what a process prints until it has logged so many steps."""
    lines, steps = [], 0
    for line in process.stdout:
        lines.append(line)
        steps += line.startswith("step ")
        if steps == number:
            break
    return "".join(lines)


def _kill_within_a_save(process, workdir):
    """Kills a run while a checkpoint is being written, and one is complete."""
    _read_steps(process, 9)  # step 8 is saved only when step 4 is on disk
    while not any("tmp" in path.name for path in (workdir / "checkpoints").iterdir()):
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    process.communicate(timeout=300)


def _checkpoint(workdir, step=STEPS):
    """All arrays of a step's checkpoint, by their paths."""
    checkpointer, arrays = StandardCheckpointer(), {}
    for item in ("variables", "optimizer"):
        tree = checkpointer.restore(workdir / "checkpoints" / str(step) / item)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            arrays[item + jax.tree_util.keystr(path)] = np.asarray(leaf)
    return arrays


def _losses(workdir):
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss_total"]) for row in rows if row["kind"] == "train"]


@pytest.fixture(scope="module")
def whole(run_command, tmp_path_factory):
    """The work directory and the output of a run that nothing has stopped."""
    workdir = tmp_path_factory.mktemp("whole")
    status, out, err = run_command(*COMMAND, f"--workdir={workdir}")
    assert status == 0, err
    return workdir, out


@pytest.fixture(scope="module")
def broken(start_command, run_command, tmp_path_factory):
    """The same run with TensorFlow, killed within a save, started again where TensorFlow is not
    installed, terminated, and started again."""
    workdir = tmp_path_factory.mktemp("broken")
    command = (*COMMAND, f"--workdir={workdir}")

    killed = start_command(*command, "--config.data.engine=tfdata")
    _kill_within_a_save(killed, workdir)
    assert killed.returncode == -signal.SIGKILL

    terminated = start_command(*command, "--config.data.engine=auto", prelude=NO_TENSORFLOW)
    out = _read_steps(terminated, 1)
    terminated.terminate()
    rest, err = terminated.communicate(timeout=300)
    return workdir, (terminated.returncode, out + rest, err), run_command(*command)


def test_a_run_leaves_what_it_promises(whole):
    workdir, out = whole
    assert {path.name for path in workdir.iterdir()} == {
        ".lock",
        "best",
        "checkpoints",
        "config.json",
        "eval",
        "metrics.jsonl",
        "tensorboard",
    }
    assert sorted(int(path.name) for path in (workdir / "checkpoints").iterdir()) == [16, 20, 24]
    assert [step for step, _ in _losses(workdir)] == list(range(1, STEPS + 1))
    assert "segm/AP" in json.loads((workdir / "eval" / "metrics.json").read_text())
    assert out.count("compiled in") == 1
    assert f"python eval.py --workdir={workdir}" in out


def test_a_terminated_run_without_tensorflow_saves_its_step_and_says_so(broken):
    status, out, err = broken[1]
    assert status == 128 + signal.SIGTERM, err
    assert re.search(r"resuming from step (4|8|12|16|20), restored from", out)
    assert "data.engine: 'tfdata' -> 'auto'" in out
    assert "SIGTERM: stopping after this step" in err
    assert re.search(r"stopped by SIGTERM after step \d+; saved in", err)
    assert "The same command resumes from there" in err
    assert "Traceback" not in err


def test_kill_and_terminate_end_with_the_same_bits(whole, broken):
    status, out, err = broken[2]
    assert status == 0, err
    step = re.search(r"stopped by SIGTERM after step (\d+)", broken[1][2])[1]
    assert f"resuming from step {step}" in out
    expected, found = _checkpoint(whole[0]), _checkpoint(broken[0])
    assert expected.keys() == found.keys()
    assert len(expected) > 100
    for key, array in expected.items():
        np.testing.assert_array_equal(array, found[key], err_msg=key)
    assert _losses(broken[0]) == _losses(whole[0])


def test_resuming_another_run_is_refused_in_one_line(whole, run_command):
    arguments = ("--config.seed=1", "--config.model.fpn.channels=8", f"--workdir={whole[0]}")
    status, _, err = run_command(*COMMAND, *arguments)
    assert status == 2
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "seed: 0 -> 1" in line
    assert "model.fpn.channels: 16 -> 8" in line
    assert "Traceback" not in err


# What a ViTDet changes of `tiny.config.model`.
VIT = {
    **{"backbone.kind": "vit", "backbone.depth": 50, "backbone.width": 64},
    **{"backbone.norm": "frozen_bn", "backbone.vit.depth": 4, "backbone.vit.channels": 16},
    **{"backbone.vit.heads": 2, "backbone.vit.window": 3, "backbone.vit.global_blocks": "(1, 3)"},
    **{"backbone.vit.position_grid": 3, "backbone.vit.relative_grid": 4},
    **{"backbone.vit.stochastic_depth": 0.5, "fpn.norm": "ln", "mask_head.norm": "ln"},
}


@pytest.mark.slow
def test_a_vit_that_leaves_blocks_out_resumes_with_the_same_bits(run_command, tmp_path):
    """Which ones it leaves out is drawn from the step's number."""
    flags = [f"--config.model.{key}={value}" for key, value in VIT.items()]
    flags += ["--config.train.layers=all", "--config.train.optimizer=adamw"]
    flags += ["--config.train.layer_decay=0.7", "--config.train.decay_norm_and_bias=False"]
    command = (*COMMAND[:2], *flags, "--config.train.checkpoint_every=2")
    for name, steps in (("whole", 6), ("parts", 2), ("parts", 6)):
        run = (f"--workdir={tmp_path / name}", f"--config.train.steps={steps}")
        status, out, err = run_command(*command, *run)
        assert status == 0, err
    assert "resuming from step 2" in out
    expected, found = (_checkpoint(tmp_path / name, 6) for name in ("whole", "parts"))
    assert expected.keys() == found.keys()
    assert any("relative_rows" in key for key in expected)
    for key, array in expected.items():
        np.testing.assert_array_equal(array, found[key], err_msg=key)
