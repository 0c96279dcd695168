"""Files that are set aside."""

from maskrcnn_jax.files import set_aside


def test_a_file_set_aside_replaces_none(tmp_path):
    file = tmp_path / "log.old.txt"
    for number in (1, 2):
        file.write_text(str(number))
        assert set_aside(file) == tmp_path / f"log.old-{number}.txt"
    assert sorted((path.name, path.read_text()) for path in tmp_path.iterdir()) == [
        ("log.old-1.txt", "1"),
        ("log.old-2.txt", "2"),
    ]
