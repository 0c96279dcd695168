"""Signals are noted between steps; where nothing can be lost they act at once."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from maskrcnn_jax.parallel.interrupts import Interrupted, Interrupts

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_noted_and_the_handlers_return(number, capfd):
    before = signal.getsignal(number)
    with Interrupts() as interrupts:
        assert interrupts.received is None
        os.kill(os.getpid(), number)
        assert interrupts.received == number
    assert signal.getsignal(number) == before
    assert f"{number.name}: stopping after this step" in capfd.readouterr().err


def test_within_at_once_a_signal_raises():
    with Interrupts() as interrupts:
        with pytest.raises(Interrupted) as error, interrupts.at_once():
            os.kill(os.getpid(), signal.SIGTERM)
        assert error.value.signal_number == signal.SIGTERM
        with pytest.raises(Interrupted), interrupts.at_once():
            pytest.fail("a signal that came before must not be forgotten")


def test_a_second_ctrl_c_leaves_at_once():
    script = (
        "import os, signal\n"
        "from maskrcnn_jax.parallel.interrupts import Interrupts\n"
        "with Interrupts():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('still here', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('not any more', flush=True)\n"
    )
    command = [sys.executable, "-c", script]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert process.returncode == 130, process.stderr
    assert process.stdout == "still here\n"
    assert "the last checkpoint stands" in process.stderr
