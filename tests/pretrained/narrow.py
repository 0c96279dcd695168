"""Files of weights of narrow detectors and classifiers, as other projects would write them."""

import jax
import numpy as np
from safetensors.numpy import save_file

from maskrcnn_jax.config import get_config
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.models.build import abstract_variables, make_model
from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.pretrained.tables import torchvision

NUM_CLASSES = 2


def narrow_model(generation: str, depth: int = 18) -> ModelConfig:
    """Returns `config.model` of a torchvision detector of few channels, no two widths the same."""
    model = get_config().model
    set_values(model, torchvision.MODEL_OVERRIDES[generation])
    set_values(model.backbone, dict(dict(depth=depth, width=4)))
    model.fpn.channels = 8
    model.box_head.dense_channels = 6
    if model.box_head.convs:
        model.box_head.conv_channels = 5
    model.mask_head.channels = 7
    return model


def random_variables(model: ModelConfig, num_classes: int = NUM_CLASSES) -> dict:
    """Returns random variables of the model; variances are positive."""
    rng = np.random.default_rng(0)
    shapes = abstract_variables(make_model(model, num_classes))
    return jax.tree.map(lambda x: rng.uniform(0.01, 0.2, x.shape).astype(np.float32), shapes)


def random_state(model: ModelConfig, num_classes: int = NUM_CLASSES) -> dict[str, np.ndarray]:
    """Returns a torchvision state dict of the model."""
    return torchvision.export_state(random_variables(model, num_classes), model)


def write(path, state):
    """Writes a state dict as safetensors; returns the path."""
    save_file(state, path)
    return path
