"""Every kind of weight file by its contents, whatever it is called, and what is wrong with it."""

import hashlib
import json
import pickle
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from maskrcnn_jax.pretrained.files.weight_files import read_weights, sha256

ARRAYS = {
    "conv1/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "bn1/count": np.array([3], np.int64),
}


def need(package):
    return pytest.importorskip(package, reason=f"{package} is not installed: pip install {package}")


def write_torch(path, arrays):
    torch = need("torch")
    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, path)


def write_legacy_torch(path, arrays):
    torch = need("torch")
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    torch.save(state, path, _use_new_zipfile_serialization=False)


def write_safetensors(path, arrays):
    need("safetensors")
    from safetensors.numpy import save_file

    save_file(arrays, path)


def write_pickle(path, arrays):
    path.write_bytes(pickle.dumps(arrays, 2))


def write_text_pickle(path, arrays):
    path.write_bytes(pickle.dumps(arrays, 0))


def write_keras(path, arrays):
    h5py = need("h5py")
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[f"{name}:0"] = array


TORCH_WRITERS = {"torch": write_torch, "legacy torch": write_legacy_torch}
WRITERS = {
    **(TORCH_WRITERS if find_spec("torch") else {}),
    "safetensors": write_safetensors,
    "pickle": write_pickle,
    "text pickle": write_text_pickle,
    "keras": write_keras,
}


def assert_equal(found, expected):
    assert set(found) == set(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("kind", WRITERS)
def test_contents_decide_not_the_name(tmp_path, kind):
    for name in ("a.pth", "b.h5", "c.pkl", "d"):
        path = tmp_path / name
        WRITERS[kind](path, ARRAYS)
        assert_equal(read_weights(path), ARRAYS)
    assert_equal(read_weights(str(path)), ARRAYS)


@pytest.mark.parametrize("kind", WRITERS)
def test_truncated(tmp_path, kind):
    path = tmp_path / "a.bin"
    WRITERS[kind](path, ARRAYS)
    data = path.read_bytes()
    for length in (len(data) - 1, len(data) * 3 // 4, len(data) // 2, len(data) // 4):
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"a\.bin.*truncated or damaged; download"):
            read_weights(path)


@pytest.mark.parametrize("kind", WRITERS)
def test_no_arrays(tmp_path, kind):
    path = tmp_path / "a.bin"
    WRITERS[kind](path, {})
    with pytest.raises(ValueError, match=r"a\.bin holds no arrays; expected"):
        read_weights(path)


@pytest.mark.parametrize("kind", WRITERS)
def test_values_that_are_not_finite(tmp_path, kind):
    path = tmp_path / "a.bin"
    bad = {f"bn{i}/beta": np.array([1, value]) for i, value in enumerate([np.nan, -np.inf, 1e300])}
    WRITERS[kind](path, {**ARRAYS, **bad})
    with pytest.raises(ValueError, match=r"3 of 5 arrays .*: bn0/beta, bn1/beta, bn2/beta;"):
        read_weights(path)


@pytest.mark.parametrize("kind", WRITERS)
def test_floats_become_float32(tmp_path, kind):
    path = tmp_path / "a.bin"
    values = np.array([[0.5, -2], [1, 0.25]])
    arrays = {"a/double": values, "a/half": values.astype(np.float16), "a/bytes": np.uint8([1, 2])}
    WRITERS[kind](path, arrays)
    expected = {name: values.astype(np.float32) for name in ("a/double", "a/half")}
    assert_equal(read_weights(path), {**expected, "a/bytes": arrays["a/bytes"]})


def test_bfloat16(tmp_path):
    values = np.array([0.5, -2, 1e30], np.float32)
    write_safetensors(tmp_path / "a", {"w": values.astype(ml_dtypes.bfloat16)})
    np.testing.assert_allclose(read_weights(tmp_path / "a")["w"], values, rtol=1e-2)


def test_complex_numbers_are_no_weights(tmp_path):
    write_safetensors(tmp_path / "a", {"w": np.zeros(2, np.complex64)})
    with pytest.raises(ValueError, match="w is an array of complex64; expected"):
        read_weights(tmp_path / "a")


def test_safetensors_header_that_begins_like_a_pickle(tmp_path):
    need("safetensors")
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}})
    data = (0x0280).to_bytes(8, "little") + header.ljust(0x0280).encode() + np.float32(3).tobytes()
    assert data.startswith(b"\x80\x02")
    (tmp_path / "a").write_bytes(data)
    assert_equal(read_weights(tmp_path / "a"), {"w": np.array([3], np.float32)})


@pytest.mark.parametrize(
    "layout",
    [
        lambda arrays: {"model": arrays, "__author__": "someone", "matching_heuristics": True},
        lambda arrays: {"blobs": {**arrays, "conv1_w_momentum": np.zeros(3)}, "cfg": "a: 1"},
        lambda arrays: {**arrays, "conv1_w_momentum": np.zeros(3), "weight_order": ["conv1_w"]},
    ],
)
def test_layouts_of_detectron(tmp_path, layout):
    arrays = {"conv1_w": np.ones((1, 2), np.float32), "model.fc.bias": np.zeros(2, np.float32)}
    write_pickle(tmp_path / "a.pkl", layout(arrays))
    assert_equal(read_weights(tmp_path / "a.pkl"), arrays)


def test_pickle_of_something_else(tmp_path):
    write_pickle(tmp_path / "a.pkl", [np.zeros(2)])
    with pytest.raises(ValueError, match=r"a\.pkl holds a list; expected a dict of arrays"):
        read_weights(tmp_path / "a.pkl")


def test_nothing_is_executed(tmp_path):
    marker = tmp_path / "executed"

    class Evil:
        def __reduce__(self):
            return open, (str(marker), "w")

    write_pickle(tmp_path / "a.pth", {"model": {"a": Evil()}})
    with pytest.raises(ValueError, match=r"a\.pth names _?io\.open.*nothing in it was executed"):
        read_weights(tmp_path / "a.pth")
    assert not marker.exists()


def test_arrays_far_larger_than_the_file(tmp_path):
    shared = np.zeros(1000, np.float32)
    write_pickle(tmp_path / "a.pkl", {str(i): shared for i in range(100)})
    with pytest.raises(ValueError, match="claims arrays of 400000 bytes; expected at most 8 times"):
        read_weights(tmp_path / "a.pkl")


def test_what_is_no_weight_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth does not exist; expected a file"):
        read_weights(tmp_path / "nowhere.pth")
    with pytest.raises(ValueError, match="is a folder; expected one file"):
        read_weights(tmp_path)
    path = tmp_path / "a.pth"
    path.touch()
    with pytest.raises(ValueError, match=r"a\.pth is empty"):
        read_weights(path)
    for content, seen in (
        (b"<!DOCTYPE html>\n<html>", "begins with '<!DOCTYPE html>'"),
        (b"version https://git-lfs", "begins with 'version https://git-lfs'"),
        (b"c", "begins with 'c'"),
        (b"\x89PNG\r\n", "is an image"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "is an image"),
        (b"\0\1\2", "is of no kind of file that is known here"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"a\.pth {seen}; expected weights of PyTorch"):
            read_weights(path)


@pytest.mark.parametrize("package", ["safetensors", "h5py"])
def test_package_that_is_not_installed(tmp_path, monkeypatch, package):
    path = tmp_path / "a.bin"
    WRITERS["keras" if package == "h5py" else package](path, ARRAYS)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf"a\.bin .*pip install {package}`.*extra `pretrained`"):
        read_weights(path)


def test_optional_packages_are_imported_only_when_needed():
    script = (
        "import maskrcnn_jax.pretrained.files.weight_files, sys\n"
        "print({'torch', 'h5py', 'safetensors', 'tensorflow'} & set(sys.modules))"
    )
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-c", script]
    process = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert process.stdout == "set()\n"


def test_sha256(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")  # the example of FIPS 180-2, appendix B.1
    assert sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    path.write_bytes(bytes(3 * 2**20))
    assert sha256(path) == hashlib.sha256(bytes(3 * 2**20)).hexdigest()
