import os

import pytest

from maskrcnn_jax.data.files import annotation_files
from maskrcnn_jax.data.files.annotation_files import read_json, read_lines, read_xml, read_yaml


@pytest.fixture
def write(tmp_path):
    def write_file(content: str | bytes):
        path = tmp_path / "file"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file


def test_each_kind_is_read(write):
    assert read_lines(write("\ufeffa b \r\n\n c\n")) == ["a b", "c"]
    assert read_lines(write("a\n\nb"), keep_empty=True) == ["a", "", "b"]
    assert read_json(write('\ufeff{"a": [1]}'), "x") == {"a": [1]}
    root = read_xml(write("<a><b>1</b><b>é</b></a>"), "x")
    assert [(child.tag, child.text) for child in root] == [("b", "1"), ("b", "é")]
    latin = '<?xml version="1.0" encoding="latin-1"?><a>é</a>'.encode("latin-1")
    assert read_xml(write(latin), "x").text == "é"


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        *((name, "片段 1") for name in ("gb2312", "gbk", "gb18030", "big5", "utf-8-sig")),
        *((name, "カップ") for name in ("shift_jis", "euc_jp", "utf-16", "utf-8")),
        ("euc_kr", "컵"),
        ("windows-1251", "чашка"),
        ("iso-8859-1", "größe"),
    ],
)
def test_xml_is_read_in_any_encoding_that_python_knows(write, encoding, text):
    content = f'<?xml version="1.0" encoding="{encoding}"?>\n<a b="{text}">{text}</a>'
    root = read_xml(write(content.encode(encoding)), "x")
    assert (root.text, root.attrib) == (text, {"b": text})


@pytest.mark.parametrize("read", [read_lines, read_json, read_yaml, read_xml])
def test_only_regular_files_are_read(tmp_path, read):
    arguments = () if read is read_lines else ("labels",)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name, kind in (("pipe", "a FIFO"), ("zero", "a device"), ("link", "a FIFO")):
        with pytest.raises(ValueError, match=f"{name} is {kind}"):
            read(tmp_path / name, *arguments)


def test_scalars_of_yaml_stay_text(write):
    content = read_yaml(write("names: [no, 1.0, 'on']\n0: null\n"), "x")
    assert content == {"names": ["no", "1.0", "on"], "0": "null"}


@pytest.mark.parametrize(
    ("read", "content", "reason"),
    [
        (read_json, "{", "is not a JSON file.*expected labels"),
        (read_json, b"\xff\xfe", "is not text in UTF-8.*expected labels"),
        (read_json, "[" * 100_000, "is not a JSON file .*recursion"),
        (read_json, "9" * 5_000, "is not a JSON file"),
        (read_yaml, "a: [", "is not a YAML file.*expected labels"),
        (read_yaml, "a: &x [1]\nb: [*x, *x]", "has references"),
        (read_yaml, "[" * 1_000_000, "has more than 50 levels of brackets"),
        (read_xml, "<a>", "is not an XML file .*expected labels"),
        (read_xml, "", "is not an XML file"),
        (read_xml, '<?xml version="1.0" encoding="none"?><a/>', "is not an XML file"),
        (read_xml, b'<?xml version="1.0" encoding="gb2312"?><a>\xff</a>', "is not an XML file"),
        (read_xml, '<?xml version="1.0" encoding="zip"?><a/>', "is not an XML file"),
        (read_xml, '<?xml version="1.0" encoding="punycode"?><a/>', "is not an XML file"),
        (read_xml, '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "has a document type"),
        (read_xml, '<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "has a document type"),
        (read_xml, '<!DOCTYPE a [<!ENTITY b "c">]><a/>'.encode("utf-16"), "has a document type"),
    ],
)
def test_what_is_not_of_its_kind_is_refused(write, read, content, reason):
    with pytest.raises(ValueError, match=f"file.*{reason}"):
        read(write(content), "labels")


def test_yaml_constructs_no_objects(write):
    content = read_yaml(write("a: !!python/object/apply:os.getcwd []"), "x")
    assert content == {"a": []}


def test_large_files_are_refused_unread(tmp_path, monkeypatch):
    path = tmp_path / "large.json"
    with open(path, "wb") as file:
        file.truncate(2_000_000_000)  # takes no room on the disk
    with pytest.raises(ValueError, match=r"large\.json has 2,000,000,000 bytes, more than the"):
        read_json(path, "labels")
    monkeypatch.setattr(annotation_files, "MAX_BYTES", 3)
    path.write_text("abcd")
    for read in (read_xml, read_yaml):
        with pytest.raises(ValueError, match="has 4 bytes, more than the 3"):
            read(path, "labels")
    with pytest.raises(ValueError, match="has 4 bytes, more than the 3"):
        read_lines(path)
