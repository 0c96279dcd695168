"""What a run begins with: new parameters, weights that are there already, its own checkpoint.

`config.init` says which:

    none             new parameters
    PATH             weights: a work directory of ours (its newest checkpoint; for another one
                     PATH@best or PATH@STEP), or a file of another project, of any kind we can read
    NAME             published weights, fetched once to the user's cache
    imagenet:...     a PATH or NAME of which the backbone alone is taken
    coco:...         a PATH or NAME that must be a whole detector
    last             the newest checkpoint in the work directory, which must be there

A run resumes from a checkpoint in its work directory in any case; `config.init` is then not read.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from maskrcnn_jax import config_json
from maskrcnn_jax.checkpoints.layout import LAST
from maskrcnn_jax.checkpoints.load import load_for_inference
from maskrcnn_jax.checkpoints.resume import metadata_to_resume
from maskrcnn_jax.checkpoints.saved_config import detector_config
from maskrcnn_jax.images.pixels import pixel_format
from maskrcnn_jax.models.config import ALL_PARTS, ModelConfig
from maskrcnn_jax.pretrained import convert
from maskrcnn_jax.pretrained.files import downloads, published
from maskrcnn_jax.pretrained.first_convolution import with_channels
from maskrcnn_jax.pretrained.weight_keys import parts_that_need, weight_keys
from maskrcnn_jax.pretrained.weights import Weights

if TYPE_CHECKING:
    from maskrcnn_jax.config import Config


@dataclass(frozen=True)
class Start:
    """How a run begins.

    Attributes:
        weights: of which `parts` are taken; None: all parameters are new, or a checkpoint's.
        parts: of the detector.
        record: for the checkpoints' metadata: where the weights came from, and the keys of
            `config.model` that came with them. None without weights.
        lines: what the user should know.
    """

    weights: Weights | None = None
    parts: tuple[str, ...] = ()
    record: dict[str, Any] | None = None
    lines: tuple[str, ...] = ()


def begin(config: "Config", workdir: str | Path) -> tuple["Config", Start]:
    """Reads what `config.init` names, unless the run resumes from a checkpoint of its own.

    Args:
        config: the whole configuration; it is not changed.
        workdir: of the run.

    Returns:
        The configuration with the keys of `config.model` that belong to the weights, now or when
        the run began, as those need them; and the start.

    Raises:
        ValueError, OSError: where `config.init` names nothing that can be read, or not what it
            says; or the checkpoint in the work directory is not a training run's.
    """
    config = config_json.copied(config)
    saved = metadata_to_resume(workdir)
    if saved is not None:
        return config, _resumed(config, saved)
    if config.init == "last":
        raise FileNotFoundError(
            f"config.init is last, but there is no checkpoint in {Path(workdir) / LAST} to resume "
            f"from; check --workdir, or start a new run with another config.init"
        )
    if config.init == "none":
        return config, Start()
    return config, _from_weights(config)


def _from_weights(config: "Config") -> Start:
    """Reads the weights and puts what belongs to them into `config.model`."""
    try:
        weights = _read(config.init)
    except (ValueError, OSError) as error:
        raise ValueError(f"config.init = {config.init!r}: {error}") from error
    there = _parts_of(weights)
    absent = set() if config.model.masks else {"mask_head"}
    absent |= set() if config.model.mask_scoring.enabled else {"mask_iou_head"}
    absent |= set() if config.model.keypoints.names else {"keypoint_head"}
    wanted = [part for part in config.init_parts if part not in absent]
    parts = tuple(part for part in there if part in wanted)
    if not parts:
        raise ValueError(
            f"config.init_parts is {tuple(config.init_parts)}, of which config.init = "
            f"{config.init!r} has nothing: it gives {', '.join(there)}"
        )
    lines = ()
    if "backbone" in parts and weights.pixels[:2] != pixel_format(config.data)[:2]:
        weights, lines = _for_images(weights, config)
    keys = _keys_to_take(config.model, weights.model, parts)
    record = {
        "from": config.init,
        "kind": weights.kind,
        "file": weights.file,
        "sha256": weights.sha256,
        "parts": parts,
        "model": keys,
    }
    notes = weights.notes if "backbone" in parts else ()
    for part in ("mask_iou_head", "keypoint_head"):
        if part in set(there) - set(config.init_parts) - absent:
            notes += (f"{part} is not in config.init_parts: it is new, not the weights' own",)
    return Start(weights, parts, record, (*notes, *lines, *_apply(config, keys)))


def _parts_of(weights: Weights) -> tuple[str, ...]:
    """Returns the parts of the detector that weights have."""
    return tuple(part for part in ALL_PARTS if part in weights.variables["params"])


def _for_images(weights: Weights, config: "Config") -> tuple[Weights, tuple]:
    """Makes weights fit for images of other channels or depth; says what was done.

    How pixels are normalised is then the configuration's choice: that of the weights is for theirs.
    """
    channels, bits, _ = pixel_format(config.data)
    theirs, their_bits, _ = weights.pixels
    if theirs not in (3, channels):
        raise ValueError(
            f"config.init = {config.init!r} is for images of {theirs} channels, "
            "config.data.channels is "
            f"{channels}; give weights for as many, or for RGB"
        )
    lines = [
        f"config.model.pixel stays as configured: the weights are for images of {theirs} channels "
        "and "
        f"{their_bits} bits, the data have {channels} of {bits}"
    ]
    variables = weights.variables
    if theirs == 3:
        reverse = weights.model["pixel.order"] != config.model.pixel.order
        variables = with_channels(variables, channels, weights.model["pixel.std"], reverse)
        if channels != 3:
            how = "summed" if channels == 1 else f"repeated in turn, times 3 / {channels}"
            lines.append(f"first convolution: its red, green and blue are {how}")
    model = {key: value for key, value in weights.model.items() if not key.startswith("pixel.")}
    return replace(weights, variables=variables, model=model), tuple(lines)


def _resumed(config: "Config", saved: dict[str, Any]) -> Start:
    """Puts back what the run began with; nothing is read from `config.init`.

    What the weights needed was printed then: it is in the checkpoint's configuration.
    """
    began = config_json.section(type(config), saved["config"])
    lines = [
        f"config.{key}: {getattr(began, key)!r} -> {getattr(config, key)!r}, without effect: "
        "a run that resumes does not start from init"
        for key in ("init", "init_parts")
        if getattr(config, key) not in ("last", getattr(began, key))
    ]
    for key in ("init", "init_parts"):
        setattr(config, key, getattr(began, key))
    record = saved.get("init")
    _apply(config, record["model"] if record else {})
    return Start(record=record, lines=tuple(lines))


def _keys_to_take(
    config_model: ModelConfig, keys: Mapping[str, Any], parts: tuple[str, ...]
) -> dict[str, Any]:
    """Returns those keys that the parts need.

    Batch norm has the same arrays whether it is frozen or not: which of the two is the recipe's
    choice. So is a loss of the classes that is not the default.
    """
    now = config_json.flat(config_model)
    return {
        key: value
        for key, value in keys.items()
        if set(parts) & set(parts_that_need(key))
        and not (key.endswith("norm") and {now[key], value} == {"bn", "frozen_bn"})
        and not (key == "box_head.class_loss" and now[key] != "softmax")
    }


def _apply(config: "Config", keys: Mapping[str, Any]) -> list[str]:
    """Sets keys of `config.model`; returns a line for each that was another."""
    before = config_json.flat(config.model)
    config_json.set_values(config.model, keys, "config.model")
    return [
        f"model.{key}: {old!r} -> {new!r}, as the weights need"
        for key, old, new in config_json.differences(before, config.model)
    ]


def _read(init: str) -> Weights:
    """Reads what `config.init` names, and holds it against the prefix."""
    prefix, _, name = init.partition(":")
    if prefix not in ("imagenet", "coco"):
        return _read_any(init)
    weights = _read_any(name)
    if prefix == "coco" and weights.part == "backbone":
        raise ValueError(
            f"{weights.file} is a backbone ({weights.kind}), no detector; give it as "
            f"imagenet:{name}, or the weights of a detector"
        )
    return weights if prefix == "coco" else _backbone_of(weights)


def _read_any(name: str) -> Weights:
    if not name:
        raise ValueError("it is empty; give none for new parameters")
    path = Path(name).expanduser()
    folder, _, which = str(path).rpartition("@")
    if path.is_dir():
        return _own(path, "last")
    if folder and Path(folder).is_dir():
        return _own(Path(folder), which)
    if path.is_file():
        return _foreign(path)
    if name in published.NAMES:
        return _foreign(downloads.fetch(name))
    raise FileNotFoundError(downloads.nowhere(name))


def _own(workdir: Path, which: str) -> Weights:
    """Returns the weights of a run of ours."""
    variables, metadata = load_for_inference(workdir, which)
    variables = jax.device_get(variables)
    model, images = detector_config(metadata)
    return Weights(
        kind="maskrcnn_jax",
        part="detector",
        file=f"{workdir.absolute()}, step {metadata['step']}",
        sha256=_digest(variables),
        variables=variables,
        model=weight_keys(model, "detector"),
        class_names=metadata["class_names"],
        pixels=pixel_format(images),
    )


def _foreign(path: Path) -> Weights:
    """Returns the weights in a file of another project."""
    return replace(convert.load(path), file=str(path.absolute()))


def _backbone_of(weights: Weights) -> Weights:
    variables = {
        name: {"backbone": tree["backbone"]}
        for name, tree in weights.variables.items()
        if "backbone" in tree
    }
    return replace(weights, part="backbone", variables=variables, class_names=())


def _digest(variables: Any) -> str:
    """SHA-256 over the names and the numbers of all arrays."""
    digest = hashlib.sha256()
    for path, array in jax.tree_util.tree_leaves_with_path(variables):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
