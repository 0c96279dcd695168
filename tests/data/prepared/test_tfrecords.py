"""TFRecord files, walked without reading their images."""

import os

import pytest
import tensorflow as tf

from maskrcnn_jax.data.prepared import tfrecords

NUMBERS = list(range(-3, 300))


def message(number: int, image: bytes) -> bytes:
    """Returns a tf.train.Example with a feature of each kind, and one that has no values."""
    features = {
        "a/number": tf.train.Feature(int64_list=tf.train.Int64List(value=[number])),
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image])),
        "numbers": tf.train.Feature(int64_list=tf.train.Int64List(value=NUMBERS)),
        "shares": tf.train.Feature(float_list=tf.train.FloatList(value=[0.5, number])),
        "empty": tf.train.Feature(),
    }
    features = tf.train.Features(feature=features)
    return tf.train.Example(features=features).SerializeToString()


@pytest.fixture
def path(tmp_path):
    """A file of three examples, with images of 0, 5 and 300,000 bytes, written by TensorFlow."""
    path = str(tmp_path / "a.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for number, size in enumerate((0, 5, 300_000)):
            writer.write(message(number, bytes([number]) * size))
    return path


def test_each_example_is_found_and_read_by_itself(path):
    found = list(tfrecords.examples(path, "image"))
    for number, (place, example) in enumerate(found):
        assert "image" not in example.features.feature
        assert list(tfrecords.values(example, "a/number")) == [number]
        assert list(tfrecords.values(example, "numbers")) == NUMBERS
        assert list(tfrecords.values(example, "shares")) == [0.5, number]
        assert list(tfrecords.values(example, "empty")) == []
        assert list(tfrecords.values(example, "none")) == []
        assert place.path == path
    for number, size in ((2, 300_000), (0, 0), (1, 5)):
        example = tfrecords.read(found[number][0])
        assert list(tfrecords.values(example, "image")) == [bytes([number]) * size]
        assert list(tfrecords.values(example, "a/number")) == [number]


@pytest.mark.parametrize("missing", [1, 4, 5, 299_000])
def test_a_file_that_is_cut_short_is_named(path, missing):
    os.truncate(path, os.path.getsize(path) - missing)
    with pytest.raises(ValueError, match=r"a\.tfrecord is cut short or changed at byte \d+"):
        list(tfrecords.examples(path, "image"))


def test_what_is_no_such_file_is_named(tmp_path):
    path = tmp_path / "a.tfrecord"
    for content in (b"", b"x", b"hello, world, this is text", bytes([255]) * 40):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.tfrecord is (empty|cut short or changed)"):
            list(tfrecords.examples(path, "image"))
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
    with pytest.raises(ValueError, match="more than 64 bits"):
        list(tfrecords.examples(path, "image"))


def test_a_file_that_has_changed_since_is_named(path):
    place = next(tfrecords.examples(path, "image"))[0]
    with open(path, "r+b") as file:
        file.seek(place.offset)
        file.write(bytes([255]) * 8)
    with pytest.raises(ValueError, match=r"a\.tfrecord has changed at byte 12"):
        tfrecords.read(place)
