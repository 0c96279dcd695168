"""State dicts in files of `torch.save`, both its zip archives and its older pickle streams.

torch is not needed: a file is a pickle of containers, which `restricted_pickle` reads without
running anything, and the bytes of each storage. The format is that of torch/serialization.py
(`_save`, `_legacy_save`) and torch/_utils.py (`_rebuild_tensor_v2`).
"""

import io
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from maskrcnn_jax.files import regular
from maskrcnn_jax.pretrained.files import restricted_pickle
from maskrcnn_jax.pretrained.files.faults import check_expansion, damaged
from maskrcnn_jax.pretrained.files.torch_tensors import NAMES, Storage, Tensor, storage_of

# The number that older files begin with, as pickled (torch/serialization.py, MAGIC_NUMBER).
LEGACY_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_ZIP = b"PK\x03\x04"
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a record in a zip archive

# Where training programs keep the state dict among other things; the first that is there counts.
_HOLDERS = ("model", "state_dict", "model_state_dict", "model_ema")

# Taken off where all names have it, one after the other.
_PREFIXES = ("module.", "model.")

ByteReader = Callable[[Storage], memoryview]


def read(path: Path) -> dict[str, np.ndarray]:
    """Returns the tensors of a state dict, or of the one that a training checkpoint holds.

    A prefix "module." on all names, as (distributed) data parallel training leaves it, or "model.",
    as PyTorch Lightning does where a module holds the network under that name, is taken off; so is
    the counter beside averaged weights, `n_averaged`.

    Args:
        path: of the file.

    Returns:
        name -> array, a view of the file where possible; floating-point numbers as float32.

    Raises:
        ValueError: the file is damaged, no state dict, or names code, which is not executed.
        OSError: it cannot be read.
    """
    content, bytes_of = _load(path)
    if not isinstance(content, Mapping):
        raise ValueError(
            f"{path} holds a {type(content).__name__}; expected a state dict, as "
            "`torch.save(model.state_dict(), PATH)` writes it"
        )
    for key in _HOLDERS:
        tensors = _tensors(content.get(key))
        if tensors:
            logging.info("%s: took the weights under %r", path, key)
            break
    else:
        tensors = _tensors(content)
    _check_plain(tensors, path)
    check_expansion(path, sum(tensor.num_bytes for tensor in tensors.values()))
    try:
        return {name: t.array(bytes_of(t.storage)) for name, t in _bare_names(tensors).items()}
    except Exception as error:
        raise damaged(path, "a file of torch.save", error) from error


def _load(path: Path) -> tuple[Any, ByteReader]:
    """Returns what a file holds, and what gives the bytes of a storage in it."""
    with open(path, "rb", opener=regular) as file:
        content = file.read()
    try:
        return (_from_zip if content.startswith(_ZIP) else _from_stream)(content, path)
    except restricted_pickle.RefusedError as error:
        raise ValueError(
            f"{path} {error}: only state dicts are read, and nothing in the file was executed. "
            "Where it was written, save the weights alone: "
            "`torch.save(model.state_dict(), PATH)`"
        ) from None
    except _OtherError as error:
        raise ValueError(f"{path} {error}") from None
    except Exception as error:  # a damaged pickle may raise anything (documentation of pickle)
        raise damaged(path, "a file of torch.save", error) from error


class _OtherError(Exception):
    """The file is sound, and of another kind."""


def _from_zip(content: bytes, path: Path) -> tuple[Any, ByteReader]:
    archive = zipfile.ZipFile(io.BytesIO(content))
    records = {record.filename: record for record in archive.infolist()}
    names = list(records)
    pickled = next((name for name in names if name.endswith("/data.pkl")), None)
    if pickled is None:
        raise _OtherError(
            f"is a zip archive of {', '.join(names[:3]) or 'nothing'}; expected one of torch.save, "
            "which has a data.pkl"
        )
    if any(name.endswith("/constants.pkl") for name in names):
        raise _OtherError(
            "is a TorchScript program; expected a state dict: "
            "`torch.save(torch.jit.load(PATH).state_dict(), NEW_PATH)`"
        )
    try:
        check_expansion(path, sum(record.file_size for record in records.values()))
    except ValueError as error:
        raise _OtherError(str(error).removeprefix(f"{path} ")) from None
    folder = pickled.removesuffix("data.pkl")

    def record(name: str) -> memoryview:
        found = records[folder + name]
        if found.compress_type != zipfile.ZIP_STORED:
            return memoryview(archive.read(found))
        signature, name_size, extra_size = _LOCAL_HEADER.unpack_from(content, found.header_offset)
        start = found.header_offset + _LOCAL_HEADER.size + name_size + extra_size
        if signature != _ZIP or start + found.file_size > len(content):
            raise ValueError(f"its record {found.filename} is not where it should be")
        return memoryview(content)[start : start + found.file_size]

    if folder + "byteorder" in records and bytes(record("byteorder")) != b"little":
        raise _OtherError("has numbers with the big end first; save it on another machine")
    stream = io.BytesIO(record("data.pkl"))
    loaded = restricted_pickle.load_stream(stream, NAMES, storage_of)
    return loaded, lambda storage: record(f"data/{storage.key}")


def _from_stream(content: bytes, path: Path) -> tuple[Any, ByteReader]:
    if LEGACY_MAGIC not in content[:32]:
        raise ValueError("it begins with another number")
    stream = io.BytesIO(content)
    for _ in range(2):  # the number, and the version of the format
        restricted_pickle.load_stream(stream, {})
    system = restricted_pickle.load_stream(stream, {})
    if not isinstance(system, Mapping) or system.get("little_endian") is not True:
        raise _OtherError("has numbers with the big end first; save it on another machine")
    found: dict[str, Storage] = {}

    def remembered(given: Any) -> Storage:
        storage = storage_of(given)
        return found.setdefault(storage.key, storage)

    loaded = restricted_pickle.load_stream(stream, NAMES, remembered)
    places = {}
    for key in restricted_pickle.load_stream(stream, {}):
        (count,) = struct.unpack("<q", stream.read(8))
        storage = found[key]
        if count != storage.count:
            raise ValueError(f"storage {key} has {count} numbers; expected {storage.count}")
        start = stream.tell()
        places[key] = memoryview(content)[start : start + storage.num_bytes]
        stream.seek(storage.num_bytes, io.SEEK_CUR)
    return loaded, lambda storage: places[storage.key]


def _tensors(value: Any) -> dict[str, Tensor]:
    if not isinstance(value, Mapping):
        return {}
    return {
        name: tensor
        for name, tensor in value.items()
        if isinstance(name, str) and isinstance(tensor, Tensor)
    }


def _check_plain(tensors: dict[str, Tensor], path: Path) -> None:
    for name, tensor in tensors.items():
        if tensor.fault:
            raise ValueError(
                f"{path}: {name} is no plain tensor ({tensor.fault}); expected dense numbers: save "
                "it as `tensor.to_dense()` or `tensor.dequantize()`"
            )


def _bare_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for prefix in _PREFIXES:
        names = [name for name in tensors if name != "n_averaged"]
        if names and all(name.startswith(prefix) for name in names):
            tensors = {name.removeprefix(prefix): tensors[name] for name in names}
    return tensors
