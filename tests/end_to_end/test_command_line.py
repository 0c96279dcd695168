"""Mistakes on the command line end in one line, before anything is read."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_a_misspelt_key_of_the_configuration_is_named():
    command = [sys.executable, "train.py", "--config=configs/shapes.py", "--config.train.stpes=3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no key config.train.stpes; did you mean config.train.steps?" in done.stderr
    assert "Traceback" not in done.stderr
