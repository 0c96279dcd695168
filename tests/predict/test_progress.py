"""The line of progress, on a terminal and elsewhere."""

import io
import sys
from types import SimpleNamespace

import pytest

from maskrcnn_jax.predict import progress as progress_module
from maskrcnn_jax.predict.progress import Progress


class _Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""
    now = [0.0]
    monkeypatch.setattr(progress_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def _steps(progress, clock, seconds):
    for second in seconds:
        clock[0] = second
        progress.add(3)


def test_elsewhere_a_line_now_and_then(clock, capsys):
    _steps(Progress(40), clock, [9, 10, 11, 15, 31])
    assert capsys.readouterr().err == (
        "2 of 40 images, 1.0 images/s\n5 of 40 images, 0.2 images/s\n"
    )


def test_on_a_terminal_one_line_that_renews_itself(clock, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", _Terminal())
    progress = Progress(None)
    _steps(progress, clock, [1, 1.1, 2])
    assert sys.stderr.getvalue() == "\r1 image\r3 images, 2.0 images/s"
    progress.say("a.png: 3 objects")
    assert sys.stderr.getvalue().endswith("\r" + " " * 22 + "\r")
    assert capsys.readouterr().out == "a.png: 3 objects\n"


def test_the_total(clock, capsys):
    progress = Progress(2)
    _steps(progress, clock, [10, 10.5])
    progress.end("json in out")
    assert capsys.readouterr().out == (
        "2 images with 6 objects in 10.5 s, 2.0 images/s after the first; json in out\n"
    )
