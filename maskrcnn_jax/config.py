"""Every configuration key; each recipe of `configs/` is a diff on this file.

    python -m maskrcnn_jax.config                     all keys with values, meanings and choices
    python -m maskrcnn_jax.config configs/coco.py     those of a recipe

A key is set on the command line as `--config.train.steps=100`. Each section stands beside what it
configures: `data/config.py`, `models/config.py`, `training/config.py`, `evaluation/config.py`,
`parallel/config.py`.
"""

import re
import sys
from dataclasses import dataclass, field

from maskrcnn_jax.config_fields import check_fields, setting
from maskrcnn_jax.data.config import DataConfig
from maskrcnn_jax.evaluation.config import EvalConfig
from maskrcnn_jax.memory import check_detector, named
from maskrcnn_jax.models.config import ALL_PARTS, PARTS, ModelConfig
from maskrcnn_jax.parallel.config import MeshConfig
from maskrcnn_jax.training.config import TrainConfig

_BATCH_BYTES = 2**40  # of all processes of a run together


@dataclass(slots=True)
class Config:
    """The whole configuration. By default it names no data: a recipe does."""

    name: str = setting("base", "the default work directory is runs/NAME")
    seed: int = setting(
        0,
        "seed of initial weights, sampling, augmentation and the order of images",
        within="[0, inf)",
    )
    init: str = setting(
        "none",
        "weights to start from: none | a work directory | a file of weights | the name of "
        "published weights | imagenet:... | coco:... | last; docs/pretrained.md",
    )
    init_parts: tuple[str, ...] = setting(
        PARTS, "what of these weights is taken; the others are initialised", choices=ALL_PARTS
    )
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)

    def validate(self) -> None:
        """Checks every value, and those that have to go together.

        Raises:
            ValueError: naming the key as the command line takes it, its value and what is expected.
        """
        check_fields(self, "config")
        self.data.validate()
        self.model.validate()
        self.train.validate()
        self.eval.validate()
        self.mesh.validate()
        if not self.init_parts:
            raise ValueError(f"config.init_parts is empty; give some of {', '.join(ALL_PARTS)}")
        _check_pixels(self)
        check_detector(self.model, self.data)
        _check_batches(self)
        _check_boxes_alone(self)
        _check_keypoints(self)
        if self.train.best_metric.startswith("loss_") and not self.eval.loss:
            raise ValueError(
                f"config.train.best_metric is {self.train.best_metric!r}, which is measured "
                "only with config.eval.loss=True; set it, too"
            )


def get_config() -> Config:
    """Returns the default configuration."""
    return Config()


def _check_batches(config: Config) -> None:
    """Checks that a batch of images and masks is not larger than any run's memory."""
    data = config.data
    pixels = max(height * width for height, width in data.buckets) * data.channels * data.depth // 8
    image = pixels + data.max_instances * data.mask_size**2
    for part in ("train", "eval"):
        size = getattr(config, part).batch_size * image
        if size > _BATCH_BYTES:
            keys = f"{part}.batch_size data.buckets data.max_instances data.mask_size"
            raise ValueError(
                f"{named(keys, {'data': data, part: getattr(config, part)})} ask for batches of "
                f"{size / 2**40:,.1f} TiB: lower them"
            )


def _check_boxes_alone(config: Config) -> None:
    """Checks that nothing is asked of the masks of a model that has none."""
    if config.model.masks:
        return
    asked = {
        "config.train.best_metric": (config.train.best_metric,),
        "config.eval.metrics": config.eval.metrics,
    }
    for key, names in asked.items():
        of_masks = ("segm/", "lvis/segm", "boundary", "matterport")
        if found := [name for name in names if name.startswith(of_masks)]:
            raise ValueError(
                f"{key} is of masks ({found[0]}), and with config.model.masks = False there are "
                "boxes alone; set config.train.best_metric to bbox/AP, and leave matterport and "
                "boundary out of config.eval.metrics"
            )
    if config.data.augment.copy_paste or config.data.boxes == "masks":
        raise ValueError(
            "config.data.augment.copy_paste and config.data.boxes = 'masks' need masks, and "
            "config.model.masks is False; leave both as they are by default"
        )


def _check_keypoints(config: Config) -> None:
    """Checks that mirrored persons do not learn their left for their right."""
    keypoints, augment = config.model.keypoints, config.data.augment
    mirrored = [n for n in ("flip", "vertical_flip") if getattr(augment, n)]
    sided = [name for name in keypoints.names if re.search("left|right", name, re.IGNORECASE)]
    if mirrored and sided and not keypoints.flip_pairs:
        raise ValueError(
            f"config.data.augment.{mirrored[0]} is {getattr(augment, mirrored[0])}, and in a "
            f"mirrored image {sided[0]!r} is another keypoint: give the pairs that change places, "
            "config.model.keypoints.flip_pairs = (('left_eye', 'right_eye'), ...)"
        )
    if config.train.best_metric.startswith("keypoints/") and not keypoints.names:
        raise ValueError(
            f"config.train.best_metric is {config.train.best_metric!r}, but the model has no "
            "keypoints: config.model.keypoints.names is empty"
        )


def _check_pixels(config: Config) -> None:
    """Checks that the model takes the images that the data section asks for."""
    channels, depth = config.data.channels, config.data.depth
    pixel = config.model.pixel
    if len(pixel.mean) != channels:
        raise ValueError(
            f"config.model.pixel.mean and std have {len(pixel.mean)} values; config.data.channels "
            f"= {channels} needs {channels} of each: `python -m maskrcnn_jax.data stats`, with the "
            "recipe and the keys of this command, measures them"
        )
    if max(pixel.mean) > 2**depth - 1:
        raise ValueError(
            f"config.model.pixel.mean is {pixel.mean}, but with config.data.depth = {depth} no "
            f"value of an image is above {2**depth - 1}: set config.data.depth to 16, or measure "
            "mean and std with `python -m maskrcnn_jax.data stats`"
        )
    if pixel.order != "rgb" and channels != 3:
        raise ValueError(
            f"config.model.pixel.order is {pixel.order!r}, of images with 3 channels; "
            f"config.data.channels is {channels}: set it to 'rgb', which leaves channels in their "
            "order"
        )


if __name__ == "__main__":
    from maskrcnn_jax.cli.show_config import main

    sys.exit(main())
