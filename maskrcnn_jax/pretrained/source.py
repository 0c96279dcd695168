"""What is known of one kind of weights, and what is read from the weights themselves."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.pretrained import resnet_layers
from maskrcnn_jax.pretrained.tables.mapping import Entry

State = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Source:
    """One kind of weights.

    Attributes:
        name: by which the kind goes.
        part: "detector" or "backbone".
        marks: names that only such a state dict has, all of them.
        table: of `config.model`: every array, ours beside theirs.
        layers: keys of `config.model` about the layers, read from the state dict.
        num_classes: K, read from the state dict; None for a backbone.
        num_keypoints: P, read from the state dict; None: there are none.
        todays_names: the state dict under the names that the table uses.
        ignored: patterns of names that may be left behind.
        model: keys of `config.model` that weights need (`weight_keys.py`), where they differ from
            the default.
        settings: further keys of `config.model`: how the published model is run.
        data: keys of `config.data` likewise.
    """

    name: str
    part: str
    marks: tuple[str, ...]
    table: Callable[[ModelConfig], list[Entry]]
    layers: Callable[[State], dict[str, Any]]
    num_classes: Callable[[State], int] | None = None
    num_keypoints: Callable[[State], int] | None = None
    todays_names: Callable[[State], dict[str, np.ndarray]] = dict
    ignored: tuple[str, ...] = ()
    model: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)


def classes_of_torch(state: State) -> int:
    """K of torchvision's and Detectron2's box predictors, which count the background too."""
    return len(state["roi_heads.box_predictor.cls_score.bias"]) - 1


def classes_of_cascade(state: State) -> int:
    """The same of the first of Detectron2's heads in a row."""
    return len(state["roi_heads.box_predictor.0.cls_score.bias"]) - 1


def with_class_loss(layers: Callable[[State], dict[str, Any]]) -> Callable[[State], dict]:
    """Returns what also reads whether Detectron2 trained by the federated loss, as on LVIS."""

    def read(state: State) -> dict[str, Any]:
        federated = any(name.endswith(".fed_loss_cls_weights") for name in state)
        return layers(state) | ({"box_head.class_loss": "federated"} if federated else {})

    return read


def resnet(pattern: str) -> Callable[[State], dict[str, Any]]:
    """Returns what reads a ResNet's depth from the names of its residual convolutions."""
    return lambda state: {"backbone.depth": resnet_layers.depth_by_blocks(state, pattern)}
