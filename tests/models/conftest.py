"""A detector so small that a training step takes a moment, with its programs compiled once."""

from typing import NamedTuple

import jax
import numpy as np
import pytest

from maskrcnn_jax.config import get_config
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.models.build import initial_variables
from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.models.mask_rcnn import MaskRCNN

HEIGHT, WIDTH, GRID, SLOTS, NUM_CLASSES = 64, 96, 14, 4, 3


def tiny_model_config() -> ModelConfig:
    model = get_config().model
    set_values(model.backbone, dict(depth=18, width=8, norm="bn"))
    model.fpn.channels = 16
    model.anchors.sizes = (8.0, 16.0, 32.0, 64.0, 128.0)
    for mode in ("train", "eval"):
        setattr(model.rpn, f"pre_nms_top_n_{mode}", 40)
        setattr(model.rpn, f"post_nms_top_n_{mode}", 30)
    # Nothing is sampled away, so that no result depends on a random number.
    model.rpn.samples_per_image = 4096
    model.rpn.positive_fraction = 1.0
    model.roi.samples_per_image = 34
    model.roi.positive_fraction = 1.0
    model.roi.canonical_size = 56.0
    set_values(model.box_head, dict(convs=1, conv_channels=8, dense_channels=32, norm="bn"))
    set_values(model.mask_head, dict(convs=1, channels=8, norm="bn"))
    model.detections.max_per_image = 10
    return model


class Step(NamedTuple):
    """Everything a training step computes."""

    losses: dict
    stages: dict
    gradients: dict
    batch_stats: dict


class Tiny:
    """The model, its variables and its two compiled programs."""

    def __init__(self, config: ModelConfig):
        self.config = config
        self.model = MaskRCNN(self.config, NUM_CLASSES)
        self.variables = initial_variables(self.model, jax.random.key(0))
        self._predict = jax.jit(
            lambda variables, *args: self.model.apply(variables, *args, method="predict")
        )
        self._step = jax.jit(jax.value_and_grad(self._total, has_aux=True))

    def _total(self, params, batch):
        (losses, stages), updated = self.model.apply(
            {**self.variables, "params": params},
            batch,
            jax.random.key(1),
            method="losses",
            mutable=["batch_stats"],
        )
        return losses["loss_total"], (losses, stages, updated["batch_stats"])

    def predict(self, image, image_size):
        return jax.device_get(self._predict(self.variables, image, image_size))

    def step(self, batch) -> Step:
        (_, (losses, stages, batch_stats)), gradients = jax.device_get(
            self._step(self.variables["params"], batch)
        )
        return Step(losses, stages, gradients, batch_stats)


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    return Tiny(tiny_model_config())


@pytest.fixture(scope="session")
def tiny_matterport() -> Tiny:
    """The tiny model with everything as matterport has it, and predictors that tell more apart."""
    config = tiny_model_config()
    set_values(config, _MATTERPORT)
    model = Tiny(config)
    fpn, rpn, box_head = (model.variables["params"][part] for part in ("fpn", "rpn", "box_head"))
    for level in ("p3", "p4", "p5"):
        fpn[f"output_{level}"]["conv"]["kernel"] *= 3  # else the finest has all the best anchors
    rpn["logits"]["kernel"] *= 30
    rpn["deltas"]["kernel"] *= 100
    box_head["class_logits"]["kernel"] *= 10
    box_head["box_deltas"]["kernel"] *= 60
    batch = _batch()
    _, stages = model.predict(batch["image"], batch["image_size"])
    # Each class, the background too, is then the best of some RoIs.
    box_head["class_logits"]["bias"] -= stages["class_logits"].mean((0, 1))
    return model


@pytest.fixture(scope="session")
def tiny_cascade() -> Tiny:
    """The tiny model with three box heads, and one mask for all classes."""
    config = tiny_model_config()
    set_values(config, CASCADE)
    return Tiny(config)


@pytest.fixture(scope="session")
def tiny_keypoints() -> Tiny:
    """The tiny model with four keypoints of each object, and without masks."""
    config = tiny_model_config()
    set_values(config, KEYPOINTS)
    return Tiny(config)


KEYPOINTS = {
    "masks": False,
    "keypoints.names": ("top", "left", "right", "bottom"),
    "keypoints.flip_pairs": (("left", "right"),),
    "keypoints.convs": 1,
    "keypoints.channels": 8,
}
CASCADE = {
    "box_head.class_agnostic": True,
    "mask_head.class_agnostic": True,
    "box_head.box_loss": "ciou",
    "cascade.ious": (0.6, 0.7),
}
_MATTERPORT = {
    "corners": "inclusive",
    "pixel.mean": (123.7, 116.8, 103.9),
    "pixel.std": (60.0, 60.0, 60.0),
    "pixel.padding": "black",
    "backbone.norm": "frozen_bn",
    "backbone.norm_eps": 1e-3,
    "backbone.stride_in_1x1": True,
    "backbone.pool_padding": "same",
    "anchors.rounded": False,
    "anchors.strides": "nominal",
    "rpn.channels": 24,
    "rpn.coder_weights": (10.0, 10.0, 5.0, 5.0),
    "rpn.nms": "joint",
    "rpn.clip": "input",
    "rpn.min_size": 0.0,
    "rpn.pre_nms_top_n_train": 100,
    "rpn.pre_nms_top_n_eval": 100,
    "rpn.post_nms_top_n_train": 120,
    "rpn.post_nms_top_n_eval": 120,
    "roi.samples_per_image": 124,
    "roi.positive_iou": 0.1,  # else only the true boxes themselves are
    "roi.negative_iou": 0.1,
    "roi.pooling": "crop_and_resize",
    "roi.canonical_level": 4.5,
    "roi.canonical_size": 28 * (63 * 95 / (64 * 96)) ** 0.5,
    "box_head.convs": 0,
    "box_head.dense_norm": "frozen_bn",
    "box_head.norm_eps": 1e-3,
    "mask_head.norm": "frozen_bn",
    "mask_head.norm_eps": 1e-3,
    "detections.classes": "best",
    "detections.min_size": 0.0,
    "detections.max_per_image": 100,
}


@pytest.fixture
def tiny_config() -> ModelConfig:
    """The tiny model's configuration, to be changed."""
    return tiny_model_config()


@pytest.fixture
def batch() -> dict:
    """Two images of different sizes; two objects, a crowd region and an empty slot in each."""
    return _batch()


def _batch() -> dict:
    rng = np.random.default_rng(0)
    boxes = [[8, 6, 40, 38], [30, 20, 62, 50], [2, 40, 30, 52], [0, 0, 0, 0]]
    return {
        "image": rng.integers(0, 256, (2, HEIGHT, WIDTH, 3), dtype=np.uint8),
        "image_size": np.array([[64, 96], [53, 70]], np.float32),
        "gt_boxes": np.array([boxes, boxes], np.float32),
        "gt_classes": np.array([[1, 3, 2, 0], [2, 2, 1, 0]], np.int32),
        "gt_masks": rng.integers(0, 256, (2, SLOTS, GRID, GRID), dtype=np.uint8),
        "gt_crowd": np.array([[False, False, True, False]] * 2),
        "gt_valid": np.array([[True, True, True, False]] * 2),
        "image_valid": np.array([True, True]),
    }
