"""State dicts in files of `torch.save`, both its zip archives and its older pickle streams.

torch itself reads them, by the reader that runs no code (`weights_only`).
"""

import argparse
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from maskrcnn_jax.pretrained.files.faults import check_expansion, damaged

# The number that older files begin with, as pickled (torch/serialization.py, MAGIC_NUMBER).
LEGACY_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."

# Where training programs keep the state dict among other things; the first that is there counts.
_HOLDERS = ("model", "state_dict", "model_state_dict", "model_ema")

# Taken off where all names have it, one after the other.
_PREFIXES = ("module.", "model.")


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
    """
    content = _load(path)
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
    check_expansion(path, sum(t.numel() * t.element_size() for t in tensors.values()))
    return {name: _to_numpy(tensor, name, path) for name, tensor in _bare_names(tensors).items()}


def _load(path: Path) -> Any:
    import torch

    can_map = _is_stored_zip(path)
    try:
        # Detection checkpoints often carry their command line, a bag of attributes without code.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=can_map)
    except pickle.UnpicklingError as error:
        name = re.search(r"GLOBAL (\S+)", str(error))
        what = f"names {name[1]}" if name else f"is not readable so ({error})"
        raise ValueError(
            f"{path} {what}: only state dicts are read, and nothing in the file was executed. "
            "Where it was written, save the weights alone: "
            "`torch.save(model.state_dict(), PATH)`"
        ) from error
    except Exception as error:  # RuntimeError, EOFError and whatever damage leads to
        raise damaged(path, "a file of torch.save", error) from error


def _is_stored_zip(path: Path) -> bool:
    """Returns whether this is an uncompressed archive; mapped, compressed records were garbage."""
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return False
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
    except zipfile.BadZipFile as error:
        raise damaged(path, "a file of torch.save", error) from error
    names = [record.filename for record in records]
    if not any(name.endswith("/data.pkl") for name in names):
        raise ValueError(
            f"{path} is a zip archive of {', '.join(names[:3]) or 'nothing'}; expected one of "
            "torch.save, which has a data.pkl"
        )
    if any(name.endswith("/constants.pkl") for name in names):
        raise ValueError(
            f"{path} is a TorchScript program; expected a state dict: "
            "`torch.save(torch.jit.load(PATH).state_dict(), NEW_PATH)`"
        )
    check_expansion(path, sum(record.file_size for record in records))
    return all(record.compress_type == zipfile.ZIP_STORED for record in records)


def _tensors(value: Any) -> dict[str, Any]:
    import torch

    if not isinstance(value, Mapping):
        return {}
    return {
        name: tensor
        for name, tensor in value.items()
        if isinstance(name, str) and isinstance(tensor, torch.Tensor)
    }


def _bare_names(tensors: dict[str, Any]) -> dict[str, Any]:
    for prefix in _PREFIXES:
        names = [name for name in tensors if name != "n_averaged"]
        if names and all(name.startswith(prefix) for name in names):
            tensors = {name.removeprefix(prefix): tensors[name] for name in names}
    return tensors


def _to_numpy(tensor: Any, name: str, path: Path) -> np.ndarray:
    tensor = tensor.detach()
    try:
        # numpy has no bfloat16, and float32 is what is wanted of any; whole numbers stay.
        return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    except (TypeError, RuntimeError) as error:  # sparse, quantized, without contents
        raise ValueError(
            f"{path}: {name} is no plain tensor ({error}); expected dense numbers: save it as "
            "`tensor.to_dense()` or `tensor.dequantize()`"
        ) from error
