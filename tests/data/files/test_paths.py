import pytest

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
