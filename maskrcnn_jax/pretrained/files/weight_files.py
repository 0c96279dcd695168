"""Other projects' weight files as flat dicts of numpy arrays, without running code from them.

What a file is follows from its first bytes, never from its name. Each format has its reader; what
comes out of any of them is checked here once.
"""

import hashlib
import importlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from maskrcnn_jax.console import printable, said_if_slow
from maskrcnn_jax.files import regular
from maskrcnn_jax.pretrained.files import keras_files, restricted_pickle, torch_files
from maskrcnn_jax.pretrained.files.faults import check_expansion, damaged

# A header is a JSON object after its length; safetensors allows 100 MB of it.
_MAX_SAFETENSORS_HEADER = 100_000_000

# Endings of names, which only tell what to expect of a file that is not there.
ENDINGS = {
    ".pth": "torch",
    ".pt": "torch",
    ".ckpt": "torch",
    ".safetensors": "safetensors",
    ".pkl": "pickle",
    ".h5": "keras",
    ".hdf5": "keras",
}

# Protocols 1 to 5; or, as Python 2 writes without one, a container or a name's first line.
_PICKLE = re.compile(rb"\x80[\x01-\x05]|\([dl]|[}\]]q|c[\w.]+\n[\w.]+\n")


def read_weights(path: str | Path) -> dict[str, np.ndarray]:
    """Returns all arrays of a weight file by their names in it.

    Formats: PyTorch `.pth` and `.pt` (state dicts, see `torch_files`), safetensors, pickles of
    arrays as Detectron2 and Caffe2 write them (`restricted_pickle`), Keras `.h5` (`keras_files`).

    Args:
        path: of the file; `~` is expanded.

    Returns:
        name -> array, perhaps read-only; floating-point numbers of any width as float32, whole
        numbers and bool as they are in the file.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is of another kind, damaged, names code, holds no arrays or values that are
            not finite, or the package that reads it is not installed. Nothing was executed.
    """
    path = Path(path).expanduser()
    package, read = _READERS[_kind(path)]
    if package:
        _require(package, path)
    arrays = read(path)
    if not arrays:
        raise ValueError(
            f"{path} holds no arrays; expected the weights of a model by their names (a PyTorch "
            "state dict, or the like)"
        )
    check_expansion(path, sum(array.nbytes for array in arrays.values()))
    arrays = {name: _plain_type(array, name, path) for name, array in arrays.items()}
    _check_finite(arrays, path)
    return arrays


def check_reader(name: str | Path) -> None:
    """Checks that a file that is yet to come can be read, as far as the end of its name tells.

    Args:
        name: of the file.

    Raises:
        ValueError: the package that reads such files is not installed.
    """
    kind = ENDINGS.get(Path(name).suffix)
    package = _READERS[kind][0] if kind else None
    if package:
        _require(package, name)


def sha256(path: str | Path) -> str:
    """Returns the SHA-256 of a file as 64 hexadecimal digits; it is never in memory as a whole."""
    said = said_if_slow(f"computing the SHA-256 of {printable(path)}")
    with Path(path).expanduser().open("rb") as file, said:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _kind(path: Path) -> str:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; expected a file of weights")
    if not path.is_file():
        what = "a folder" if path.is_dir() else "not an ordinary file"
        raise ValueError(f"{path} is {what}; expected one file of weights")
    with open(path, "rb", opener=regular) as file:
        head = file.read(256)
    if not head:
        raise ValueError(f"{path} is empty; download or copy it again")
    if head.startswith(b"PK\x03\x04") or torch_files.LEGACY_MAGIC in head[:32]:
        return "torch"
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "keras"
    # Before pickles: a header of 640 bytes begins like protocol 2.
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= _MAX_SAFETENSORS_HEADER:
        return "safetensors"
    if _PICKLE.match(head):
        return "pickle"
    raise ValueError(
        f"{path} {_looks_like(head)}; expected weights of PyTorch (.pth, .pt), safetensors, "
        "Detectron2 or Caffe2 (.pkl) or Keras (.h5). A download that failed leaves a web page or "
        "a short text in the file's place: look inside and download it again"
    )


def _looks_like(head: bytes) -> str:
    """Returns how a file begins, where a person can read that."""
    start = head[:24].decode("ascii", "replace").partition("\n")[0].strip()
    if start and start.isprintable() and start.isascii():
        return f"begins with {start!r}"
    images = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\0", b"MM\0*")
    return "is an image" if head.startswith(images) else "is of no kind of file that is known here"


def _require(package: str, path: str | Path) -> None:
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise ValueError(
            f"{path} can only be read with the package {package}, which cannot be imported "
            f"({error}): `pip install {package}`, or all that weight files need by this project's "
            "extra `pretrained`"
        ) from error


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except Exception as error:  # its own SafetensorError, and others for types numpy lacks
        raise damaged(path, "safetensors", error) from error


def _read_pickle(path: Path) -> dict[str, np.ndarray]:
    """Reads {"model": arrays, "__author__": ...}, {"blobs": arrays} or a dict of arrays.

    The first is Detectron2's, the others are Caffe2's and Detectron's, which keep the optimiser's
    momentum beside each array (detectron2/checkpoint/detection_checkpoint.py).
    """
    content = restricted_pickle.load(path)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} holds a {type(content).__name__}; expected a dict of arrays")
    for key in ("model", "blobs"):
        if isinstance(content.get(key), Mapping):
            content = content[key]
            break
    return {
        name: value.array
        for name, value in content.items()
        if isinstance(value, restricted_pickle.PickledArray)
        and isinstance(name, str)
        and not name.endswith("_momentum")
    }


# Kind -> the package it needs, and what reads it.
_READERS: dict[str, tuple[str | None, Callable[[Path], dict[str, np.ndarray]]]] = {
    "torch": (None, torch_files.read),
    "safetensors": ("safetensors", _read_safetensors),
    "pickle": (None, _read_pickle),
    "keras": ("h5py", keras_files.read),
}


def _plain_type(array: np.ndarray, name: str, path: Path) -> np.ndarray:
    if array.dtype.kind in "biu":
        return array
    # numpy itself knows no bfloat16 and no float8: ml_dtypes' types have a kind of their own.
    if array.dtype.kind == "f" or "float" in array.dtype.name:
        with np.errstate(over="ignore"):  # what does not fit becomes infinite, which is found below
            return array.astype(np.float32, copy=False)
    raise ValueError(
        f"{path}: {name} is an array of {array.dtype}; expected floating-point or whole numbers"
    )


def _check_finite(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    bad = [
        name
        for name, array in arrays.items()
        if array.dtype.kind == "f" and not np.isfinite(array).all()
    ]
    if bad:
        shown = ", ".join(bad[:5]) + (", ..." if len(bad) > 5 else "")
        raise ValueError(
            f"{path}: {len(bad)} of {len(arrays)} arrays have values that are NaN or infinite as "
            f"float32: {shown}; the training that wrote it has diverged, or the file is damaged: "
            "take an earlier checkpoint or download it again"
        )
