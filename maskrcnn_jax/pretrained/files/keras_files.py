"""Keras weights in HDF5 files: of `model.save_weights` and `model.save`, old names and new.

A layer's weights lie in a group of its name, inside the groups of the models it is nested in.
"""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from maskrcnn_jax.files import regular
from maskrcnn_jax.pretrained.files.faults import check_expansion, damaged

# What weights are called; Keras 1 wrote other names, after the layer's ("conv1_W:0"), and its
# "running_std" holds the variance: its BatchNormalization passes it where the variance belongs.
_WEIGHTS = {
    "W": "kernel",
    "b": "bias",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",
    **{n: n for n in ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")},
}


def read(path: Path) -> dict[str, np.ndarray]:
    """Returns the weights of a Keras model as "layer/weight", for example "bn_conv1/gamma".

    Links other than plain hard ones are not followed; the optimiser's arrays are left out.

    Args:
        path: of the HDF5 file.

    Returns:
        name -> array, of the file's shape and type.

    Raises:
        ValueError: the file is damaged, of Keras 3's own format, has its data elsewhere or two
            weights of one name.
    """
    import h5py

    with _naming_damage(path):
        stream = open(path, "rb", opener=regular)  # noqa: SIM115 (closed below)
        file = h5py.File(stream, "r")
    with stream, file:
        with _naming_damage(path):
            found = list(_datasets(file))
        datasets = _weights(found, path)
        _check_storage(datasets, path)
        with _naming_damage(path):
            return {name: dataset[()] for name, dataset in datasets.items()}


@contextmanager
def _naming_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # h5py raises OSError, RuntimeError, KeyError and others
        raise damaged(path, "HDF5", error) from error


def _datasets(file: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yields the path and the dataset of each array of numbers; single ones are counters."""
    import h5py

    groups: list[tuple[tuple[str, ...], Any]] = [((), file)]
    seen = set()
    while groups:
        path, group = groups.pop()
        address = h5py.h5o.get_info(group.id).addr
        if address in seen:  # hard links may form circles
            continue
        seen.add(address)
        inner: list[tuple[tuple[str, ...], Any]] = []
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue  # it may lead to another file
            item = group[name]
            if isinstance(item, h5py.Group):
                inner.append(((*path, name), item))
            elif isinstance(item, h5py.Dataset) and item.dtype.kind in "biuf" and item.shape:
                yield (*path, name), item
        groups += reversed(inner)


def _weights(found: list[tuple[tuple[str, ...], Any]], path: Path) -> dict[str, Any]:
    """Returns the datasets that are a model's weights by their names."""
    if any(parts[0] == "model_weights" for parts, _ in found):  # of `model.save`
        found = [(parts[1:], dataset) for parts, dataset in found if parts[0] == "model_weights"]
    result: dict[str, Any] = {}
    for parts, dataset in found:
        if len(parts) < 2:
            continue  # a weight lies in the group of its layer
        if parts[-2] == "vars":
            raise ValueError(
                f"{path} is in Keras 3's format, which numbers the weights "
                f"({'/'.join(parts)}) where names are needed: save it as `model.save('NAME.h5')`"
            )
        name = _weight_name(parts)
        if name in result:
            raise ValueError(
                f"{path}: {result[name].name} and {dataset.name} are both weights {name}; expected "
                "one model in the file"
            )
        result[name] = dataset
    return result


def _weight_name(parts: tuple[str, ...]) -> str:
    layer, weight = parts[-2], parts[-1].split(":")[0]
    pattern = rf"(?:{re.escape(layer)}_)?({'|'.join(_WEIGHTS)})(?:_\d+)?"
    if match := re.fullmatch(pattern, weight):
        weight = _WEIGHTS[match[1]]
    # A second model in the same program gets scopes "conv1_1" inside the layer's group "conv1".
    if len(parts) > 2 and re.fullmatch(rf"{re.escape(parts[-3])}_\d+", layer):
        layer = parts[-3]
    return f"{layer}/{weight}"


def _check_storage(datasets: dict[str, Any], path: Path) -> None:
    for name, dataset in datasets.items():
        if dataset.external or dataset.is_virtual:
            raise ValueError(
                f"{path}: the contents of {name} are in other files, which are not read; expected "
                "all weights in this one"
            )
        # HDF5 unpacks a whole chunk, which may be far larger than the array that it is part of.
        check_expansion(path, math.prod(dataset.chunks or ()) * dataset.dtype.itemsize)
    check_expansion(path, sum(math.prod(d.shape) * d.dtype.itemsize for d in datasets.values()))
