"""The commands where TensorFlow and tensorflow-datasets are not installed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import jax
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]

# Runs a program with these packages out of reach.
PROGRAM = """
import runpy, sys
from importlib.machinery import PathFinder
class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        absent = name.partition(".")[0] in ("tensorflow", "tensorflow_datasets")
        return None if absent else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Without
sys.argv = sys.argv[1:]
sys.path[0] = "."
if sys.argv[0].endswith(".py"):
    runpy.run_path(sys.argv[0], run_name="__main__")
else:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
STEPS = (
    "--config.train.steps=6",
    "--config.train.log_every=1",
    "--config.data.engine=auto",
)
TINY = "--config=tests/end_to_end/tiny.py"


def run(*command: str) -> tuple[int, str, str]:
    """Returns `(exit status, stdout, stderr)`."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *command],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def cache() -> str:
    return f"--compilation_cache={jax.config.jax_compilation_cache_dir}"


@pytest.fixture(scope="module")
def workdir(cache, run_command, tmp_path_factory) -> Path:
    """Six steps with TensorFlow."""
    folder = tmp_path_factory.mktemp("run")
    status, _, err = run_command("train.py", TINY, *STEPS, f"--workdir={folder}")
    assert status == 0, err
    return folder


def losses(workdir: Path) -> list:
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss_total"]) for row in rows if row["kind"] == "train"]


def test_a_run_resumes_is_evaluated_and_predicts(workdir, cache, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(workdir, copy)
    shutil.rmtree(copy / "checkpoints" / "6")
    status, out, err = run("train.py", cache, TINY, *STEPS, f"--workdir={copy}")
    assert status == 0, err
    assert "resuming from step 3, restored from" in out
    assert losses(copy) == losses(workdir)

    status, out, err = run("eval.py", cache, f"--workdir={copy}")
    assert status == 0, err
    assert "AP" in out

    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "image.png"), image)
    arguments = (f"--workdir={copy}", str(tmp_path / "image.png"), f"--out={tmp_path / 'out'}")
    status, out, err = run("predict.py", cache, *arguments)
    assert status == 0, err
    assert (tmp_path / "out" / "image.png").is_file()


def test_what_needs_them_says_so_in_a_line(tmp_path):
    wanted = ("--config.data.engine=tfdata", f"--workdir={tmp_path / 'run'}")
    status, _, err = run("train.py", "--compilation_cache=off", TINY, *wanted)
    assert status == 2
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: config.data.engine is 'tfdata', but TensorFlow is not installed")

    prepare = ("prepare", TINY, f"--out={tmp_path / 'out'}")
    status, _, err = run("maskrcnn_jax.data", *prepare)
    assert status == 2
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert line == (
        "error: this needs the package tensorflow_datasets, which is not installed: "
        "pip install -r requirements.txt"
    )
