"""A model's weights from wherever they were put: a run, a folder, a zip archive, a hub."""

import tempfile
import zipfile
from pathlib import Path
from typing import Any

from maskrcnn_jax.checkpoints import weights_folder
from maskrcnn_jax.checkpoints.load import load_for_inference
from maskrcnn_jax.hub import address

Loaded = tuple[dict[str, Any], dict[str, Any]]  # variables, metadata

_WANTED = (weights_folder.WEIGHTS, weights_folder.CONFIG)
# Of an unpacked file to its packed bytes: numbers hardly shrink, and JSON by a tenth or so.
_MAX_EXPANSION = 50


def load_model(source: str | Path, checkpoint: str | int = "last") -> Loaded:
    """Loads a model; nothing in it is executed.

    Args:
        source: the folder of a training run; a folder or zip archive that was pushed; or
            hf://USER/NAME, which is fetched once.
        checkpoint: of a run: last, best or the number of a step.

    Returns:
        Variables and metadata, as `load_for_inference` returns them.

    Raises:
        OSError: it cannot be read or fetched.
        ValueError: it is damaged, or none of these.
    """
    if address.is_address(source):
        return _published(address.download(str(source)), source, checkpoint)
    path = Path(source).expanduser()
    if path.is_file() and path.suffix == ".zip":
        with tempfile.TemporaryDirectory() as folder:
            _unpack(path, Path(folder))
            return _published(Path(folder), source, checkpoint)
    if weights_folder.is_weights_folder(path):
        return _published(path, source, checkpoint)
    return load_for_inference(path, checkpoint)


def _published(folder: Path, source: str | Path, checkpoint: str | int) -> Loaded:
    if checkpoint != "last":
        raise ValueError(
            f"{source} holds one model, not the checkpoints of a run; leave checkpoint "
            f"{checkpoint!r} out"
        )
    return weights_folder.read(folder)


def _unpack(path: Path, folder: Path) -> None:
    """Writes the two files of a model, of the archive's top or of its only folder."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {Path(entry.filename).name: entry for entry in archive.infolist()}
            for name in _WANTED:
                if name not in entries:
                    raise ValueError(f"{path} has no {name}; expected a model that was pushed")
                entry = entries[name]
                if entry.file_size > _MAX_EXPANSION * (entry.compress_size + 1000):
                    raise ValueError(
                        f"{path}: {name} would unpack to {entry.file_size} bytes from "
                        f"{entry.compress_size}; it is damaged, or made to exhaust memory"
                    )
                (folder / name).write_bytes(archive.read(entry))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(f"{path} is damaged: {error}; take another copy") from error
