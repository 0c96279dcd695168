"""Pickles of arrays and plain containers, read without running anything that they name.

A pickle is a small program that may call whatever function it names. Here it finds the few names
that arrays need and nothing else, and what stands behind these names is ours: numpy's own
functions are never called, so that they allocate nothing a file asks for and old module paths work
with any numpy. Names and argument orders are those of `numpy.ndarray.__reduce__` and
`numpy.dtype.__reduce__`.
"""

import io
import math
import mmap
import pickle
import pickletools
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np

from maskrcnn_jax.files import regular
from maskrcnn_jax.pretrained.files.faults import damaged

_ELEMENT = re.compile(r"b1|[iu][1248]|f[248]")  # bool, whole and floating-point numbers

# They reach objects from outside the pickle: the process-wide registry of extensions, a caller's
# persistent objects and buffers.
_OUTSIDE = {"EXT1", "EXT2", "EXT4", "PERSID", "BINPERSID", "NEXT_BUFFER", "READONLY_BUFFER"}


# They hash what they are given, as keys of dicts do (see `_Unpickler`).
_SETS = {"EMPTY_SET", "ADDITEMS", "FROZENSET"}


class RefusedError(Exception):
    """The pickle asks for what arrays and plain containers do not need."""


class PickledArray:
    """An array as its pickle describes it; `array` is read-only and of the file's type."""

    array = np.empty(0, np.float32)  # until its contents have been read

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, is_fortran, data = state
        self.array = _array(data, dtype, shape, "F" if is_fortran else "C")


class _PickledDtype:
    """An element type as its pickle describes it."""

    def __init__(self, code: str, *_flags: bool):
        if not isinstance(code, str) or not _ELEMENT.fullmatch(code):
            raise RefusedError(f"has an array of type {code!r}, expected numbers")
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple) -> None:
        self.order, *structure = state[1:5]
        if structure != [None] * 3 or self.order not in tuple("<>|="):
            raise RefusedError("has an array of a structured type, expected numbers")

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.order + self.code)


class Function:
    """A function that a pickle may call and, unlike a plain one, cannot set attributes of."""

    def __init__(self, function: Callable):
        self._function = function

    def __call__(self, *args):
        return self._function(*args)

    def __setstate__(self, state: Any) -> None:
        raise RefusedError("changes a function")


class OrderedMapping(OrderedDict):
    """A dict whose methods a pickle cannot replace; attributes, as torch sets them, are dropped."""

    def __init__(self, items: Any = ()):
        """Takes pairs, or a mapping."""
        super().__init__()
        for key, value in items.items() if isinstance(items, dict) else items:
            _check_keys([key])
            self[key] = value

    def __setstate__(self, state: Any) -> None:
        pass


class Bag:
    """An object whose attributes are of no interest."""

    def __setstate__(self, state: Any) -> None:
        pass


_PythonUnpickler: Any = pickle._Unpickler  # typeshed knows nothing of its stack and dispatch


class _Unpickler(_PythonUnpickler):
    """Python's own unpickler in Python, which lets keys be looked at before they are hashed.

    The hash of a tuple is that of its parts: of a tuple that holds another one twice, which holds
    another one twice, and so on, it takes for ever, and a hundred bytes can describe it.
    """

    dispatch: ClassVar = dict(_PythonUnpickler.dispatch)

    def __init__(
        self,
        stream: IO[bytes] | mmap.mmap,
        names: Mapping[tuple[str, str], Any],
        persistent_load: Callable[[Any], Any] | None,
    ):
        super().__init__(stream, encoding="latin1")
        self._names, self._persistent = names, persistent_load

    def find_class(self, module: str, name: str) -> Any:
        return _named(module, name, self._names)

    def persistent_load(self, given: Any) -> Any:
        if self._persistent is None:
            raise RefusedError("refers to an object outside of it")
        return self._persistent(given)

    def load_setitem(self) -> None:
        _check_keys(self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        _check_keys(self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        _check_keys(self.stack[::2])
        super().load_dict()

    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.DICT[0]] = load_dict


def _check_keys(keys: Iterable[Any]) -> None:
    if any(type(key) not in (str, int) for key in keys):
        raise RefusedError("has a dict with keys that are neither text nor whole numbers")


def load(path: Path) -> Any:
    """Returns what a pickle holds: plain containers, numbers and text, with `PickledArray`s in it.

    Pickles of Python 2 are read as well, their text as Latin-1.

    Args:
        path: of a file that is not empty.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is incomplete or damaged, or names something else; nothing of what it names
            was executed.
    """
    try:
        with (
            open(path, "rb", opener=regular) as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            return load_stream(content)
    except RefusedError as error:
        raise ValueError(
            f"{path} {error}: only arrays of numbers and plain containers are read from a pickle, "
            "and nothing in it was executed. If you trust the file, load it with the program that "
            "wrote it and save its arrays alone"
        ) from None
    except OSError:
        raise
    except Exception as error:  # a damaged pickle may raise anything (documentation of pickle)
        raise damaged(path, "a pickle of arrays", error) from error


def load_stream(
    stream: IO[bytes] | mmap.mmap,
    names: Mapping[tuple[str, str], Any] | None = None,
    persistent_load: Callable[[Any], Any] | None = None,
) -> Any:
    """Returns what the next pickle of a stream holds, as `load`; the stream is then behind it.

    Args:
        stream: in memory.
        names: (module, name) -> what stands for it, beside those of arrays.
        persistent_load: of objects that the pickle describes and does not hold; None: refused.

    Raises:
        RefusedError: the pickle asks for more than it may have.
        Exception: it is damaged.
    """
    names = {**_NAMES, **(names or {})}
    start = stream.tell()
    _scan(stream, names, persistent_load is not None)
    stream.seek(start)
    return _Unpickler(stream, names, persistent_load).load()


def _scan(stream: Any, names: Mapping[tuple[str, str], Any], allows_persistent: bool) -> None:
    """Reads all instructions and builds nothing: finds truncation and refuses early.

    The table of remembered objects is allocated up to the highest number in use, which a pickler
    counts up by one; here it stays below the number of instructions.
    """
    start = stream.tell()
    stream.seek(0, io.SEEK_END)
    end = stream.tell()
    stream.seek(start)
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if opcode.name == "FRAME" and (argument or 0) > end - stream.tell():
            raise EOFError(f"a frame of {argument} bytes is truncated")
        if opcode.name in _OUTSIDE and not (allows_persistent and opcode.name == "BINPERSID"):
            raise RefusedError(f"refers to an object outside of it ({opcode.name})")
        if opcode.name in _SETS:
            raise RefusedError("has a set, expected arrays, dicts, lists and tuples")
        if opcode.name in ("GLOBAL", "INST"):
            module, _, name = str(argument).partition(" ")
            _named(module, name, names)
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and (argument or 0) > count:
            raise RefusedError(f"remembers its object {argument} after {count} instructions")


def _named(module: str, name: str, names: Mapping[tuple[str, str], Any]) -> Any:
    if (module, name) not in names:
        raise RefusedError(f"names {module}.{name}")
    return names[module, name]


def _array(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """Returns a view of an array's bytes, of which there must be as many as it has elements for."""
    if isinstance(data, list):
        raise RefusedError("has an array of Python objects, expected numbers")
    if isinstance(data, str):  # bytes of Python 2
        data = data.encode("latin1")
    if type(shape) is not tuple or any(type(n) is not int for n in shape):
        raise RefusedError("has an array of an impossible shape")
    size = math.prod(shape) * dtype.dtype.itemsize
    if any(n < 0 for n in shape) or size != len(data):
        raise RefusedError(f"has an array of shape {shape}, {size} bytes, with {len(data)} bytes")
    array = np.frombuffer(data, dtype.dtype).reshape(shape, order=order)
    array.flags.writeable = False
    return array


def _reconstruct(_subtype: Any, _shape: Any, _code: Any) -> PickledArray:
    return PickledArray()  # `__setstate__` brings the real shape and the contents


def _from_buffer(
    data: Any, dtype: Any, shape: Any, order: str, axes: tuple[int, ...] | None = None
) -> PickledArray:
    result = PickledArray()
    # Order "K": as in memory, with the axes to be reordered.
    array = _array(data, dtype, shape, "C" if order == "K" else order)
    result.array = array if axes is None else array.transpose(axes)
    return result


def _scalar(dtype: Any, data: Any) -> bool | int | float:
    return _array(data, dtype, (), "C").item()


def _encode(text: str, encoding: str = "utf-8") -> bytes:
    if encoding != "latin1":  # how Python 3 writes bytes where the protocol has none
        raise RefusedError(f"encodes text as {encoding!r}")
    return text.encode("latin1")


# numpy renamed its package `core` in version 2. `_frombuffer` is what protocol 5 names.
_NAMES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedMapping,
    ("_codecs", "encode"): Function(_encode),
    ("numpy", "ndarray"): "numpy.ndarray",  # only ever passed to `_reconstruct`
    ("numpy", "dtype"): Function(_PickledDtype),
    **{
        (f"numpy.{core}.{module}", name): Function(function)
        for core in ("core", "_core")
        for module, name, function in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _from_buffer),
        )
    },
}
