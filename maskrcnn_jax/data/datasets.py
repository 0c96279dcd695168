"""From the configuration to the dataset that it names."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from maskrcnn_jax.data.config import DataConfig
from maskrcnn_jax.data.formats import (
    coco,
    cst,
    label_images,
    labelme,
    labelme_export,
    mask_folders,
    penn_fudan,
    shapes,
    via,
    voc,
    yolo,
)
from maskrcnn_jax.data.masks.mask_boxes import with_boxes_of_masks
from maskrcnn_jax.data.prepared import reader as tfds_reader
from maskrcnn_jax.data.prepared import tfds_coco
from maskrcnn_jax.data.read_options import DEFAULTS, DIVISION, ReadOptions
from maskrcnn_jax.data.records import Dataset
from maskrcnn_jax.data.selection import select
from maskrcnn_jax.data.union import union
from maskrcnn_jax.images.pixels import RGB8, pixel_format
from maskrcnn_jax.keypoint_set import KeypointSet

if TYPE_CHECKING:
    from maskrcnn_jax.config import Config


def load_for(config: "Config", split: str) -> Dataset:
    """Returns the dataset of one split as the detector of a configuration needs it; see `load`.

    Args:
        config: the whole configuration.
        split: "train" or "val".
    """
    model = config.model
    return load(config.data, split, model.masks, model.keypoints.keypoint_set())


def load(
    config_data: DataConfig,
    split: str,
    masks: bool = True,
    keypoints: KeypointSet | None = None,
) -> Dataset:
    """Returns the dataset of one split.

    Args:
        config_data: `config.data`: the format, the reader's arguments for each split, `on_error`,
            `max_pixels`, `channels` and `depth`, which hold for both, and what `_for_training`
            takes.
        split: "train" or "val".
        masks: `config.model.masks`; without, an object needs no mask (`boxes_as_masks`).
        keypoints: of `config.model.keypoints`; None: none are read.

    Raises:
        ValueError: unknown format or split, missing or unknown arguments, what the reader finds, or
            a value of a key of `_for_training` that makes no sense.
    """
    if split not in ("train", "val"):
        raise ValueError(f"split is {split!r}; expected 'train' or 'val'")
    config_data.validate()
    common = ReadOptions(
        on_error=config_data.on_error,
        max_pixels=config_data.max_pixels,
        boxes_as_masks=not masks,
        keypoints=keypoints.names if keypoints else (),
    )
    form, wanted = config_data.format, pixel_format(config_data)
    dataset = _read(
        form,
        dict(getattr(config_data, split)),
        common,
        "config.data.format",
        f"config.data.{split}",
    )
    if keypoints is not None:
        _check_keypoints(dataset, form, keypoints)
        dataset = replace(dataset, keypoints=keypoints)
    if wanted != RGB8:
        dataset = replace(dataset, read_image=partial(dataset.read_image, wanted=wanted))
    return _for_training(dataset, config_data) if split == "train" else dataset


def _check_keypoints(dataset: Dataset, form: str, keypoints: KeypointSet) -> None:
    """Refuses a dataset in which no object has a keypoint."""
    if all(record.keypoints is None for record in dataset.records):
        raise ValueError(
            f"no object of {dataset.name}, of format {form!r}, has one of the keypoints of "
            f"config.model.keypoints.names ({', '.join(keypoints.names)}); formats coco and "
            "labelme have keypoints. For data without them leave config.model.keypoints.names empty"
        )


def _for_training(dataset: Dataset, config_data: DataConfig) -> Dataset:
    """Returns the dataset with the images and the boxes that training is to see.

    What is evaluated on stays as the annotations have it: results are compared with those of
    others.

    Args:
        dataset: as its reader gives it.
        config_data: `config.data`: `empty_images`, `images_per_class` and `subset_seed` (see
            `select`), and `boxes`.
    """
    records = select(dataset.records, config_data)
    if config_data.boxes == "masks":
        records = [with_boxes_of_masks(record) for record in records]
    return replace(dataset, records=records)


def arguments_of(form: str) -> dict[str, inspect.Parameter]:
    """Returns the arguments that a format's reader takes, as `data.train` and `data.val` have them.

    Args:
        form: a format of `READERS`.

    Returns:
        The reader's own, and in place of its `options` those of `ReadOptions`; a reader with a
        `split` of its own does not take those that divide the images by a hash.
    """
    own = dict(inspect.signature(READERS[form]).parameters)
    if own.pop("options", None) is None:
        return own
    common = dict(inspect.signature(ReadOptions).parameters)
    del common["keypoints"]  # the model's
    return own | {n: p for n, p in common.items() if not ("split" in own and n in DIVISION)}


def _read(form: str, options: dict, common: ReadOptions, form_key: str, key: str) -> Dataset:
    """Calls the reader of a format after checking its arguments; the keys are for messages.

    An argument that is None is not given: recipes have such keys for the command line.
    """
    if form not in READERS:
        raise ValueError(f"{form_key} is {form!r}; expected one of {sorted(READERS)}")
    options = {name: value for name, value in options.items() if value is not None}
    parameters = arguments_of(form)
    needed = [name for name, p in parameters.items() if p.default is p.empty]
    missing = [name for name in needed if name not in options]
    unknown = [name for name in options if name not in parameters]
    if missing or unknown:
        raise ValueError(
            f"{key} has keys {sorted(options)} for format {form!r}"
            + (f"; missing: {missing}" if missing else "")
            + (f"; unknown: {unknown}" if unknown else "")
            + f". Expected {needed}, and if wanted {[n for n in parameters if n not in needed]}"
        )
    own = inspect.signature(READERS[form]).parameters
    given = {name: value for name, value in options.items() if name in own}
    if "options" in own:
        changed = {name: value for name, value in options.items() if name not in own}
        given["options"] = replace(common, **changed)
    try:
        return READERS[form](**given)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error


def read_union(
    parts: Mapping[str, Mapping],
    class_names: Sequence[str] = (),
    rename: Mapping[str, str] | None = None,
    options: ReadOptions = DEFAULTS,
) -> Dataset:
    """Returns several datasets as one (see `union`).

    Args:
        parts: `format` and the arguments of its reader, of each part by a name for it.
        class_names: the classes to keep, in this order; by default all.
        rename: new names of classes, by their old ones.
        options: of each part that does not say otherwise.

    Raises:
        ValueError: as `load`, and `union`.
    """
    loaded = {}
    for name, part in parts.items():
        given = dict(part)
        form = given.pop("format", "")
        loaded[name] = _read(form, given, options, f"parts.{name}.format", f"parts.{name}")
    return union(loaded, class_names, rename)


# A format's reader; its keyword arguments are what config.data.train and config.data.val hold.
READERS: dict[str, Callable[..., Dataset]] = {
    "shapes": shapes.read,
    "coco": coco.read,
    "cst": cst.read,
    "label_images": label_images.read,
    "labelme": labelme.read,
    "labelme_export": labelme_export.read,
    "mask_folders": mask_folders.read,
    "penn_fudan": penn_fudan.read,
    "tfds": tfds_reader.read,
    "tfds_coco": tfds_coco.read,
    "union": read_union,
    "via": via.read,
    "voc": voc.read,
    "yolo": yolo.read,
}
