"""Where the examples of a TFRecord file lie, so that each can be read by itself.

A TFRecord file has no index: it is a row of lengths and contents, to be read from its start. Here
the row is walked once, over the lengths alone, and inside each example past the image, so that few
of the file's bytes are touched.

The framing is described in TensorFlow's `lib/io/record_writer.h` (length, its checksum, content,
its checksum), the content in `core/example/feature.proto` and Protocol Buffers' page on encoding.
"""

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from maskrcnn_jax.files import regular

_HEADER, _FOOTER = 12, 4  # bytes around the content: a length of 8 and checksums of 4
_LENGTH_DELIMITED = 2  # the wire type of messages, text and bytes


class Place(NamedTuple):
    """Where an example's content is: its file, and its first byte and length there."""

    path: str
    offset: int
    length: int


def examples(path: str | Path, without: str) -> Iterator[tuple[Place, Any]]:
    """Yields the place of each example of a file, and its features but for one.

    Args:
        path: a TFRecord file of tf.train.Example messages.
        without: the name of the feature that is passed over, unread.

    Raises:
        ValueError: the file is cut short or is no such file.
        OSError: it is not there or may not be read.
    """
    parse = _example_message().FromString
    name = without.encode()
    with open(path, "rb", opener=regular) as file:
        if not file.seek(0, 2):
            raise ValueError(f"{path} is empty; copy it again")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            offset = 0
            while offset < len(content):
                start = offset + _HEADER
                try:
                    (length,) = struct.unpack_from("<Q", content, offset)
                    end = start + length
                    if end + _FOOTER > len(content):
                        raise ValueError("its content ends after the file does")
                    example = parse(_other_features(content, start, end, name))
                except Exception as error:  # struct's, an index's, and protocol buffers' own
                    raise ValueError(
                        f"{path} is cut short or changed at byte {offset} ({error}); copy it again"
                    ) from error
                yield Place(str(path), start, length), example
                offset = end + _FOOTER


def read(place: Place) -> Any:
    """Returns an example as a message, tf.train.Example.

    Args:
        place: that `examples` gave.

    Raises:
        ValueError: the file has changed since.
        OSError: it is not there or may not be read.
    """
    with open(place.path, "rb", opener=regular) as file:
        file.seek(place.offset)
        content = file.read(place.length)
    try:
        return _example_message().FromString(content)
    except Exception as error:  # of protocol buffers, which has several kinds
        raise ValueError(
            f"{place.path} has changed at byte {place.offset} ({error}); copy it again"
        ) from error


def values(example: Any, name: str) -> Any:
    """Returns the values of a feature, a sequence; those of all instances, one after the other.

    Args:
        example: a tf.train.Example message.
        name: of the feature; there are no values where the example lacks it.
    """
    feature = example.features.feature[name]
    kind = feature.WhichOneof("kind")
    return getattr(feature, kind).value if kind else ()


def column(example: Any, name: str, kind: str) -> Any:
    """Returns the values of a feature as `values` does, if they are of one kind.

    Args:
        example: a tf.train.Example message.
        name: of the feature.
        kind: "int64", "float" or "bytes".

    Raises:
        ValueError: they are of another kind.
    """
    found = example.features.feature[name].WhichOneof("kind")
    if found not in (None, f"{kind}_list"):
        raise ValueError(f"its {name} is a {found}; expected {kind}_list")
    return values(example, name)


def content_of(example: Any, where: str) -> bytes:
    """Returns the image file that an example holds.

    Args:
        example: a tf.train.Example message.
        where: it is, for the message.

    Raises:
        ValueError: it holds none, or several.
    """
    found = column(example, "image", "bytes")
    if len(found) != 1:
        raise ValueError(f"{where} has {len(found)} contents; expected one image file")
    return found[0]


def _example_message() -> Any:
    # Here, because tensorflow-datasets takes a second to import. This part does without TensorFlow.
    from tensorflow_datasets.proto import tf_example_pb2

    return tf_example_pb2.Example


def _other_features(content: mmap.mmap, start: int, end: int, without: bytes) -> bytes:
    """Returns the Example message of a file's bytes, less the entry of one feature's name."""
    entries = []
    for _, _, features, features_end in _fields(content, start, end):
        for _, field, entry, entry_end in _fields(content, features, features_end):
            _, _, name, name_end = next(_fields(content, entry, entry_end))
            if content[name:name_end] != without:
                entries.append(content[field:entry_end])
    joined = b"".join(entries)
    return b"\x0a" + _as_varint(len(joined)) + joined  # field 1, length-delimited


def _fields(content: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yields each field's number, its first byte, and the first byte and the end of its value."""
    at = start
    while at < end:
        key, after = _varint(content, at)
        length, value = _varint(content, after)
        if key & 7 != _LENGTH_DELIMITED or value + length > end:
            raise ValueError("it is not a tf.train.Example message")
        yield key >> 3, at, value, value + length
        at = value + length


def _varint(content: mmap.mmap, at: int) -> tuple[int, int]:
    """Returns a number of seven bits a byte, the lowest first, and where it ends."""
    number = 0
    for shift in range(0, 64, 7):
        byte = content[at]
        number |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return number, at
    raise ValueError("a length has more than 64 bits")


def _as_varint(number: int) -> bytes:
    """Returns a number as `_varint` reads it."""
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])
