"""Checks that fail or hang harm no other one, and what is reported of them."""

import json
import sys
import threading
from pathlib import Path

import pytest

from maskrcnn_jax.cli import doctor as command
from maskrcnn_jax.doctor import report


def _fail():
    raise OSError("the disk is full")


def test_a_check_gives_its_facts():
    result = report.run("good", lambda: {"answer": "42"}, limit=10)
    assert (result.facts, result.error, result.is_stuck) == ({"answer": "42"}, "", False)
    assert report.as_text(result).splitlines()[0].startswith("good: ok  (0.")
    assert report.as_text(result).splitlines()[1].split() == ["answer", "42"]


@pytest.mark.parametrize(
    ("check", "error"),
    [(_fail, "OSError: the disk is full"), (lambda: sys.exit(3), "SystemExit: 3")],
)
def test_what_is_raised_is_told(check, error):
    result = report.run("bad", check, limit=10)
    assert result.error == error
    assert f"bad: FAIL: {error}" in report.as_text(result)


def test_a_check_that_hangs_is_left_behind():
    ended = threading.Event()
    try:
        result = report.run("hanging", lambda: ended.wait(60), limit=0.05)
        assert result.is_stuck
        assert result.error == "it has not ended within 0.05 s"
    finally:
        ended.set()


def test_json_has_every_result_and_the_home_of_nobody():
    results = [
        report.Result("good", 1.23456, {"folder": f"{Path.home()}/runs"}, ""),
        report.Result("bad", 0.0, {}, "why"),
    ]
    assert json.loads(report.as_json(results)) == {
        "good": {"ok": True, "error": None, "seconds": 1.235, "facts": {"folder": "~/runs"}},
        "bad": {"ok": False, "error": "why", "seconds": 0.0, "facts": {}},
    }
    assert report.summary(results) == "1 of 2 checks passed; failed: bad"
    assert report.summary(results[:1]) == "1 of 1 checks passed"


@pytest.mark.parametrize(("checks", "status"), [(("good",), 0), (("good", "bad", "good"), 1)])
def test_the_command_goes_on_after_a_failure_and_its_status_tells(
    monkeypatch, capsys, checks, status
):
    known = {"good": lambda: print("chatter") or {"answer": "42"}, "bad": _fail}
    chosen = {f"{name} {number}": known[name] for number, name in enumerate(checks)}
    monkeypatch.setattr(command, "_checks", lambda *_: chosen)
    assert command.main([]) == status
    said = capsys.readouterr()
    assert said.out.count(": ok") == checks.count("good")
    assert f"{checks.count('good')} of {len(checks)} checks passed" in said.out
    assert "chatter" in said.err

    assert command.main(["--json"]) == status
    assert list(json.loads(capsys.readouterr().out)) == list(chosen)
