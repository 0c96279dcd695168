"""Writing a model for others: weights, configuration and card, read back before they are sent."""

import json
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import jax
import numpy as np

from maskrcnn_jax.checkpoints import weights_folder
from maskrcnn_jax.config_json import from_json, to_json
from maskrcnn_jax.files import write_atomically
from maskrcnn_jax.hub import address
from maskrcnn_jax.hub.card import model_card


def push(
    variables: Mapping[str, Any],
    metadata: Mapping[str, Any],
    place: str,
    *,
    metrics: Mapping[str, float] = {},
    private: bool = False,
) -> str:
    """Publishes a model; returns where it is.

    Args:
        variables: `{"params", "batch_stats"}`.
        metadata: as `load_for_inference` returns it, with `license`.
        place: hf://USER/NAME, a folder that does not exist yet, or a file that ends in .zip.
        metrics: of an evaluation, for the card.
        private: of a repository that is made: for its owner alone.

    Raises:
        OSError: it cannot be written or sent.
        ValueError: the place is taken, or what was written does not read back to the bit.
    """
    metadata = {**metadata, "config": without_folders(metadata["config"])}
    if address.is_address(place):
        address.parse(place)
        with tempfile.TemporaryDirectory() as folder:
            write_folder(Path(folder), variables, metadata, place, metrics)
            return address.upload(Path(folder), place, private)
    path = Path(place).expanduser()
    if path.exists() and (path.is_file() or any(path.iterdir())):
        raise ValueError(f"{path} exists already; give the name of a new one")
    if path.suffix != ".zip":
        return str(write_folder(path, variables, metadata, place, metrics))
    with tempfile.TemporaryDirectory() as folder:
        write_folder(Path(folder), variables, metadata, place, metrics)
        _pack(Path(folder), path)
    return str(path)


def write_folder(
    folder: Path,
    variables: Mapping[str, Any],
    metadata: Mapping[str, Any],
    where: str,
    metrics: Mapping[str, float] = {},
) -> Path:
    """Writes a model's files and reads them back; returns the folder.

    Args:
        folder: made where it does not exist.
        variables: as for `push`.
        metadata: as for `push`.
        where: what the card says that `maskrcnn_jax.load` takes.
        metrics: as for `push`.

    Raises:
        OSError: a file cannot be written.
        ValueError: what was written does not read back to the bit; nothing of it is left.
    """
    weights_folder.write(folder, variables, metadata)
    write_atomically(folder / address.CARD, model_card(metadata, where, metrics))
    found, _ = weights_folder.read(folder)
    if not jax.tree.all(jax.tree.map(_is_equal, jax.device_get(variables), found)):
        for name in address.FILES:
            (folder / name).unlink()
        raise ValueError(f"{folder} did not read back what was written, and was removed")
    return folder


def metrics_of(source: str | Path) -> dict[str, float]:
    """Returns the metrics that an evaluation has left in a run's folder, if any."""
    with suppress(OSError, ValueError):
        found = json.loads((Path(source) / "eval" / "metrics.json").read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


def without_folders(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a configuration in which absolute paths are their last part alone.

    What somebody's folders are called is nobody else's business, and leads nowhere elsewhere.
    """

    def bare(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: bare(item) for key, item in value.items()}
        if isinstance(value, list):
            return [bare(item) for item in value]
        if isinstance(value, str):
            for kind in (PurePosixPath, PureWindowsPath):
                if kind(value).is_absolute() or value.startswith("~"):
                    return kind(value).name
        return value

    return from_json(bare(to_json(config)))


def _pack(folder: Path, path: Path) -> None:
    """Writes the files of a folder as a zip archive, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for name in address.FILES:
                archive.write(folder / name, name)
        shutil.move(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _is_equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
