"""How the folder of one's own images is read, which its layout tells."""

import posixpath
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict, FieldReference
from ml_collections.config_dict import placeholder

from maskrcnn_jax.data import datasets
from maskrcnn_jax.data.files.paths import files_in
from maskrcnn_jax.data.formats import label_images

_KEPT_APART = ("split", "folder", "images", "annotations", "root")  # may differ between the splits
_ROBOFLOW = "_annotations.coco.json"
_LABEL_STUDIO = ("result.json", "result_coco.json")
_HELD_OUT = ("valid", "val", "validation", "test")  # names of the other split, the best first


class OwnFolder(NamedTuple):
    """`data.format` and the arguments of its reader for both splits."""

    format: str
    train: dict[str, Any]
    val: dict[str, Any]


def found_in(folder: str) -> OwnFolder:
    """Returns how a folder is to be read.

    These are known, in this order; a folder of none of them is taken for one of labelme's files:

    - Roboflow's COCO export, `_annotations.coco.json` in the folder or in `train`, `valid`, `test`;
    - CVAT's, `annotations/instances_default.json`, or one such file for each subset;
    - Label Studio's, `result.json`;
    - YOLO's text files of polygons, whose `data.yaml` names the splits;
    - label images, `images/a.tif` and `masks/a.tif` or `a.tif` and `a_masks.tif`, in the folder or
      in `train` and `test`.

    Where the layout does not say which images are for evaluation, a hash divides them.

    Args:
        folder: as the user gave it; it need not exist.
    """
    here = Path(folder).expanduser()
    for layout in (_roboflow, _cvat, _label_studio, _yolo, _label_images):
        found = layout(folder, here)
        if found is not None:
            return found
    return _divided("labelme", folder=folder)


def _roboflow(folder: str, here: Path) -> OwnFolder | None:
    def coco(images: str) -> dict[str, Any]:
        return dict(root=folder, images=images, annotations=posixpath.join(images, _ROBOFLOW))

    train, val = _subfolders(here, lambda inside: (inside / _ROBOFLOW).is_file())
    if train and val:
        return OwnFolder("coco", coco(train) | {"split": ""}, coco(val) | {"split": ""})
    if train:
        return _divided("coco", **coco(train))
    return _divided("coco", **coco("")) if (here / _ROBOFLOW).is_file() else None


def _cvat(folder: str, here: Path) -> OwnFolder | None:
    """Returns how an export of a task or of a project is read: one file for each subset."""
    prefix = "instances_"
    files = sorted((here / "annotations").glob(f"{prefix}*.json"))
    subsets = [file.stem.removeprefix(prefix) for file in files]

    def coco(subset: str) -> dict[str, Any]:
        places = (f"images/{subset}", subset)  # the second is how COCO itself lies
        images = next((place for place in places if (here / place).is_dir()), "images")
        return dict(root=folder, images=images, annotations=f"annotations/{prefix}{subset}.json")

    train, val = _subset(subsets, "train"), _subset(subsets, *_HELD_OUT)
    if train and val:
        return OwnFolder("coco", coco(train) | {"split": ""}, coco(val) | {"split": ""})
    only = train or _subset(subsets, "default")
    return _divided("coco", **coco(only)) if only else None


def _label_studio(folder: str, here: Path) -> OwnFolder | None:
    for name in _LABEL_STUDIO:
        if (here / name).is_file():  # its file names begin with images/
            return _divided("coco", root=folder, images="", annotations=name)
    return None


def _yolo(folder: str, here: Path) -> OwnFolder | None:
    return _divided("yolo", folder=folder) if (here / "data.yaml").is_file() else None


def _label_images(folder: str, here: Path) -> OwnFolder | None:
    if not here.is_dir() or files_in(here, ".json"):  # labelme's folders may have masks, too
        return None
    train, val = _subfolders(here, label_images.fits)
    if train and val:
        parts = (dict(folder=str(Path(folder, part)), split="") for part in (train, val))
        return OwnFolder("label_images", *parts)
    return _divided("label_images", folder=folder) if label_images.fits(here) else None


def _divided(form: str, **options: Any) -> OwnFolder:
    """Returns a reader of all images, which divides them itself."""
    return OwnFolder(form, options | {"split": "train"}, options | {"split": "val"})


def _subfolders(here: Path, is_split: Callable[[Path], bool]) -> tuple[str | None, str | None]:
    """Returns the folders in this one that are the two splits, where there are such."""
    names = [name for name in ("train", *_HELD_OUT) if is_split(here / name)]
    return _subset(names, "train"), _subset(names, *_HELD_OUT)


def _subset(names: Sequence[str], *wanted: str) -> str | None:
    """Returns the name that is one of those wanted, the first first: `Train` and `train2017` are
    `train`."""
    plain = {name.lower().rstrip("0123456789"): name for name in names}
    return next((plain[name] for name in wanted if name in plain), None)


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
