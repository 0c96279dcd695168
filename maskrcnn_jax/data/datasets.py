"""From the configuration to the dataset that it names."""

import inspect
from collections.abc import Mapping

from maskrcnn_jax.data import (
    coco,
    cst,
    labelme,
    labelme_export,
    mask_folders,
    penn_fudan,
    shapes,
    via,
    voc,
    yolo,
)
from maskrcnn_jax.data.records import Dataset

# A format's reader; its keyword arguments are what config.data.train and config.data.val hold.
READERS = {
    "shapes": shapes.read,
    "coco": coco.read,
    "cst": cst.read,
    "labelme": labelme.read,
    "labelme_export": labelme_export.read,
    "mask_folders": mask_folders.read,
    "penn_fudan": penn_fudan.read,
    "via": via.read,
    "voc": voc.read,
    "yolo": yolo.read,
}


def load(config_data: Mapping, split: str) -> Dataset:
    """Returns the dataset of one split.

    Args:
        config_data: `config.data`: the format, the reader's arguments for each split, and
            `on_error` and `max_pixels`, which hold for both.
        split: "train" or "val".

    Raises:
        ValueError: unknown format or split, missing or unknown arguments, or what the reader finds.
    """
    form = config_data["format"]
    if form not in READERS:
        raise ValueError(f"data.format is {form!r}; expected one of {sorted(READERS)}")
    if split not in ("train", "val"):
        raise ValueError(f"split is {split!r}; expected 'train' or 'val'")
    reader = READERS[form]
    parameters = inspect.signature(reader).parameters
    options = dict(config_data[split])
    needed = [name for name, p in parameters.items() if p.default is p.empty]
    missing = [name for name in needed if name not in options]
    unknown = [name for name in options if name not in parameters]
    if missing or unknown:
        raise ValueError(
            f"data.{split} has keys {sorted(options)} for format {form!r}"
            + (f"; missing: {missing}" if missing else "")
            + (f"; unknown: {unknown}" if unknown else "")
            + f". Expected {needed}, and if wanted {[n for n in parameters if n not in needed]}"
        )
    for name in ("on_error", "max_pixels"):
        if name in parameters:
            options.setdefault(name, config_data[name])
    return reader(**options)
