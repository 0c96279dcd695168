"""A model as a folder of two files that run no code: model.safetensors and config.json.

The arrays have dotted names, `params.backbone.stem.conv.kernel`; the JSON has the configuration,
the class names and, of every array, the sum by which damage is seen.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from maskrcnn_jax import config_json
from maskrcnn_jax.checkpoints import checksums
from maskrcnn_jax.checkpoints.format import check_structure
from maskrcnn_jax.checkpoints.saved_config import check_classes, detector_config
from maskrcnn_jax.files import write_atomically
from maskrcnn_jax.memory import check_detector
from maskrcnn_jax.models.build import abstract_variables, make_model

WEIGHTS, CONFIG = "model.safetensors", "config.json"
_FORMAT = 1


def is_weights_folder(path: str | Path) -> bool:
    """Tells whether a path is such a folder."""
    return (Path(path) / WEIGHTS).is_file() and (Path(path) / CONFIG).is_file()


def write(folder: str | Path, variables: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Writes variables and metadata as `load_for_inference` returns them.

    Args:
        folder: made where it does not exist; the JSON is written last.
        variables: `{"params", "batch_stats"}`.
        metadata: `config`, `class_names`, `category_ids` and what else JSON knows.

    Raises:
        OSError: it cannot be written.
    """
    from safetensors.numpy import save

    variables = jax.device_get(variables)
    arrays = {
        jax.tree_util.keystr(path, simple=True, separator="."): np.ascontiguousarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
    }
    described = {
        **metadata,
        "config": config_json.to_json(metadata["config"]),
        "format": _FORMAT,
        "checksums": checksums.checksums(variables),
    }
    write_atomically(Path(folder) / WEIGHTS, save(arrays))
    write_atomically(Path(folder) / CONFIG, json.dumps(described, indent=1) + "\n")


def read(folder: str | Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads what `write` has written, to the bit.

    Returns:
        Variables and metadata, as `load_for_inference` returns them; `Predictor` takes both.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is damaged, or the arrays are not those of the model.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    folder = Path(folder)
    where = folder / CONFIG
    try:
        metadata = json.loads(where.read_text(encoding="utf-8"))
        sums = metadata.pop("checksums")
        version = metadata.pop("format")
        config = config_json.from_json(metadata["config"])
        check_classes(metadata)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"{where} is not what `python -m maskrcnn_jax.export --format=safetensors` writes: "
            f"{error!r}; take another copy of the folder"
        ) from error
    if version != _FORMAT:
        raise ValueError(
            f"{where} has format {version!r}, this version of the package knows {_FORMAT}; "
            "install a newer one"
        )
    try:
        variables = _nested(load_file(folder / WEIGHTS))
    except SafetensorError as error:
        raise ValueError(f"{folder / WEIGHTS} is damaged: {error}; take another copy") from error
    metadata |= {
        "config": config,
        "class_names": tuple(metadata["class_names"]),
        "category_ids": tuple(metadata["category_ids"]),
    }
    model_config, _ = detector_config(metadata, where, check_detector)
    model = make_model(model_config, len(metadata["class_names"]))
    check_structure(variables, abstract_variables(model), str(folder))
    if wrong := checksums.differing(checksums.checksums(variables), sums):
        raise ValueError(
            f"{folder / WEIGHTS}: {len(wrong)} arrays are not what was written, such as "
            f"{wrong[0]}; take another copy"
        )
    return variables, metadata


def _nested(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns the tree of dotted names; both collections are there, though empty."""
    tree: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for name, array in arrays.items():
        *parents, last = name.split(".")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = array
    return tree
