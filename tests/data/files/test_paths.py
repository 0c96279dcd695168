import os
import tempfile
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskrcnn_jax.data.files.paths import existing, files_in, path_in, pictures


def test_names_inside_the_folder():
    assert path_in("/data/x", "a/b.jpg") == "/data/x/a/b.jpg"
    assert path_in("/data/x", "..a/b..jpg") == "/data/x/..a/b..jpg"


@pytest.mark.parametrize(
    "name",
    ["../a.jpg", "/etc/passwd", "a/../../b.jpg", "..", "a\\..\\..\\b.jpg", "C:\\a.jpg", "", "a\0b"],
)
def test_names_that_leave_it_are_refused(name):
    with pytest.raises(ValueError, match="leads out of /data/x"):
        path_in("/data/x", name)


def test_missing_path_shows_what_is_near(tmp_path):
    (tmp_path / "train2017").mkdir()
    assert existing(tmp_path / "train2017", "images", True) == str(tmp_path / "train2017")
    with pytest.raises(ValueError, match=r"images is '.*train', which does not.*train2017"):
        existing(tmp_path / "train", "images", True)
    with pytest.raises(ValueError, match=r"a is .*which is a folder; expected a file"):
        existing(tmp_path / "train2017", "a", False)
    (tmp_path / "f.json").write_text("")
    (tmp_path / "photos").mkdir()
    (tmp_path / ".hidden").mkdir()
    with pytest.raises(ValueError, match=r"there is: photos$"):
        existing(tmp_path / "phtos" / "deeper", "images", True)
    with pytest.raises(ValueError, match=r"there is: photos, train2017$"):
        existing(tmp_path / "another", "images", True)
    with pytest.raises(ValueError, match=r"a is .*which is a file; expected a folder"):
        existing(tmp_path / "f.json", "a", True)


def test_files_of_a_folder_and_of_those_in_it(tmp_path):
    for name in ("b.JPG", "a.jpg", "c.txt", ".d.jpg", "sub/e.jpg", ".hidden/f.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "sub" / "circle").symlink_to(tmp_path, target_is_directory=True)
    assert files_in(tmp_path, ".jpg") == ["a.jpg", "b.JPG", "sub/e.jpg"]
    assert files_in(tmp_path, ".txt", ".png") == ["c.txt"]
    assert pictures(tmp_path) == ["a.jpg", "b.JPG"]
    assert pictures(tmp_path / "none") == []


@pytest.fixture
def folder(tmp_path):
    """A folder with images/a b.png, images/é/c.png (accent in one character) and x%20y.png."""
    for name in ("images/a b.png", "images/é/c.png", "images/100%.png", "x%20y.png"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("images\\a b.png", "images/a b.png"),
        (".\\images\\a b.png", "images/a b.png"),
        ("./images//a b.png", "images/a b.png"),
        ("images/a%20b.png", "images/a b.png"),
        (".\\images\\a%20b.png", "images/a b.png"),
        ("C:\\Users\\me\\data\\images\\a b.png", "images/a b.png"),
        ("/home/me/images/a b.png", "images/a b.png"),
        ("file:///home/me/images/a%20b.png", "images/a b.png"),
        ("images/e\u0301/c.png", "images/é/c.png"),
        ("images\\e\u0301\\c.png", "images/é/c.png"),
        ("images/%C3%A9/c.png", "images/é/c.png"),
        ("/x/é/../images/a b.png", None),
        ("x%20y.png", "x%20y.png"),
        ("images/100%.png", "images/100%.png"),
        ("%2e%2e/secret", None),
    ],
)
def test_names_of_other_systems_are_found(folder, name, found):
    (folder.parent / "secret").write_text("")
    if found is not None:
        assert path_in(folder, name) == f"{folder}/{found}"
        return
    try:
        path = Path(path_in(folder, name))
    except ValueError:
        return
    assert not path.exists()


PARTS = st.lists(st.sampled_from(["a b", "é", "mü", "x.1", "%", "100%25"]), min_size=1, max_size=4)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(PARTS, st.sampled_from(["NFC", "NFD"]), st.sampled_from(["NFC", "NFD"]), st.booleans())
def test_any_form_of_a_name_means_the_same_file(parts, there, given_form, windows):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, *(unicodedata.normalize(there, part) for part in parts))
        file.mkdir(parents=True)
        name = unicodedata.normalize(given_form, ("\\" if windows else "/").join(parts))
        assert os.path.samefile(path_in(folder, name), file)
        absolute = ("D:\\old\\" if windows else "/old/") + name
        assert os.path.samefile(path_in(folder, absolute), file)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["..", "a", "%2e%2e", "C:", "", ".", "b.png"]), max_size=5))
def test_no_name_leads_out(parts):
    for separator in ("/", "\\"):
        try:
            path = path_in("/nowhere/data", separator.join(parts))
        except ValueError:
            continue
        assert os.path.normpath(path).startswith("/nowhere/data")
