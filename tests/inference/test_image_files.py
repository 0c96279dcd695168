"""Which files of a folder are images, and what the pictures drawn of them are called."""

import os

import pytest

from maskrcnn_jax.files import write_atomically
from maskrcnn_jax.inference.image_files import find_images, picture_names


def test_hidden_files_folders_and_what_is_no_file_are_passed_over(tmp_path):
    for name in ("b.JPG", "a.png", "._a.png", ".hidden.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    found = list(find_images([str(tmp_path), str(tmp_path / "notes.txt")]))
    assert [path.name for path in found] == ["a.png", "b.JPG", "notes.txt"]


def test_where_there_are_none(tmp_path):
    with pytest.raises(ValueError, match=r"no images found in .*; give image files"):
        list(find_images([str(tmp_path)]))
    with pytest.raises(ValueError, match="there are none"):
        list(find_images([]))
    with pytest.raises(FileNotFoundError, match=r"x\.png does not exist"):
        list(find_images([str(tmp_path / "x.png")]))


def test_any_name_gives_a_picture_of_its_own(tmp_path):
    names = [
        b"a.jpg",
        b"A.png",
        b"\xc6\xac\xb5.jpg",  # GBK
        b"\xff.jpg",
        *("片".encode() * 83 + end for end in (b".jpg", b".jpeg", b".png")),
        b"x" * 255,
        b"\xff" * 255,
    ]
    pictures = picture_names([tmp_path / os.fsdecode(n) for n in names])
    assert pictures[:2] == ["a.png", "A_2.png"]
    assert len({name.lower() for name in pictures}) == len(names)
    for name in pictures:
        write_atomically(tmp_path / name, b"")
        assert len(os.fsencode(name)) <= 255
    assert len(os.listdir(tmp_path)) == len(names)
    assert picture_names([tmp_path / ("片" * 83 + ".jpeg")]) == ["片" * 83 + ".png"]
