"""Files appear whole or not at all."""

import os

import pytest

from maskrcnn_jax.files import write_atomically


def test_writes_text_and_bytes_into_new_folders(tmp_path):
    path = tmp_path / "a" / "b.txt"
    write_atomically(path, "größe")
    assert path.read_text(encoding="utf-8") == "größe"
    write_atomically(path, b"\x00\x01")
    assert path.read_bytes() == b"\x00\x01"
    assert os.listdir(path.parent) == ["b.txt"]
    ordinary = tmp_path / "ordinary"
    ordinary.write_text("")
    assert path.stat().st_mode == ordinary.stat().st_mode


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_atomically(path, "old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]
