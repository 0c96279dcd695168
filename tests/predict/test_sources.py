"""What arguments name, what of folders is passed over, and the names of what is written."""

import os
from pathlib import Path

import pytest

from maskrcnn_jax.files import write_atomically
from maskrcnn_jax.predict.sources import Source, find, frames_of, unique_names


@pytest.fixture
def folder(tmp_path):
    for name in ("b.JPG", "a.png", "._a.png", ".hidden.jpg", "notes.txt", "deep/er/c.tif", "v.MP4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "d.png").write_bytes(b"")
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    return tmp_path


def _places(sources):
    return [Path(source.place).name for source in sources]


def test_a_folder_is_searched_with_all_that_is_in_it(folder):
    found, passed_over = find([str(folder)])
    assert _places(found) == ["a.png", "b.JPG", "v.MP4", "c.tif"]
    assert [source.name for source in found] == ["a", "b", "v", "deep/er/c"]
    assert [source.kind for source in found] == ["image", "image", "video", "image"]
    assert str(passed_over) == (
        "passed over: 3 hidden, 3 neither image nor video (gone.png, notes.txt, pipe.png)"
    )


def test_the_folder_of_results_is_not_searched(folder):
    (folder / "out").mkdir()
    (folder / "out" / "a.png").write_bytes(b"")
    assert len(find([str(folder)], out=folder / "out")[0]) == 4
    assert len(find([str(folder)])[0]) == 5


def test_a_file_is_taken_whatever_its_name(folder):
    found, passed_over = find([str(folder / "notes.txt"), str(folder / ".hidden.jpg")])
    assert _places(found) == ["notes.txt", ".hidden.jpg"]
    assert str(passed_over) == ""


def test_patterns(folder):
    assert _places(find([str(folder / "[ab].*")])[0]) == ["a.png", "b.JPG"]
    assert _places(find([str(folder / "**" / "*.tif")])[0]) == ["c.tif"]
    (folder / "a[1].png").write_bytes(b"")  # a file of that very name
    assert _places(find([str(folder / "a[1].png")])[0]) == ["a[1].png"]
    with pytest.raises(FileNotFoundError, match=r"nothing matches .*\*\.bmp"):
        find([str(folder / "*.bmp")])


def test_addresses_cameras_and_numbered_frames(tmp_path):
    address = "https://host/pictures/a%20b.jpg?size=large#top"
    pattern = str(tmp_path / "frame_%04d.png")
    found, _ = find([address, "camera:1", pattern, str(tmp_path / "%d.png"), "http://host"])
    assert [(source.kind, source.name) for source in found] == [
        ("address", "a b"),
        ("camera", "camera_1"),
        ("sequence", "frame"),
        ("sequence", tmp_path.name),
        ("address", "image"),
    ]
    assert [str(source) for source in found] == [
        address, "camera:1", pattern, str(tmp_path / "%d.png"), "http://host"
    ]  # fmt: skip
    with pytest.raises(ValueError, match="videos are read from files"):
        find(["https://host/a.mp4"])
    with pytest.raises(ValueError, match="camera:front is no camera"):
        find(["camera:front"])


def test_frames_come_by_their_numbers(tmp_path):
    for name in ("f10.png", "f9.png", "f010.jpg", "g1.png", "f1x.png"):
        (tmp_path / name).write_bytes(b"")
    found = frames_of(str(tmp_path / "f%d.png"))
    assert [path.name for path in found] == ["f9.png", "f10.png"]
    with pytest.raises(FileNotFoundError, match=r"no file is named as .*%d\.gif"):
        frames_of(str(tmp_path / "f%d.gif"))


def test_where_there_are_none(tmp_path):
    with pytest.raises(ValueError, match=r"no images found in .*; give image files"):
        find([str(tmp_path)])
    with pytest.raises(ValueError, match="there are none"):
        find([])
    with pytest.raises(FileNotFoundError, match=r"x\.png does not exist"):
        find([str(tmp_path / "x.png")])


def test_any_name_gives_names_of_its_own(tmp_path):
    names = [
        b"a",
        b"A",
        b"\xc6\xac\xb5",  # GBK
        b"\xff",
        *["片".encode() * 83] * 3,
        b"x" * 255,
        b"\xff" * 255,
    ]
    unique = unique_names([os.fsdecode(name) for name in names] + ["deep/a"])
    assert unique[:2] == ["a", "A_2"]
    assert unique[-1] == "deep/a"
    assert len({name.lower() for name in unique}) == len(names) + 1
    for name in unique:
        write_atomically(tmp_path / f"{name}.json", b"")
        assert len(os.fsencode(os.path.basename(name))) <= 255 - 16


def test_a_source_tells_whether_it_is_one_image():
    kinds = ("image", "address", "video", "sequence", "camera")
    assert [Source(kind, "", "").is_image for kind in kinds] == [True, True, False, False, False]
