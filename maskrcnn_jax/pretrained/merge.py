"""Weights that are there already, put in the place of new ones: whole, in part, class by class."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from maskrcnn_jax.class_names import matching

Path = tuple[str, ...]

# The layers that answer for each class, the background first, and with how many numbers for one.
_PREDICTORS: dict[Path, int] = {
    ("box_head", "class_logits"): 1,
    ("box_head", "box_deltas"): 4,
    ("mask_head", "mask_logits"): 1,
}
# The layers of PointRend and Mask Scoring that have classes, without a background: the last so many
# entries of these axes of a kernel. Each layer of the point head is given a value for each class.
_CLASS_AXES: dict[Path, tuple[int, ...]] = {
    ("mask_head", "coarse_logits"): (-1,),
    ("mask_head", "layer"): (-2,),
    ("mask_head", "point_logits"): (-2, -1),
    ("mask_iou_head", "iou"): (-1,),
}


def check_fit(expected: Any, given: Any, parts: Sequence[str], what: str) -> None:
    """Checks that weights have the arrays of a model, before anything is done with them.

    Of axes along which classes lie, which may be others, the lengths do not have to agree.

    Args:
        expected: the model's variables, or their shapes.
        given: the weights' variables.
        parts: of the detector that are to be taken.
        what: the weights, for the message.

    Raises:
        ValueError: listing every array that is missing, unknown or of another shape.
    """
    expected, given = _of_parts(expected, parts), _of_parts(given, parts)
    faults = [f"{_name(path)} is missing" for path in expected if path not in given]
    faults += [f"{_name(path)} is unknown" for path in given if path not in expected]
    for path, array in expected.items():
        shape, wanted = getattr(given.get(path), "shape", None), tuple(array.shape)
        if shape is not None and _fixed_shape(path, shape) != _fixed_shape(path, wanted):
            faults.append(f"{_name(path)} is {tuple(shape)}, not {wanted}")
    if faults:
        raise ValueError(
            f"{what} do not fit the model of config.model ({len(faults)} arrays): "
            f"{'; '.join(faults)}. Leave the parts they are in out of config.init_parts, or "
            f"change the keys of config.model that they follow from"
        )


def merged(
    new: Any,
    given: Any,
    parts: Sequence[str],
    class_names: Sequence[str],
    given_names: Sequence[str],
) -> dict[str, dict]:
    """Returns a model's variables with the weights of some parts in them.

    Of the predictors the rows of classes that both have by name are taken, and with any of them
    the background's; all other rows stay new.

    Args:
        new: the model's variables, numpy arrays.
        given: the weights' variables, numpy arrays that fit (`check_fit`).
        parts: of the detector that are taken.
        class_names: K names of the model's classes.
        given_names: the names of the weights' classes.
    """
    given = _of_parts(given, parts)
    rows = matching(class_names, given_names)

    def chosen(path, array):
        path = tuple(key.key for key in path)
        if path not in given:
            return array
        if _has_classes(path, array.shape):
            return _with_rows(np.asarray(array), given[path], rows, _PREDICTORS[_layer(path)])
        if axes := _class_axes(path):
            counts = len(class_names), len(given_names)
            return _with_entries(np.asarray(array), given[path], rows, axes, counts)
        return given[path]

    return jax.tree_util.tree_map_with_path(chosen, new)


def classes_line(class_names: Sequence[str], given_names: Sequence[str]) -> str:
    """Returns in words which classes' rows `merged` takes."""
    rows = matching(class_names, given_names)
    kept = [name for name, row in zip(class_names, rows, strict=True) if row is not None]
    new = [name for name, row in zip(class_names, rows, strict=True) if row is None]
    if not kept:
        return f"predictors new: none of the classes {_short(new)} is among {_short(given_names)}"
    added = f"; new: {_short(new)}" if new else ""
    return f"classes kept: {len(kept)} of {len(class_names)}: {_short(kept)}{added}"


def _with_rows(
    new: np.ndarray, given: np.ndarray, rows: Sequence[int | None], numbers: int
) -> np.ndarray:
    """Takes over the rows of classes: along the last axis, `numbers` for each, background first."""
    pairs = [(k, row + 1) for k, row in enumerate(rows, 1) if row is not None]
    if not pairs:
        return new
    ours, theirs = zip((0, 0), *pairs, strict=True)
    result = new.reshape(*new.shape[:-1], -1, numbers).copy()
    source = given.reshape(*given.shape[:-1], -1, numbers)
    result[..., list(ours), :] = source[..., list(theirs), :]
    return result.reshape(new.shape)


def _with_entries(
    new: np.ndarray,
    given: np.ndarray,
    rows: Sequence[int | None],
    axes: Sequence[int],
    counts: tuple[int, int],
) -> np.ndarray:
    """Takes over all but the entries of classes that only one of both has, along some axes.

    Args:
        new: array of the model, `given` of the weights.
        rows: the weights' class for each of the model's.
        axes: along which the last entries are the classes'.
        counts: of the model's classes and of the weights'.
    """
    kept = [(k, row) for k, row in enumerate(rows) if row is not None]

    def places(axis: int, of: int) -> list[int]:
        size = (new, given)[of].shape[axis]
        if axis not in axes:
            return list(range(size))
        first = size - counts[of]
        return [*range(first), *(first + pair[of] for pair in kept)]

    ours, theirs = (np.ix_(*(places(axis, of) for axis in range(-new.ndim, 0))) for of in (0, 1))
    result = new.copy()
    result[ours] = given[theirs]
    return result


def _of_parts(tree: Mapping[str, Any], parts: Sequence[str]) -> dict[Path, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    by_path = {tuple(key.key for key in path): leaf for path, leaf in leaves}
    return {path: leaf for path, leaf in by_path.items() if path[1] in parts}


def _fixed_shape(path: Path, shape: Sequence[int]) -> tuple[int, ...]:
    """The part of a shape that does not depend on the number of classes."""
    axes = (-1,) if _has_classes(path, shape) else _class_axes(path)
    return tuple(size for axis, size in enumerate(shape, -len(shape)) if axis not in axes)


def _class_axes(path: Path) -> tuple[int, ...]:
    """The axes along which the classes of `_CLASS_AXES` lie."""
    part, layer = _layer(path)
    axes = _CLASS_AXES.get((part, layer.rstrip("_0123456789")), ())
    return axes if path[-1] == "kernel" else tuple(axis for axis in axes if axis == -1)


def _has_classes(path: Path, shape: Sequence[int]) -> bool:
    """Whether an array has rows for each class, and is not of all classes together."""
    layer = _layer(path)
    return layer in _PREDICTORS and shape[-1] > _PREDICTORS[layer]


def _layer(path: Path) -> Path:
    """The part and the layer of an array; a cascade has several heads in between."""
    return path[1], path[-2]


def _name(path: Path) -> str:
    return ".".join(path)


def _short(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
