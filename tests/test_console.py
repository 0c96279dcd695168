"""What is printed of names that anybody may have chosen."""

import io
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn_jax.console import amount, printable, program, safe_streams, said_if_slow


def test_names_are_shown_and_do_nothing():
    assert printable("größe 片.jpg") == "größe 片.jpg"
    assert printable("\x1b[2Ja\rb\nc\x07") == r"\x1b[2Ja\x0db\x0ac\x07"
    assert printable(b"\xff.jpg".decode(errors="surrogateescape")) == r"\xff.jpg"
    assert printable("\ud800\u202egpj.exe\u2028") == r"\ud800\u202egpj.exe\u2028"
    assert printable("a\nb\n", keep="\n") == "a\nb\n"
    assert printable(ValueError("a\x1b")) == r"a\x1b"


@settings(max_examples=300, derandomize=True, deadline=None, database=None)
@given(st.text(st.characters(codec=None)))
def test_any_text_can_be_printed_anywhere(text):
    shown = printable(text)
    assert shown.encode().decode() == shown
    assert printable(shown) == shown
    assert not set(map(ord, shown)) & {*range(32), *range(127, 160)}


@pytest.mark.parametrize(
    ("started", "evaluation", "doctor"),
    [
        ("train.py", "python eval.py", "python -m maskrcnn_jax.doctor"),
        ("../clone/train.py", "python ../clone/eval.py", "python -m maskrcnn_jax.doctor"),
        ("/a/maskrcnn_jax/cli/__main__.py", "python eval.py", "python -m maskrcnn_jax.doctor"),
        ("/venv/bin/maskrcnn-train", "maskrcnn-eval", "maskrcnn-doctor"),
    ],
)
def test_hints_name_programs_as_the_user_starts_them(monkeypatch, started, evaluation, doctor):
    monkeypatch.setattr(sys, "argv", [started])
    assert program("eval") == evaluation
    assert program("doctor") == doctor


def test_safe_streams(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict", newline="\n")
    monkeypatch.setattr(sys, "stdout", stream)
    with safe_streams():
        print("\x1b[31mé\udcff", "\n", end="")
        print("\r50 %", end="", flush=True)
    assert sys.stdout is stream
    assert stream.buffer.getvalue() == b"\\x1b[31m\\xe9\\xff \n\r50 %"


def test_amounts_have_their_plural():
    assert [amount(n, "object") for n in (0, 1, 2, 118_000)] == [
        "0 objects",
        "1 object",
        "2 objects",
        "118,000 objects",
    ]


def test_only_what_is_slow_is_said():
    stream = io.StringIO()
    with said_if_slow("reading 2 files", after=60, stream=stream):
        pass
    assert stream.getvalue() == ""
    with said_if_slow("reading 2 files", after=0, stream=stream):
        for _ in range(1000):
            if stream.getvalue():
                break
            time.sleep(0.01)
    assert stream.getvalue() == "reading 2 files ...\n"
