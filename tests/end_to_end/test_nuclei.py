"""`train.py` on real images: nuclei in folders of masks, and by labelme."""

import json

import numpy as np
import pytest

COMMAND = (
    "train.py",
    "--config=tests/end_to_end/tiny_folders.py",
    "--config.train.steps=4",
    "--config.train.log_every=1",
)


def losses(workdir):
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [row["loss_total"] for row in rows if row["kind"] == "train"]


@pytest.fixture(scope="module")
def run(run_command, nuclei_dir, tmp_path_factory):
    """The work directory of a run of four steps."""
    workdir = tmp_path_factory.mktemp("nuclei")
    folders = [f"--config.data.{split}.folder={nuclei_dir / split}" for split in ("train", "val")]
    names = [f"--config.data.{split}.class_name=nucleus" for split in ("train", "val")]
    status, _, err = run_command(*COMMAND, *folders, *names, f"--workdir={workdir}")
    assert status == 0, err
    return workdir


def test_folders_of_masks(run):
    assert len(losses(run)) == 4
    assert np.isfinite(losses(run)).all()
    assert "segm/AP" in json.loads((run / "eval" / "metrics.json").read_text())


def test_labelme(run, run_command, small_nuclei_dir, tmp_path):
    """The images that have JSON files too, from the weights of the first run."""
    folder = small_nuclei_dir / "labelme"
    status, out, err = run_command(
        "train.py",
        "--config=tests/end_to_end/tiny_labelme.py",
        *(f"--config.data.{split}.folder={folder}" for split in ("train", "val")),
        f"--config.init={run}",
        f"--workdir={tmp_path}",
    )
    assert status == 0, err
    assert "classes kept: 1 of 1: nucleus" in out
    assert np.isfinite(losses(tmp_path)).all()
