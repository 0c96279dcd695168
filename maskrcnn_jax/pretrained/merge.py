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


def check_fit(expected: Any, given: Any, parts: Sequence[str], what: str) -> None:
    """Checks that weights have the arrays of a model, before anything is done with them.

    Of the predictors, whose classes may be others, only the inputs have to agree.

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


def _of_parts(tree: Mapping[str, Any], parts: Sequence[str]) -> dict[Path, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    by_path = {tuple(key.key for key in path): leaf for path, leaf in leaves}
    return {path: leaf for path, leaf in by_path.items() if path[1] in parts}


def _fixed_shape(path: Path, shape: Sequence[int]) -> tuple[int, ...]:
    """The part of a shape that does not depend on the number of classes."""
    return tuple(shape[:-1]) if _has_classes(path, shape) else tuple(shape)


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
