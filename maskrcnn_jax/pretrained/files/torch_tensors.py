"""What a pickle of torch names, as plain descriptions: storages, tensors and the rest."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from maskrcnn_jax.pretrained.files.restricted_pickle import (
    Bag,
    Function,
    OrderedMapping,
    RefusedError,
)

_BFLOAT16 = "bfloat16"
_TYPES = {
    "Float": "<f4", "Double": "<f8", "Half": "<f2", "BFloat16": _BFLOAT16, "Long": "<i8",
    "Int": "<i4", "Short": "<i2", "Char": "i1", "Byte": "u1", "Bool": "?",
}  # fmt: skip
_MOST = 2**48  # numbers of a tensor; also keeps products of sizes small


@dataclass(frozen=True)
class Storage:
    """A row of numbers in the file.

    Attributes:
        key: its name there.
        dtype: of numpy, or "bfloat16".
        count: numbers.
    """

    key: str
    dtype: str
    count: int

    @property
    def item_size(self) -> int:
        """Bytes of a number."""
        return 2 if self.dtype == _BFLOAT16 else np.dtype(self.dtype).itemsize

    @property
    def num_bytes(self) -> int:
        """Bytes of all."""
        return self.count * self.item_size


@dataclass(frozen=True)
class Tensor:
    """A view of a storage, by offset, size and strides in numbers; or why it is none."""

    storage: Storage
    offset: int = 0
    size: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    fault: str = ""

    @property
    def num_bytes(self) -> int:
        """Bytes of its numbers, each as often as it occurs."""
        return math.prod(self.size) * self.storage.item_size

    def array(self, content: memoryview) -> np.ndarray:
        """Returns the tensor as a read-only array; floating-point numbers as float32.

        Args:
            content: of the storage.

        Raises:
            ValueError: it is shorter than the storage says.
        """
        storage = self.storage
        if len(content) < storage.num_bytes:
            raise ValueError(f"storage {storage.key} has {len(content)} bytes")
        is_short = storage.dtype == _BFLOAT16
        dtype = np.dtype("<u2" if is_short else storage.dtype)
        numbers = np.frombuffer(content, dtype, storage.count)
        view = np.lib.stride_tricks.as_strided(
            numbers[self.offset :],
            self.size,
            tuple(step * dtype.itemsize for step in self.stride),
            writeable=False,
        )
        if is_short:  # the upper half of a float32
            view = (view.astype(np.uint32) << 16).view(np.float32)
        if view.dtype.kind == "f":
            with np.errstate(over="ignore"):  # what does not fit is found by its being infinite
                view = view.astype(np.float32, copy=False)
        return view


class _StorageType:
    """A class of storages, of which a pickle has the name alone."""

    def __init__(self, dtype: str):
        self.dtype = dtype

    def __setstate__(self, state: Any) -> None:
        raise RefusedError("changes a type of storages")


def storage_of(given: Any) -> Storage:
    """Returns the storage that a persistent id describes.

    Args:
        given: ("storage", type, key, location, count), in older files with None at the end.

    Raises:
        RefusedError: it is something else.
    """
    if not isinstance(given, tuple) or not 5 <= len(given) <= 6 or given[0] != "storage":
        raise RefusedError("refers to an object outside of it that is no storage")
    _, kind, key, _, count, *view = given
    if not isinstance(kind, _StorageType) or type(key) is not str or view not in ([], [None]):
        raise RefusedError("has a storage of an unknown kind")
    if type(count) is not int or not 0 <= count <= _MOST:
        raise RefusedError("has a storage of an impossible size")
    return Storage(key, kind.dtype, count)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
    if not isinstance(storage, Storage):
        raise RefusedError("has a tensor without a storage")
    numbers = (offset, *size, *stride) if type(size) is type(stride) is tuple else (None,)
    if len(size) != len(stride) or any(type(n) is not int or not 0 <= n <= _MOST for n in numbers):
        raise RefusedError("has a tensor of an impossible shape")
    count = math.prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if count > _MOST or (count and last >= storage.count):
        raise RefusedError("has a tensor that reaches beyond its storage")
    return Tensor(storage, offset, size, stride)


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _no_tensor(fault: str, *_: Any) -> Tensor:
    return Tensor(Storage("", "u1", 0), fault=fault)


def _size(given: Any = ()) -> tuple:
    return tuple(given)


def _nothing(*_: Any) -> None:
    """What stands for a device, or for the layout of a sparse tensor."""


def _functions(module: str, **functions: Callable) -> dict[tuple[str, str], Any]:
    return {(module, name): Function(function) for name, function in functions.items()}


_WORDS = (
    *("float16", "float32", "float64", "bfloat16", "uint8", "int8", "int16", "int32", "int64"),
    *("bool", "qint8", "quint8", "qint32", "per_tensor_affine", "per_channel_affine"),
)
# (module, name) -> what stands for it.
NAMES: dict[tuple[str, str], Any] = {
    ("argparse", "Namespace"): Bag,  # detection checkpoints often carry their command line
    ("collections", "Counter"): OrderedMapping,
    **{("torch", f"{name}Storage"): _StorageType(dtype) for name, dtype in _TYPES.items()},
    **{("torch", f"Q{n}Storage"): _StorageType(t) for n, t in (("Int8", "i1"), ("UInt8", "u1"))},
    **{("torch", word): word for word in _WORDS},
    **_functions("torch", Size=_size, device=_nothing),
    **_functions("torch.serialization", _get_layout=_nothing),
    **_functions(
        "torch._utils",
        _rebuild_tensor=_tensor,
        _rebuild_tensor_v2=_tensor,
        _rebuild_parameter=_parameter,
        _rebuild_parameter_with_state=_parameter,
        _rebuild_sparse_tensor=partial(_no_tensor, "sparse"),
        _rebuild_qtensor=partial(_no_tensor, "quantized"),
        _rebuild_meta_tensor_no_storage=partial(_no_tensor, "without contents"),
    ),
}
