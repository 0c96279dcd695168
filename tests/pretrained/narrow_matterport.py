"""A narrow detector of matterport's dialect, its weights and how they are imported."""

import numpy as np

from maskrcnn_jax.config import get_config
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.models.build import abstract_variables, make_model
from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.pretrained import sources
from maskrcnn_jax.pretrained.tables import mapping
from tests.pretrained import keras_weights

SOURCE = next(source for source in sources.SOURCES if source.name == "matterport")
NUM_CLASSES = 3
WIDTHS = {
    "backbone.width": 4,
    "fpn.channels": 16,
    "rpn.channels": 12,
    "box_head.dense_channels": 20,
    "mask_head.channels": 8,
}


def config_model(depth: int = 50, **overrides) -> ModelConfig:
    """Returns `config.model` of the published detector, as its entry in `SOURCES` has it."""
    config = get_config().model
    keys = {**SOURCE.model, **SOURCE.settings, "backbone.depth": depth, **overrides}
    set_values(config, keys)
    return config


def narrow_weights(depth: int = 50) -> dict[str, np.ndarray]:
    """Returns random weights of `WIDTHS`, with which some RoIs are of each class, some of none."""
    shapes = keras_weights.matterport(
        depth, NUM_CLASSES + 1, width=4, pyramid=16, rpn=12, fc=20, mask=8
    )
    weights = keras_weights.random_weights(shapes, seed=9)
    weights["mrcnn_class_logits/bias"] += np.float32([0.8, 0.2, -0.5, 0.2])
    return weights


def imported(weights: dict[str, np.ndarray], config: ModelConfig) -> mapping.Imported:
    expected = abstract_variables(make_model(config, NUM_CLASSES))
    entries = SOURCE.table(config)
    return mapping.import_arrays(
        weights, entries, expected, what="the weights", ignored=SOURCE.ignored
    )
