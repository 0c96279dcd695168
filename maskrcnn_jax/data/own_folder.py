"""How the folder of one's own images is read: by names that exports have, or as labelme's files."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict, FieldReference
from ml_collections.config_dict import placeholder

from maskrcnn_jax.data import datasets

_KEPT_APART = ("split", "folder", "images", "annotations", "root")  # may differ between the splits
_ROBOFLOW = "_annotations.coco.json"
_CVAT = "instances_default.json"
_LABEL_STUDIO = ("result.json", "result_coco.json")


class OwnFolder(NamedTuple):
    """`data.format` and the arguments of its reader for both splits."""

    format: str
    train: dict[str, Any]
    val: dict[str, Any]


def found_in(folder: str) -> OwnFolder:
    """Returns how a folder is to be read.

    COCO exports of Roboflow (train/_annotations.coco.json), CVAT (annotations/
    instances_default.json) and Label Studio (result.json) are known by the names of their files;
    everything else is taken for a folder of labelme's files. Exports that are one file for all
    images are divided by a hash.

    Args:
        folder: as the user gave it; it need not exist.
    """
    here = os.path.expanduser(folder)

    def has(*parts: str) -> bool:
        return os.path.exists(os.path.join(here, *parts))

    def coco(images: str, annotations: str, split: str = "") -> dict[str, Any]:
        return dict(root=folder, images=images, annotations=annotations, split=split)

    def divided(images: str, annotations: str) -> OwnFolder:
        train, val = (coco(images, annotations, split) for split in ("train", "val"))
        return OwnFolder("coco", train, val)

    if has("train", _ROBOFLOW):
        other = next((name for name in ("valid", "val", "test") if has(name, _ROBOFLOW)), None)
        if other is None:
            return divided("train", f"train/{_ROBOFLOW}")
        train = coco("train", f"train/{_ROBOFLOW}")
        return OwnFolder("coco", train, coco(other, f"{other}/{_ROBOFLOW}"))
    if has(_ROBOFLOW):
        return divided(".", _ROBOFLOW)
    if has("annotations", _CVAT):
        images = "images/default" if has("images", "default") else "images"
        return divided(images, f"annotations/{_CVAT}")
    for name in _LABEL_STUDIO:
        if has(name):
            return divided(".", name)  # its file names begin with images/
    train, val = (dict(folder=folder, split=split) for split in ("train", "val"))
    return OwnFolder("labelme", train, val)


def arguments(found: OwnFolder, val_fraction: float = 0.2) -> dict[str, ConfigDict]:
    """Returns `data.train` and `data.val`, with keys for all that readers of folders take.

    A key without a value, None, can be given on the command line and is the reader's default
    otherwise. But for where images lie, to set a key of one split is to set that of the other.

    Args:
        found: what the keys with values are.
        val_fraction: fraction of the validation images, where a hash divides them.
    """
    # A placeholder is a key of this type without a value: the command line may set it, and a reader
    # that does not take it never sees it.
    shared = {name: placeholder(kind) for name, kind in _kinds().items() if name not in _KEPT_APART}
    shared |= dict(val_fraction=FieldReference(val_fraction), split_seed=FieldReference(0))
    own = {name: kind for name, kind in _kinds().items() if name in _KEPT_APART}
    return {
        split: ConfigDict({n: placeholder(k) for n, k in own.items()} | shared | given)
        for split, given in (("train", found.train), ("val", found.val))
    }


def _kinds() -> dict[str, type]:
    """Returns the type of each argument of the readers of files, as the command line gives it."""
    kinds: dict[str, type] = {}
    for form in datasets.READERS:
        if form in ("shapes", "union"):  # without files, and of nested arguments
            continue
        for name, parameter in datasets.arguments_of(form).items():
            kind = parameter.annotation
            if kind in (str, int, float, bool):
                kinds.setdefault(name, kind)
            elif kind == str | Path:
                kinds.setdefault(name, str)
            elif kind == Sequence[str]:
                kinds.setdefault(name, tuple)
    return {name: kind for name, kind in kinds.items() if name not in ("on_error", "max_pixels")}
