"""Another project's weights: read, recognised and mapped, and made into a work directory of ours.

Weights and the dialect they were trained in travel together: `load` gives both, and
`write_checkpoint` puts both into a checkpoint that evaluation and prediction take as any other.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import mode
from typing import Any

import numpy as np

from maskrcnn_jax.checkpoints import format as checkpoint_format
from maskrcnn_jax.config_json import set_values, to_json
from maskrcnn_jax.console import printable, said_if_slow
from maskrcnn_jax.models.backbones.names import backbone_name
from maskrcnn_jax.models.build import abstract_variables, make_model
from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.models.keypoints.persons import PERSONS
from maskrcnn_jax.pretrained import overrides as overridden
from maskrcnn_jax.pretrained.files.weight_files import read_weights, sha256
from maskrcnn_jax.pretrained.out_folder import new_folder
from maskrcnn_jax.pretrained.source import Source, State
from maskrcnn_jax.pretrained.sources import recognised
from maskrcnn_jax.pretrained.tables.coco_classes import CATEGORIES, class_list
from maskrcnn_jax.pretrained.tables.mapping import Entry, Imported, import_arrays
from maskrcnn_jax.pretrained.weight_keys import weight_keys
from maskrcnn_jax.pretrained.weights import Weights

# Widths that config.model has a key for, and the layers of ours that are as wide: the last axis of
# each of their arrays.
_WIDTHS = {
    "backbone.width": ("backbone", "stem"),
    "fpn.channels": ("fpn",),
    "rpn.channels": ("rpn", "conv_0"),
    "box_head.conv_channels": ("box_head", "conv_0"),
    "box_head.dense_channels": ("box_head", "dense_0"),
    "mask_head.channels": ("mask_head", "conv_0"),
    "point_rend.dense_channels": ("mask_head", "dense_0"),
    "point_rend.point_channels": ("mask_head", "layer_0"),
    "keypoints.channels": ("keypoint_head", "conv_0"),
}


def load(path: str | Path, overrides: Mapping[str, Any] = {}) -> Weights:
    """Returns the weights of a file of another project, and what the detector must be for them.

    Widths are read from the arrays, so that narrower models than the published ones come in too.

    Args:
        path: of the file, of any kind that `sources.SOURCES` lists.
        overrides: keys of `config.model`, flattened, that win over the kind's own.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no file of weights or of a known kind, its arrays are not those of the
            model (those that differ are listed), or a key of `overrides` does not exist.
    """
    overridden.check(overrides)
    path = Path(path).expanduser()
    with said_if_slow(f"reading the weights in {printable(path)}"):
        state = read_weights(path)
    source = recognised(state, str(path))
    state = source.todays_names(state)
    if source.part == "detector" and not _has_masks(source, state):
        source = replace(source, settings={**source.settings, "masks": False})
    num_classes = _num_classes(source, state, path)
    try:
        config = _config_model(source, state, overrides)
    except ValueError as error:
        raise ValueError(f"{path}, read as {source.name}: {error}") from error
    what = _read_as(source, config, num_classes, overrides)
    imported = _import(source, state, config, num_classes, f"{path}, read as {what}")
    names, ids = class_list(num_classes) if source.part == "detector" else ((), ())
    if num_classes == 1 and config.keypoints.names == PERSONS["names"]:
        names, ids = ("person",), (1,)
    model = weight_keys(config, source.part)
    chosen = {**_keypoints(source, state), **overrides}
    chosen = {key: value for key, value in chosen.items() if key not in model}
    return Weights(
        kind=source.name,
        part=source.part,
        file=path.name,
        sha256=sha256(path),
        model=model,
        settings={**source.settings, **chosen},
        data=dict(source.data),
        class_names=names,
        category_ids=ids,
        notes=_notes(source, num_classes, overrides),
        **imported._asdict(),
    )


def with_classes(weights: Weights, names: Sequence[str]) -> Weights:
    """Returns the weights of a detector with names for its classes, whose ids are 1 to K.

    Raises:
        ValueError: the names are not as many as the classes, or not all different.
    """
    names = tuple(name.strip() for name in names)
    number = len(weights.class_names)
    if "" in names:
        raise ValueError(
            f"class name {names.index('') + 1} of {len(names)} is empty ({','.join(names)}); give "
            f"{number} names"
        )
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise ValueError(
            f"given twice among the class names: {', '.join(twice)}; give {number} different ones"
        )
    if len(names) != number:
        raise ValueError(
            f"{len(names)} class names are given ({', '.join(names)}); {weights.file} has "
            f"{number} classes: give as many names"
        )
    return replace(weights, class_names=names, category_ids=tuple(range(1, number + 1)))


def write_checkpoint(weights: Weights, out: str | Path) -> None:
    """Writes a work directory whose only checkpoint, of step 0, holds the weights of a detector.

    Args:
        weights: as `load` returns them.
        out: the folder; made where it does not exist.

    Raises:
        OSError: it cannot be written. Nothing is left behind.
        ValueError: the weights are a backbone's, or the folder has checkpoints already.
    """
    if weights.part != "detector":
        raise ValueError(
            f"{weights.file} is the backbone of a classifier, from which no detector can be made "
            f"without training. Start a training from it: --config.init=imagenet:PATH"
        )
    metadata = {
        "config": checkpoint_config(weights),
        "class_names": weights.class_names,
        "category_ids": weights.category_ids,
        "num_images": 0,
        "source": {"file": weights.file, "sha256": weights.sha256, "kind": weights.kind},
    }
    with new_folder(out) as folder:
        checkpoint_format.save_weights(folder, dict(weights.variables), metadata)


def checkpoint_config(weights: Weights) -> dict[str, Any]:
    """Returns the configuration of a checkpoint made of weights, as JSON; other keys have defaults.

    Its data set is COCO's. It is evaluated in small batches, which any machine has the memory for.
    """
    model = ModelConfig()
    set_values(model, {**weights.model, **weights.settings}, "config.model")
    data: dict[str, Any] = {"format": "coco", **weights.data}
    kind = "person_keypoints" if model.keypoints.names else "instances"
    for split, images in (("train", "train2017"), ("val", "val2017")):
        annotations = f"annotations/{kind}_{images}.json"
        data[split] = {"root": "coco", "images": images, "annotations": annotations}
    parts = {"name": weights.kind, "model": model, "data": data, "eval": {"batch_size": 2}}
    return to_json(parts)


def _has_masks(source: Source, state: State) -> bool:
    """Whether a detector's weights have a mask head: a Faster R-CNN's have not."""
    config = ModelConfig()
    set_values(config, dict(source.model), "config.model")
    table = source.table(config)
    names = (name for entry in table if entry.path[1] == "mask_head" for name in entry.names)
    return any(name in state for name in names)


def _config_model(source: Source, state: State, overrides: Mapping[str, Any]) -> ModelConfig:
    """Returns the `config.model` that weights need."""
    config = ModelConfig()
    given = {**source.model, **source.layers(state), **_keypoints(source, state), **overrides}
    set_values(config, given, "config.model")
    config.masks = source.settings.get("masks", True)
    widths = _widths(state, source.table(config), config)
    set_values(config, {**widths, **overrides}, "config.model")
    config.validate()
    return config


def _keypoints(source: Source, state: State) -> dict[str, Any]:
    """Returns the keys of `config.model` that say what the keypoints are: COCO's, or numbers."""
    if source.num_keypoints is None:
        return {}
    number = source.num_keypoints(state)
    if number == len(PERSONS["names"]):
        return {f"keypoints.{key}": value for key, value in PERSONS.items()}
    return {"keypoints.names": tuple(f"keypoint_{i}" for i in range(1, number + 1))}


def _widths(state: State, entries: Sequence[Entry], config: ModelConfig) -> dict[str, int]:
    """Returns the keys of `_WIDTHS` as the arrays have them, those that most of them agree on."""
    widths: dict[str, int] = {}
    for key, layer in _WIDTHS.items():
        if key == "backbone.width" and config.backbone.kind != "resnet":
            continue  # the source's `layers` has the channels of other kinds
        sizes = [
            size
            for entry in entries
            if entry.path[1] == layer[0] and set(layer) <= set(entry.path)
            for size in _last_axis(entry, state)
        ]
        section, name = key.split(".")
        usual = (
            getattr(getattr(config, section), name) or widths["fpn.channels"]
        )  # 0 of the RPN: as the FPN has
        widths[key] = mode([*sizes, usual])
    if not config.rpn.channels and widths["rpn.channels"] == widths["fpn.channels"]:
        widths["rpn.channels"] = 0
    return widths


def _last_axis(entry: Entry, state: State) -> Iterator[int]:
    """Yields the size of the last axis of an array of ours, if the state has what it needs."""
    with suppress(KeyError, ValueError, IndexError):  # mapping reports what does not fit
        # A broadcast scalar has the shape and no memory.
        arrays = [np.broadcast_to(np.float32(0), state[name].shape) for name in entry.names]
        yield entry.layout.to_ours(*arrays).shape[-1]


def _num_classes(source: Source, state: State, path: Path) -> int:
    """Returns K; 1 for a backbone, of which no class is looked at."""
    if source.num_classes is None:
        return 1
    try:
        number = source.num_classes(state)
    except KeyError as error:
        raise ValueError(
            f"{path} looks like weights of {source.name}, but has no array {error}, which tells "
            f"the number of classes; is it a Mask R-CNN or a Faster R-CNN?"
        ) from error
    if number < 1:
        raise ValueError(f"{path}: its classifier has no class but the background")
    return number


def _import(
    source: Source, state: State, config: ModelConfig, num_classes: int, what: str
) -> Imported:
    table = source.table(config)
    expected = abstract_variables(make_model(config, num_classes))
    return import_arrays(state, table, expected, what=what, ignored=source.ignored)


def _read_as(
    source: Source, config: ModelConfig, num_classes: int, overrides: Mapping[str, Any]
) -> str:
    """Returns in words what a file was taken for."""
    classes = f" and {num_classes} classes" if source.part == "detector" else ""
    given = "".join(f", model.{key}={value}" for key, value in overrides.items())
    return f"{source.name} with {backbone_name(config.backbone)}{classes}{given}"


def _notes(source: Source, num_classes: int, overrides: Mapping[str, Any]) -> tuple[str, ...]:
    published = {"torchvision_v1": max(CATEGORIES), "torchvision_keypoints": 1}
    if num_classes == published.get(source.name, num_classes) or "backbone.norm_eps" in overrides:
        return ()
    return (
        "the epsilon of the frozen batch norm is taken as 0, which is right where the model was "
        "fine-tuned from COCO_V1; a model trained from an ImageNet backbone has 1e-5: convert it "
        "with --set model.backbone.norm_eps=1e-5",
    )
