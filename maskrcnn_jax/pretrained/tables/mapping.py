"""Other projects' arrays as ours, and back: one table of entries says where each one lives in both.

A table is a list of `Entry`. Most of them are one array with its axes in another order; a few of
ours are made of two of theirs (a convolution's bias joins the mean of the norm that follows).
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

# How many arrays of each fault a message lists.
_MOST_SHOWN = {"missing": 10, "unknown": 10, "wrong_shape": 20}


class Layout(NamedTuple):
    """How an array is laid out: functions from theirs to ours and back.

    Attributes:
        to_ours: takes the arrays that an entry names, in that order; returns ours.
        to_source: takes ours; returns theirs, or a tuple where the entry names several. Where
            information was dropped on the way in, it gives arrays that mean the same.
    """

    to_ours: Callable[..., np.ndarray]
    to_source: Callable[[np.ndarray], np.ndarray | tuple[np.ndarray, ...]]


class Entry(NamedTuple):
    """One array of ours.

    Attributes:
        path: in our variables, from "params" or "batch_stats" on.
        names: of the arrays that it is made of, in the other project.
        layout: between the two.
    """

    path: tuple[str, ...]
    names: tuple[str, ...]
    layout: Layout


class Imported(NamedTuple):
    """What came out of a state dict.

    Attributes:
        variables: {"params": ..., "batch_stats": ...} of float32 numpy arrays.
        mapped: for each of our arrays: the names it was made of, their shapes, its path, its shape.
        left: names in the state dict that our model has no use for.
    """

    variables: dict[str, dict]
    mapped: list[tuple[tuple[str, ...], tuple[tuple[int, ...], ...], str, tuple[int, ...]]]
    left: list[str]


SAME = Layout(lambda x: x, lambda x: x)
# torch (out, in) <-> (in, out)
DENSE = Layout(np.transpose, np.transpose)
# torch (out, in, row, column) <-> (row, column, in, out)
CONV = Layout(lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1))
# torch's transposed convolution (in, out, row, column) <-> (in, row, column, out)
UPSAMPLE = Layout(lambda x: x.transpose(0, 2, 3, 1), lambda x: x.transpose(0, 3, 1, 2))
# torch's transposed convolution (in, out, row, column) <-> (row, column, in, out)
DECONV = Layout(lambda x: x.transpose(2, 3, 0, 1), lambda x: x.transpose(2, 3, 0, 1))
# torch (out, in, 1, 1) <-> (in, out)
CLASS_CONV = Layout(lambda x: x[:, :, 0, 0].T, lambda x: x.T[:, :, None, None])

# the same along one axis: (out, in, 1) <-> (in, out)
POINT_CONV = Layout(lambda x: x[:, :, 0].T, lambda x: x.T[:, :, None])


def pooled_dense(size: int) -> Layout:
    """Layout of a dense layer on flattened [C, S, S] (torch) or [S, S, C] (ours) features."""

    def to_ours(x):
        return x.reshape(x.shape[0], -1, size, size).transpose(2, 3, 1, 0).reshape(-1, x.shape[0])

    def to_source(x):
        return x.reshape(size, size, -1, x.shape[1]).transpose(3, 2, 0, 1).reshape(x.shape[1], -1)

    return Layout(to_ours, to_source)


def chain(first: Layout, second: Layout) -> Layout:
    """Returns the layout that applies `first`, then `second`, on the way to ours."""
    return Layout(
        lambda *arrays: second.to_ours(first.to_ours(*arrays)),
        lambda array: first.to_source(second.to_source(array)),  # type: ignore[arg-type]  # one array
    )


def layer(
    path: tuple[str, ...], name: str, kernel: Layout, bias: Layout | None = SAME
) -> Iterator[Entry]:
    """Yields kernel and bias of a convolution or dense layer, beside PyTorch's names for them.

    Args:
        path: of the layer in our parameters.
        name: of the layer in the other project.
        kernel: its layout.
        bias: its layout; None: there is no bias.
    """
    yield Entry(("params", *path, "kernel"), (f"{name}.weight",), kernel)
    if bias is not None:
        yield Entry(("params", *path, "bias"), (f"{name}.bias",), bias)


def norm(path: tuple[str, ...], name: str, kind: str) -> Iterator[Entry]:
    """Yields the arrays of a norm, beside PyTorch's names for them.

    Args:
        path: of the norm in our variables.
        name: of the norm in the other project.
        kind: frozen_bn | bn | gn | ln; the last two have no statistics.
    """
    yield Entry(("params", *path, "scale"), (f"{name}.weight",), SAME)
    yield Entry(("params", *path, "bias"), (f"{name}.bias",), SAME)
    if kind in ("frozen_bn", "bn"):
        yield Entry(("batch_stats", *path, "mean"), (f"{name}.running_mean",), SAME)
        yield Entry(("batch_stats", *path, "var"), (f"{name}.running_var",), SAME)


def import_arrays(
    state: Mapping[str, np.ndarray],
    entries: Sequence[Entry],
    expected: Mapping[str, Any],
    *,
    what: str,
    ignored: Iterable[str] = (),
) -> Imported:
    """Returns our variables with the arrays of another project's state dict.

    Args:
        state: name -> array.
        entries: the table.
        expected: our variables, or their shapes; parts that the table lacks are not looked at.
        what: the weights and what they were taken for, for the message.
        ignored: patterns (of whole names) that may be left behind.

    Raises:
        ValueError: where names are missing or unknown, or shapes differ; it lists them, of very
            many the first. Or where the model has layers for which the project has no names.
    """
    shapes = flat(expected)
    _check_table(entries, shapes, what)
    missing, wrong, ours, mapped = [], [], {}, []
    for entry in entries:
        absent = [name for name in entry.names if name not in state]
        missing += absent
        if absent:
            continue
        arrays = [np.asarray(state[name]) for name in entry.names]
        wanted = _source_shapes(shapes[entry.path].shape, entry)
        faults = [
            f"{name}: {array.shape} given, {shape} expected"
            for name, array, shape in zip(entry.names, arrays, wanted, strict=True)
            if array.shape != shape
        ]
        wrong += faults
        if not faults:
            array = np.ascontiguousarray(entry.layout.to_ours(*arrays), np.float32)
            ours[entry.path] = array
            mapped.append((entry.names, wanted, ".".join(entry.path), array.shape))
    known = {name for entry in entries for name in entry.names}
    rest = [name for name in state if name not in known]
    left = [name for name in rest if any(re.fullmatch(pattern, name) for pattern in ignored)]
    unknown = [name for name in rest if name not in left]
    _refuse(what, missing=missing, unknown=unknown, wrong_shape=wrong)
    return Imported(nested(ours), mapped, left)


def export_arrays(
    variables: Mapping[str, Mapping], entries: Sequence[Entry]
) -> dict[str, np.ndarray]:
    """Returns another project's state dict of our variables, name -> array."""
    arrays = flat(variables)
    state = {}
    for path, names, layout in entries:
        theirs = layout.to_source(np.asarray(arrays[path]))
        for name, array in zip(names, _as_tuple(theirs), strict=True):
            state[name] = np.ascontiguousarray(array)
    return state


def flat(tree: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    """Returns the leaves of nested dicts by their paths."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {tuple(key.key for key in path): leaf for path, leaf in leaves}


def nested(leaves: Mapping[tuple[str, ...], Any]) -> dict[str, dict]:
    """Returns the tree of which `flat` gives the leaves, with both collections."""
    tree: dict[str, dict] = {"params": {}, "batch_stats": {}}
    for path, leaf in leaves.items():
        node = tree
        for key in path[:-1]:
            node = node.setdefault(key, {})
        node[path[-1]] = leaf
    return tree


def _check_table(
    entries: Sequence[Entry], expected: Mapping[tuple[str, ...], Any], what: str
) -> None:
    """Checks that a table has every array of the parts it is of, and no other."""
    parts = {entry.path[1] for entry in entries}
    ours = {path for path in expected if path[1] in parts}
    unknown = ours ^ {entry.path for entry in entries}
    if unknown:
        layers = sorted({".".join(path[1:-1]) for path in unknown})
        raise ValueError(
            f"{what}: they cannot be of the model that config.model describes, which has other "
            f"arrays in {', '.join(layers)}. Leave the keys of these layers as this kind of "
            f"weights has them"
        )


def _source_shapes(shape: tuple[int, ...], entry: Entry) -> tuple[tuple[int, ...], ...]:
    # A broadcast scalar has the shape and no memory.
    theirs = entry.layout.to_source(np.broadcast_to(np.float32(0), shape))
    return tuple(array.shape for array in _as_tuple(theirs))


def _as_tuple(arrays) -> tuple[np.ndarray, ...]:
    return arrays if isinstance(arrays, tuple) else (arrays,)


def _refuse(what: str, **faults: list[str]) -> None:
    if any(faults.values()):
        lists = "".join(
            f"\n  {kind.replace('_', ' ')} ({len(names)}): {_first(names, _MOST_SHOWN[kind])}"
            for kind, names in faults.items()
            if names
        )
        raise ValueError(
            f"{what}: the arrays are not those of such a model; it may have other layers, or be "
            f"another kind of detector:{lists}"
        )


def _first(names: Sequence[str], most: int) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f", and {more} more" if more > 0 else "")
