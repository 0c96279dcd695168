"""Narrow detectors of every dialect, whose outputs spread as those of trained ones do."""

from functools import cache
from typing import Any

import jax
import numpy as np

from maskrcnn_jax.config import get_config as base_config
from maskrcnn_jax.config_json import set_values, to_json
from maskrcnn_jax.export.detector import Detector
from maskrcnn_jax.export.examples import Example, generated
from maskrcnn_jax.models.build import initial_variables
from maskrcnn_jax.pretrained.sources import SOURCES
from tests.end_to_end.tiny import get_config

CLASS_NAMES = ("circle", "rectangle", "triangle")
SHAPE = (64, 96)

_SOURCES = {source.name: {**source.model, **source.settings} for source in SOURCES}
_R50 = {"backbone.depth": 50}
_GROUP_NORM = {f"{part}.norm": "gn" for part in ("backbone", "fpn", "box_head", "mask_head")}
DIALECTS: dict[str, dict[str, Any]] = {
    "torchvision_v1": _SOURCES["torchvision_v1"]
    | {"backbone.depth": 18, "backbone.norm_eps": 1e-5},
    # With the grouped convolutions of a ResNeXt.
    "torchvision_v2": _SOURCES["torchvision_v2"]
    | _R50
    | {"backbone.groups": 2, "backbone.width_per_group": 32},
    "detectron2": _SOURCES["detectron2"] | _R50,
    "matterport": _SOURCES["matterport"] | _R50,
    # What no published model has together.
    "mixed": _GROUP_NORM
    | {
        "box_head.convs": 1,
        "box_head.class_agnostic": True,
        "mask_head.class_agnostic": True,
        "roi.pooling": "crop_and_resize",
        "rpn.nms": "joint",
        "pixel.mean": (30_000.0, 20_000.0, 10_000.0, 40_000.0, 100.0),
        "pixel.std": (9_000.0, 8_000.0, 7_000.0, 6_000.0, 20_000.0),
    },
}
_NARROW = {
    "backbone.depth": 18,
    "backbone.width": 8,
    "fpn.channels": 16,
    "rpn.channels": 12,
    "anchors.sizes": (8.0, 16.0, 32.0, 64.0, 128.0),
    "rpn.pre_nms_top_n_eval": 40,
    "rpn.post_nms_top_n_eval": 30,
    "roi.canonical_size": 30.0,
    "box_head.conv_channels": 10,
    "box_head.dense_channels": 24,
    "mask_head.convs": 2,
    "mask_head.channels": 14,
    "detections.max_per_image": 10,
}


@cache
def detector(dialect: str) -> Detector:
    """Returns an untrained detector of a dialect; made once a process."""
    config = get_config()
    config.model = base_config().model
    set_values(config.model, {**_NARROW, **DIALECTS[dialect]})
    set_values(
        config.model, {key: value for key, value in _NARROW.items() if key != "backbone.depth"}
    )
    config.data.buckets = (SHAPE,)
    config.data.channels = len(config.model.pixel.mean)
    config.data.depth = 16 if max(config.model.pixel.mean) > 255 else 8
    metadata = {
        "config": to_json(config),
        "class_names": CLASS_NAMES,
        "category_ids": (10, 20, 30),
        "step": 7,
    }
    bare = Detector({}, metadata)
    variables = jax.device_get(initial_variables(bare.model, jax.random.key(0)))
    return Detector(
        _spread(bare, _with_statistics(variables, bare.model.config.backbone.depth)), metadata
    )


def examples(made: Detector, number: int = 2) -> list[Example]:
    """Returns generated images for a detector."""
    return generated(number, made.image_config, SHAPE)


def with_setting(made: Detector, key: str, value: Any) -> Detector:
    """Returns the detector with a key of `config.model` changed."""
    model = made.model_config
    set_values(model, {key: value})
    config = {**made.metadata["config"], "model": to_json(model)}
    return Detector(made.variables, {**made.metadata, "config": config})


def _with_statistics(variables: dict, depth: int) -> dict:
    """Returns variables with statistics and biases that are not those of the first step."""
    rng, last_conv = np.random.default_rng(3), "conv3" if depth >= 50 else "conv2"

    def changed(path, leaf):
        name = path[-1].key
        if name in ("bias", "mean"):
            return rng.normal(0, 0.1, leaf.shape).astype(np.float32)
        if name in ("scale", "var"):
            # Residual blocks would add up to large numbers otherwise.
            last = 0.3 if last_conv in jax.tree_util.keystr(path) and name == "scale" else 1.0
            return (last * rng.uniform(0.6, 1.4, leaf.shape)).astype(np.float32)
        return leaf

    return jax.tree_util.tree_map_with_path(changed, variables)


def _spread(bare: Detector, variables: dict) -> dict:
    """Scales the predictors so that objectness, classes, boxes and masks vary."""
    model, params = bare.model, variables["params"]
    predict = jax.jit(lambda *args: model.apply(*args, method="predict")[1])
    image, size = (x[None] for x in examples(bare, 1)[0])

    def scale(part, layer, stage, wanted):
        values = np.asarray(predict(variables, image, size)[stage])
        factor = np.float32(wanted / values.std())
        params[part][layer] = {k: v * factor for k, v in params[part][layer].items()}
        if stage == "class_logits":  # else one class is the best of all RoIs
            params[part][layer]["bias"] -= factor * values.mean((0, 1))

    scale("rpn", "logits", "rpn_logits", 2.0)
    scale("rpn", "deltas", "rpn_deltas", 0.5)
    scale("box_head", "class_logits", "class_logits", 1.5)
    scale(
        "box_head", "box_deltas", "box_deltas", 0.5 * np.mean(model.config.box_head.coder_weights)
    )
    scale("mask_head", "mask_logits", "mask_logits", 3.0)
    return variables
