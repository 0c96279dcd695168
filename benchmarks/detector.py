"""The detector, weights and images that `predict` and `train_step` measure.

Weights are random, and such that both sides have all the work of a trained network on a crowded
image: every proposal slot full, every detection slot full, every positive slot of the mask head
full. A real image has less; static shapes make our time independent of that, torchvision's is not.
"""

import jax
import numpy as np

from maskrcnn_jax import config as default_config
from maskrcnn_jax.config import Config
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.data.config import DataConfig
from maskrcnn_jax.models.build import abstract_variables, make_model
from maskrcnn_jax.models.config import ModelConfig

NUM_CLASSES = 90  # COCO's ids as torchvision's weights count them, without the background


def get_config(tiny: bool) -> Config:
    """Returns the default configuration (ResNet-50-FPN); tiny: the same with few channels."""
    config = default_config.get_config()
    config.train.learning_rate = 1e-5  # the weights stay what they are
    config.train.warmup_steps = 0
    if tiny:
        model = config.model
        model.backbone.depth, model.backbone.width, model.fpn.channels = 18, 8, 8
        set_values(model.rpn, dict(
            pre_nms_top_n_train=16, pre_nms_top_n_eval=16,
            post_nms_top_n_train=16, post_nms_top_n_eval=16, samples_per_image=16,
        ))  # fmt: skip
        model.roi.samples_per_image = 8
        model.box_head.dense_channels = 16
        model.mask_head.convs, model.mask_head.channels = 1, 8
        model.detections.max_per_image = 4
        config.data.mask_size = 28
    return config


def random_variables(config_model: ModelConfig, num_classes: int) -> dict:
    """Returns {"params", "batch_stats"} of float32 numpy arrays."""
    shapes = abstract_variables(make_model(config_model, num_classes))
    rng = np.random.default_rng(0)

    def array(path, leaf):
        *layers, name = (key.key for key in path)
        values = np.full(leaf.shape, float(name in ("scale", "var")), np.float32)
        if name == "scale" and layers[-2] in ("conv2", "conv3"):
            values *= 0.2  # else the residual additions let the activations explode
        if name == "kernel":
            fan_in = leaf.size / leaf.shape[-1]
            spread = _PREDICTORS.get(layers[-1], np.sqrt(2 / fan_in))
            values = rng.standard_normal(leaf.shape, np.float32) * np.float32(spread)
        if layers[-1] == "class_logits" and name == "bias":
            values[1] = 3.0  # every proposal is an object of class 1 with a probability near 0.8
        return values

    return jax.tree_util.tree_map_with_path(array, shapes)


# Boxes stay near their anchors and classes near their bias.
_PREDICTORS = {"logits": 0.01, "deltas": 1e-3, "class_logits": 1e-3, "box_deltas": 1e-3}


def images(batch: int, height: int, width: int) -> dict[str, np.ndarray]:
    """Returns `image` [B, H, W, 3] uint8, noise, and `image_size` [B, 2] float32."""
    shape = (batch, height, width, 3)
    return {
        "image": np.random.default_rng(1).integers(0, 256, shape, np.uint8),
        "image_size": np.tile(np.float32([height, width]), (batch, 1)),
    }


def training_batch(batch: int, side: int, config_data: DataConfig) -> dict[str, np.ndarray]:
    """Returns a batch of square images with 100 small objects each, in a grid.

    With random weights the best proposals are those of P2, whose anchors these objects match.
    """
    starts = np.linspace(0, side - side // 16, 10).round().astype(np.float32)
    corners = np.stack(np.meshgrid(starts, starts), -1).reshape(-1, 2)
    boxes = np.concatenate([corners, corners + side // 16], axis=1)
    number, slots, grid = len(boxes), config_data.max_instances, config_data.mask_size
    valid = np.arange(slots) < number
    padded = np.zeros((slots, 4), np.float32)
    padded[:number] = boxes
    classes = np.where(valid, 1 + np.arange(slots) % NUM_CLASSES, 0).astype(np.int32)
    objects = {
        "gt_boxes": padded,
        "gt_classes": classes,
        "gt_masks": np.full((slots, grid, grid), 255, np.uint8),
        "gt_crowd": np.zeros(slots, bool),
        "gt_valid": valid,
    }
    repeated = {name: np.stack([array] * batch) for name, array in objects.items()}
    return images(batch, side, side) | repeated | {"image_valid": np.ones(batch, bool)}
