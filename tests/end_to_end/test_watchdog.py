"""A disk that stops answering in the middle of a run, as a mount whose server is gone does."""

import cv2
import numpy as np
import pytest

from maskrcnn_jax.training.run.watchdog import EXIT_STATUS

COMMAND = (
    "train.py",
    "--config=tests/end_to_end/waiting_folders.py",
    "--config.train.steps=1000",
    "--config.train.checkpoint_every=1000",
    "--config.train.log_every=1",
    "--config.data.train.class_name=disc",
    "--config.data.val.class_name=disc",
    "--config.train.watchdog_factor=1.0",
    "--config.train.watchdog_seconds=3.0",
    "--config.train.watchdog_abort_seconds=6.0",
)


@pytest.fixture
def disc(tmp_path):
    """The folder of one image with a bright disc and of its mask."""
    folder = tmp_path / "data" / "0"
    mask = cv2.circle(np.zeros((64, 64), np.uint8), (30, 30), 12, 255, -1)
    for kind, picture in (("images", np.maximum(mask, 40)), ("masks", mask)):
        (folder / kind).mkdir(parents=True)
        cv2.imwrite(str(folder / kind / "0.png"), picture)
    return folder


def test_a_run_that_waits_for_data_for_ever_says_so_and_ends(
    start_command, disc, tmp_path, monkeypatch
):
    wait = tmp_path / "wait"
    monkeypatch.setenv("WAIT_WHILE", str(wait))
    root = disc.parent
    folders = [f"--config.data.{split}.folder={root}" for split in ("train", "val")]
    process = start_command(*COMMAND, *folders, f"--workdir={tmp_path / 'run'}")
    try:
        for line in process.stdout:
            if line.startswith("step 3/"):
                break
        wait.touch()
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == EXIT_STATUS, said
    assert "What it is at: waiting for data" in said
    assert "the same command resumes from there" in said
    stacks = (tmp_path / "run" / "stacks-0.txt").read_text()
    assert "thread MainThread" in stacks
    assert "next_batch" in stacks  # where the loop waits
    assert "records.py" in stacks  # and the thread that reads
