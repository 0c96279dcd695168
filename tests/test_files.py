"""Which files are opened, what is written into, and files that are set aside."""

import os
import socket

import pytest

from maskrcnn_jax.files import check_regular, own, refuse_links, regular, set_aside


def test_a_file_set_aside_replaces_none(tmp_path):
    file = tmp_path / "log.old.txt"
    for number in (1, 2):
        file.write_text(str(number))
        assert set_aside(file) == tmp_path / f"log.old-{number}.txt"
    assert sorted((path.name, path.read_text()) for path in tmp_path.iterdir()) == [
        ("log.old-1.txt", "1"),
        ("log.old-2.txt", "2"),
    ]


def odd_files(folder) -> dict:
    """Returns what is no regular file, by how it is called; the names stay short for sockets."""
    os.mkfifo(folder / "pipe")
    (folder / "null").symlink_to("/dev/null")
    (folder / "link").symlink_to("pipe")
    server = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(folder)
    server.bind("socket")
    os.chdir(here)
    server.close()
    return {"pipe": "a FIFO", "null": "a device", "link": "a FIFO", "socket": "socket"}


def test_only_regular_files_are_opened(tmp_path):
    for name, kind in odd_files(tmp_path).items():
        with pytest.raises((ValueError, OSError), match=f"{name}( is {kind}|')"):
            regular(tmp_path / name, os.O_RDONLY)
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        regular(tmp_path, os.O_RDONLY)
    (tmp_path / "file").write_bytes(b"1")
    (tmp_path / "other").symlink_to("file")
    for name in ("file", "other"):
        with open(tmp_path / name, "rb", opener=regular) as file:
            assert file.read() == b"1"


@pytest.mark.parametrize("mode", ["w", "a", "r+"])
def test_nothing_is_written_through_another_name(tmp_path, mode):
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (tmp_path / "soft").symlink_to(precious)
    os.link(precious, tmp_path / "hard")
    os.mkfifo(tmp_path / "pipe")
    for name, reason in (
        ("soft", "is a link"),
        ("hard", "has other names"),
        ("pipe", "is a FIFO|.*No such device"),  # a FIFO that nobody reads cannot be written
    ):
        with pytest.raises(OSError, match=f"{name} {reason}"):
            open(tmp_path / name, mode, opener=own)  # noqa: SIM115
    assert precious.read_text() == "kept"
    (tmp_path / "hard").unlink()
    with open(precious, mode, opener=own) as file:
        file.write("more")
    assert precious.read_text() == {"w": "more", "a": "keptmore", "r+": "more"}[mode]


def test_links_are_refused_where_something_is_written(tmp_path):
    run = tmp_path / "run"
    refuse_links(run)
    (run / "best" / "3").mkdir(parents=True)
    refuse_links(run, run / "nowhere")
    (run / "best" / "3" / "x").symlink_to("nowhere")
    with pytest.raises(OSError, match="best/3/x is a link to nowhere"):
        refuse_links(run)
    (tmp_path / "other").symlink_to(run)
    with pytest.raises(OSError, match="other is a link"):
        refuse_links(tmp_path / "other")


def test_a_folder_of_regular_files(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").touch()
    (tmp_path / "a" / "link").symlink_to("file")
    check_regular(tmp_path)
    check_regular(tmp_path / "nowhere")
    for name, target in (("up", ".."), ("pipe", None), ("null", "/dev/null")):
        path = tmp_path / "a" / name
        path.symlink_to(target) if target else os.mkfifo(path)
        with pytest.raises(ValueError, match=f"a/{name} is neither a regular file nor a folder"):
            check_regular(tmp_path)
        path.unlink()
