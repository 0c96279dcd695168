"""The parity tests once more, in the forms that accelerators run, on the device at hand."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gpu", "tpu"])
def test_parity_holds_in_the_forms_for_accelerators(request, kind):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += [f"--accelerator_forms={kind}", f"--parity={request.config.getoption('--parity')}"]
    tests = sorted((ROOT / "tests").rglob("test_parity_torchvision*.py"))
    result = subprocess.run(
        [*command, *map(str, tests)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout
    assert "[100%]" in result.stdout
