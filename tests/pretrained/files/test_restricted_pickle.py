"""Pickles are read as data: arrays of any numpy and Python come out, code is refused unexecuted."""

import io
import os
import pickle
import struct
from collections import OrderedDict
from typing import ClassVar

import numpy as np
import pytest

from maskrcnn_jax.pretrained.files.restricted_pickle import PickledArray, load

ARRAYS = {
    "c": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
    "permuted": np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(1, 0, 2),
    "big_endian": np.arange(3, dtype=">f4"),
    "half": np.array([0.5, -2], np.float16),
    "whole": np.array([-1, 2**40]),
    "bool": np.array([True, False]),
    "bytes": np.arange(256, dtype=np.uint8),
    "single": np.array(7, np.int64),
    "none": np.zeros((0, 3), np.float32),
}


def read(data, tmp_path):
    path = tmp_path / "weights.pkl"
    path.write_bytes(data)
    return load(path)


def as_numpy(data, core):
    """A pickle of protocol 0 to 3, in which names are lines, with numpy 1's or 2's paths."""
    old, new = (b"numpy._core.", b"numpy.core.")[:: 1 if core == "core" else -1]
    return data.replace(old, new)


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes alike as Python 2 wrote its `str`."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_str2(self, value):
        raw = value.encode("latin1") if isinstance(value, str) else value
        self.write(b"T" + struct.pack("<i", len(raw)) + raw)
        self.memoize(value)

    dispatch[str] = dispatch[bytes] = save_str2


def python2_pickle(value):
    stream = io.BytesIO()
    Python2Pickler(stream, protocol=2).dump(value)
    return as_numpy(stream.getvalue(), "core")


def assert_arrays(found, expected):
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert isinstance(found[name], PickledArray)
        assert found[name].array.dtype == array.dtype
        np.testing.assert_array_equal(found[name].array, array)


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol(tmp_path, protocol):
    # Before protocol 3 empty bytes are a call of `bytes`, which is not among the names admitted.
    arrays = {name: array for name, array in ARRAYS.items() if array.size or protocol > 2}
    assert_arrays(read(pickle.dumps(arrays, protocol), tmp_path), arrays)


@pytest.mark.parametrize("core", ["core", "_core"])
@pytest.mark.parametrize("protocol", [2, 3])
def test_both_numpys(tmp_path, core, protocol):
    data = as_numpy(pickle.dumps({"a": ARRAYS["c"], "n": np.float32(1.5)}, protocol), core)
    assert f"numpy.{core}.multiarray".encode() in data
    found = read(data, tmp_path)
    np.testing.assert_array_equal(found["a"].array, ARRAYS["c"])
    assert found["n"] == 1.5


def test_python_2(tmp_path):
    data = python2_pickle({**ARRAYS, "author": "größe"})
    assert b"_codecs" not in data
    found = read(data, tmp_path)
    assert found.pop("author") == "größe"
    assert_arrays(found, ARRAYS)


def test_plain_containers(tmp_path):
    content = OrderedDict(a=[1, 2.5, None, True], b=("x", {"y": b"z"}), c=OrderedDict(d=2**70))
    for protocol in (0, 2, 4):
        assert read(pickle.dumps(content, protocol), tmp_path) == content


def test_methods_of_containers_stay_theirs(tmp_path):
    content = OrderedDict(a=1)
    content.get, content._metadata = "mine", {"version": 1}
    found = read(pickle.dumps(content), tmp_path)
    assert found.get("a") == 1
    assert not vars(found)


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_is_executed(tmp_path, protocol):
    marker = tmp_path / "executed"
    data = pickle.dumps({"model": {"a": Calls(open, str(marker), "w")}}, protocol)
    with pytest.raises(ValueError, match=r"names _?io\.open.*nothing in it was executed"):
        read(data, tmp_path)
    assert not marker.exists()
    pickle.loads(data)  # and this is what it would have done
    assert marker.exists()


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (eval, ("1 + 1",), r"(builtins|__builtin__)\.eval"),
        (os.system, ("true",), r"(posix|nt)\.system"),
        (getattr, ("x", "upper"), r"(builtins|__builtin__)\.getattr"),
        (np.fromfile, ("/dev/zero",), r"numpy\S*\.fromfile"),
        (bytearray, (10,), r"(builtins|__builtin__)\.bytearray"),
    ],
)
def test_other_names_are_refused(tmp_path, function, arguments, name, protocol):
    data = pickle.dumps([{"deep": {"down": Calls(function, *arguments)}}], protocol)
    with pytest.raises(ValueError, match=f"weights.pkl names {name}: only arrays"):
        read(data, tmp_path)


def short(text):
    return b"\x8c" + bytes([len(text)]) + text


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"cos\nsystem\n(S'true'\ntR.", "names os.system"),
        (b"(S'true'\nios\nsystem\n.", "names os.system"),
        (b"\x80\x04" + short(b"numpy") + short(b"ndarray.tofile") + b"\x93.", "ndarray.tofile"),
        (b"\x80\x02\x82\x01.", "outside of it .EXT1"),
        (b"\x80\x02U\x01aQ.", "outside of it .BINPERSID"),
        (b"\x80\x02c_codecs\nencode\n}U\x08__code__K\x01sb.", "changes a function"),
        (b"\x80\x02c_codecs\nencode\nU\x01aU\x03bz2\x86R.", "encodes text as 'bz2'"),
        (b"\x80\x02}r\xff\xff\xff\x7f.", "remembers its object 2147483647 after 2 instructions"),
        (b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"abc.", "truncated"),
        (b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"abc.", "truncated"),
        (b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"N.", "truncated"),
        (b"\x80\x02cnumpy\nndarray\n)R.", "damaged"),
        (b"\x80\x02ccollections\nOrderedDict\n}U\x01aK\x01sb.", "damaged"),
    ],
)
def test_by_hand(tmp_path, data, match):
    with pytest.raises(ValueError, match=match):
        read(data, tmp_path)
    assert not hasattr(OrderedDict, "a")


def described(shape, dtype, data):
    """Pickles as numpy's arrays do, with a description of the test's own."""
    reconstruct, arguments, _ = np.zeros(1).__reduce__()
    description = Calls(None)
    description.call = reconstruct, arguments, (1, shape, dtype, False, data)
    return description


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (np.array([{}], object), "type 'O8', expected numbers"),
        (np.array(["text"]), "type 'U4', expected numbers"),
        (np.zeros(1, "f4,i4"), "type 'V8', expected numbers"),
        (np.zeros(1, np.complex64), "type 'c8', expected numbers"),
        (described((10**12,), np.dtype("f4"), b"1234"), "4000000000000 bytes, with 4 bytes"),
        (described((2**62, 2**62), np.dtype("f4"), b"1234"), "with 4 bytes"),
        (described((-1, -1), np.dtype("f4"), b"1234"), "shape .-1, -1."),
        (described((1,), np.dtype("f4"), ["x"]), "Python objects"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_arrays_that_are_refused(tmp_path, value, match, protocol):
    with pytest.raises(ValueError, match=match):
        read(pickle.dumps({"a": value}, protocol), tmp_path)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_truncated_anywhere(tmp_path, protocol):
    data = pickle.dumps({"a": ARRAYS["c"], "b": [1, "x"]}, protocol)
    for length in range(1, len(data)):
        with pytest.raises(ValueError, match="truncated or damaged; download"):
            read(data[:length], tmp_path)


def test_damaged_bytes_raise_nothing_else(tmp_path):
    data = pickle.dumps({"a": ARRAYS["c"], "b": [1, "x"]}, 2)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(500):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] = rng.integers(256)
        try:
            read(bytes(damaged), tmp_path)
        except ValueError:
            refused += 1
    assert 100 < refused < 500


# A tuple that holds another one twice, which holds another one twice, ...: 2**45 parts to hash.
LAUGHS = b")" + b"2\x86" * 45


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02}" + LAUGHS + b"K\x01s.",
        b"\x80\x02}(" + LAUGHS + b"K\x01u.",
        b"\x80\x02(" + LAUGHS + b"K\x01d.",
        b"\x80\x02ccollections\nOrderedDict\n](](" + LAUGHS + b"K\x01eeh\x85R.".replace(b"h", b""),
        b"\x80\x04\x8f(" + LAUGHS + b"\x90.",
        b"\x80\x04(" + LAUGHS + b"\x91.",
        b"\x80\x02}N]s.",
        b"\x80\x02}G\x7f\xf8\0\0\0\0\0\0K\1s.",
    ],
)
def test_keys_that_take_for_ever_to_hash_are_refused(tmp_path, data):
    with pytest.raises(ValueError, match=r"has a dict with keys that are neither|has a set"):
        read(data, tmp_path)


def test_shapes_that_are_no_numbers_are_refused(tmp_path):
    for shape in (("x", 10**9), (2**70, 0), (1.0,), [1]):
        data = described(shape, np.dtype("f4"), b"\0" * 4)
        with pytest.raises(ValueError, match=r"impossible shape|has an array of shape"):
            read(pickle.dumps(data, 2), tmp_path)
