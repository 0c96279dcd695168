"""ConvNeXt classifiers of timm and of torchvision as our backbone, and back.

Both have a norm behind the last stage and a classifier, which are left behind. Ours has a norm
behind each stage where a detector wants it, `convnext.norm_features`: it begins as the identity.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from maskrcnn_jax.models.backbones.interface import FEATURES
from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.pretrained.tables.mapping import CONV, DENSE, SAME, Entry, Layout, layer

IGNORED_OF_TIMM = (r"head\..*", r"norm_pre\..*")
IGNORED_OF_TORCHVISION = (r"classifier\..*",)


class _Names(NamedTuple):
    """What a project calls a stem, block i of a stage (from 0), what is before a stage, a block's
    parts; and the layout of its layer scale."""

    stem: str
    block: Callable[[int, int], str]
    downsample: Callable[[int], str]
    parts: tuple[str, str, str, str, str]
    scale: Layout


def timm_table(config: ModelConfig) -> list[Entry]:
    """Returns every array of the backbone, beside those of timm's ConvNeXt."""
    names = _Names(
        stem="stem",
        block=lambda stage, i: f"stages.{stage}.blocks.{i}",
        downsample=lambda stage: f"stages.{stage}.downsample",
        parts=("conv_dw", "norm", "mlp.fc1", "mlp.fc2", "gamma"),
        scale=SAME,
    )
    return list(_table(config, names))


def torchvision_table(config: ModelConfig) -> list[Entry]:
    """Returns every array of the backbone, beside those of torchvision's ConvNeXt.

    There the stages and what is between them are numbered through.
    """
    names = _Names(
        stem="features.0",
        block=lambda stage, i: f"features.{2 * stage + 1}.{i}",
        downsample=lambda stage: f"features.{2 * stage}",
        parts=("block.0", "block.2", "block.3", "block.5", "layer_scale"),
        scale=Layout(np.ravel, lambda x: x[:, None, None]),  # (C, 1, 1) <-> (C)
    )
    return list(_table(config, names))


def timm_layers(state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns the keys of `config.model` about the layers of timm's ConvNeXt."""
    return _layers(state, r"stages\.(\d)\.blocks\.(\d+)\.conv_dw\.weight")


def torchvision_layers(state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns the keys of `config.model` about the layers of torchvision's ConvNeXt."""
    return _layers(state, r"features\.(\d)\.(\d+)\.block\.0\.weight")


def _layers(state: Mapping[str, np.ndarray], pattern: str) -> dict[str, Any]:
    """Returns the keys of `config.model` that the depthwise convolutions of all blocks tell.

    Raises:
        ValueError: there are not four stages.
    """
    blocks: dict[int, int] = {}
    channels: dict[int, int] = {}
    for name, array in state.items():
        if match := re.fullmatch(pattern, name):
            stage = int(match[1])
            blocks[stage] = max(blocks.get(stage, 0), int(match[2]) + 1)
            channels[stage] = len(array)
    if len(blocks) != len(FEATURES):
        raise ValueError(f"it has a ConvNeXt of {len(blocks)} stages; expected {len(FEATURES)}")
    of_stages = {"blocks": blocks, "channels": channels}
    return {
        f"backbone.convnext.{key}": tuple(values[stage] for stage in sorted(values))
        for key, values in of_stages.items()
    }


def _table(config: ModelConfig, names: _Names) -> Iterator[Entry]:
    section = config.backbone.convnext
    yield from layer(("backbone", "stem", "conv"), f"{names.stem}.0", CONV)
    yield from _norm(("backbone", "stem", "norm"), f"{names.stem}.1")
    for stage, (feature, number) in enumerate(zip(FEATURES, section.blocks, strict=True)):
        if stage > 0:
            ours, theirs = ("backbone", f"downsample_{feature}"), names.downsample(stage)
            yield from _norm((*ours, "norm"), f"{theirs}.0")
            yield from layer((*ours, "conv"), f"{theirs}.1", CONV)
        for i in range(number):
            yield from _block(("backbone", f"stage_{feature}_{i}"), names.block(stage, i), names)
        if section.norm_features:
            yield from _new_norm(("backbone", f"norm_{feature}"), section.channels[stage])


def _block(path: tuple[str, ...], name: str, names: _Names) -> Iterator[Entry]:
    depthwise, norm, expand, project, layer_scale = (f"{name}.{part}" for part in names.parts)
    yield from layer((*path, "depthwise"), depthwise, CONV)
    yield from _norm((*path, "norm"), norm)
    yield from layer((*path, "expand"), expand, DENSE)
    yield from layer((*path, "project"), project, DENSE)
    yield Entry(("params", *path, "layer_scale"), (layer_scale,), names.scale)


def _norm(path: tuple[str, ...], name: str) -> Iterator[Entry]:
    yield Entry(("params", *path, "scale"), (f"{name}.weight",), SAME)
    yield Entry(("params", *path, "bias"), (f"{name}.bias",), SAME)


def _new_norm(path: tuple[str, ...], channels: int) -> Iterator[Entry]:
    """A norm that a classifier does not have: made of no array, and back to none."""
    for name, value in (("scale", 1.0), ("bias", 0.0)):
        layout = Layout(lambda value=value: np.full(channels, value), lambda _: ())
        yield Entry(("params", *path, name), (), layout)
