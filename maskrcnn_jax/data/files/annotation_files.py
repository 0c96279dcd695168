"""Annotation files as text, JSON, YAML and XML, read with care.

They may come from anyone: their size is looked at before they are opened, nothing in them can run
or reach another file, and whatever is wrong with them is a ValueError that names them.
"""

import codecs
import json
import os
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.parsers import expat

import yaml

from maskrcnn_jax.console import printable, said_if_slow
from maskrcnn_jax.faults import FaultError, FaultKind
from maskrcnn_jax.files import regular

# LVIS, the largest published set of annotations, has 1.1 GB. Parsed JSON takes about ten times as
# much memory as its text.
MAX_JSON_BYTES = 1_500_000_000
MAX_BYTES = 50_000_000  # of any other file

_MOST_YAML_DEPTH = 50
_YAML_BEGINS = (yaml.FlowSequenceStartToken, yaml.FlowMappingStartToken)
_YAML_ENDS = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken)

# How an XML file begins: the marks of Unicode's encodings, or a declaration in ASCII.
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_DECLARED = re.compile(rb"""<\?xml[^>]{0,200}?\sencoding\s*=\s*["']([\w.:-]{1,40})["']""")
# Python's codecs of text that are no encodings of files; some take the square of its length.
_NO_ENCODINGS = {"idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined", "utf-7"}


def read_lines(path: str | Path, keep_empty: bool = False) -> list[str]:
    """Returns the lines of a text file without blanks at their ends.

    Args:
        path: UTF-8 text, with or without a byte order mark.
        keep_empty: whether empty lines are among them, so that lines can be counted.

    Raises:
        ValueError: the file is too large, or is no such text.
        OSError: it is not there or may not be read.
    """
    lines = (line.strip() for line in _text(path, MAX_BYTES).splitlines())
    return [line for line in lines if line or keep_empty]


def read_json(path: str | Path, expected: str) -> Any:
    """Returns the content of a JSON file.

    Args:
        path: UTF-8 text, with or without a byte order mark.
        expected: what the file should hold, for the message.

    Raises:
        ValueError: the file is too large, or is no JSON.
        OSError: it is not there or may not be read.
    """
    text = _text(path, MAX_JSON_BYTES, f"; expected {expected}")
    try:
        with said_if_slow(f"reading {printable(path)}, {len(text) / 1e6:,.0f} MB"):
            return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FaultError(
            FaultKind.UNREADABLE_FILE, f"{path} is not a JSON file ({error}); expected {expected}"
        ) from error


def read_yaml(path: str | Path, expected: str) -> Any:
    """Returns the content of a YAML file: dicts, lists, and every scalar as the text it is.

    Nothing is converted, so that a class named `no` or `1.0` keeps its name. No object is
    constructed. References to other parts of the file, of which a few lines can make a billion
    entries, are refused.

    Args:
        path: UTF-8 text.
        expected: what the file should hold, for the message.

    Raises:
        ValueError: the file is too large, is no YAML, or has references.
        OSError: it is not there or may not be read.
    """
    text = _text(path, MAX_BYTES, f"; expected {expected}")
    try:
        depth = 0
        for token in yaml.scan(text):
            depth += isinstance(token, _YAML_BEGINS) - isinstance(token, _YAML_ENDS)
            if isinstance(token, yaml.AliasToken) or depth > _MOST_YAML_DEPTH:
                what = "references (*name), which are not followed; write it out"
                if depth > _MOST_YAML_DEPTH:  # each level makes every later token slower
                    what = f"more than {_MOST_YAML_DEPTH} levels of brackets"
                raise FaultError(FaultKind.UNREADABLE_FILE, f"{path} has {what}")
        return yaml.load(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise FaultError(
            FaultKind.UNREADABLE_FILE, f"{path} is not a YAML file ({reason}); expected {expected}"
        ) from error


def read_xml(path: str | Path, expected: str) -> ElementTree.Element:
    """Returns the root of an XML file.

    Document types and the entities that they define are refused: they can name other files, and
    a few lines of them can stand for gigabytes.

    Args:
        path: in any encoding that its first line names and Python knows.
        expected: what the file should hold, for the message.

    Raises:
        ValueError: the file is too large, is no XML, or has a document type.
        OSError: it is not there or may not be read.
    """

    def refuse(*_: object) -> None:
        raise FaultError(
            FaultKind.UNREADABLE_FILE,
            f"{path} has a document type (<!DOCTYPE ...>), which is refused; remove it",
        )

    content = _bytes(path, MAX_BYTES)
    builder, parser = ElementTree.TreeBuilder(), expat.ParserCreate("utf-8")
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(_as_utf8(content), True)
    except (expat.ExpatError, LookupError, UnicodeError) as error:
        raise FaultError(
            FaultKind.UNREADABLE_FILE, f"{path} is not an XML file ({error}); expected {expected}"
        ) from error
    return builder.close()


def _as_utf8(content: bytes) -> bytes:
    """Returns the content of an XML file in UTF-8: expat itself knows few encodings.

    Raises:
        UnicodeError, LookupError: its encoding is unknown, or another than it says.
    """
    mark = next((name for start, name in _MARKS.items() if content.startswith(start)), None)
    declared = _DECLARED.match(content)
    name = mark or (declared[1].decode() if declared else "utf-8")
    if codecs.lookup(name).name in _NO_ENCODINGS:
        raise LookupError(f"unknown encoding: {name}")
    return content.decode(name).encode()


def _text(path: str | Path, max_bytes: int, expected: str = "") -> str:
    try:
        return _bytes(path, max_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FaultError(
            FaultKind.UNREADABLE_FILE, f"{path} is not text in UTF-8 ({error}){expected}"
        ) from error


def _bytes(path: str | Path, max_bytes: int) -> bytes:
    with open(path, "rb", opener=regular) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise FaultError(
                FaultKind.FILE_TOO_LARGE,
                f"{path} has {size:,} bytes, more than the {max_bytes:,} that are read of such a "
                "file; split it",
            )
        return file.read(max_bytes)
