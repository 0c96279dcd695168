"""What a run costs at least on a CPU, known before anything is compiled."""

import os
from typing import TYPE_CHECKING

from maskrcnn_jax.console import amount
from maskrcnn_jax.models.backbones.config import BackboneConfig, ViTConfig
from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.models.point_rend.config import PointRendConfig

if TYPE_CHECKING:
    from maskrcnn_jax.config import Config

# Multiplications of a plain ResNet of width 64 for each pixel of the image: the published 1.8 to
# 11.5 billion for 224 x 224 (He et al. 2016, table 1; torchvision's strides add a tenth).
_BACKBONE = {18: 36_000, 34: 72_000, 50: 82_000, 101: 156_000, 152: 230_000}
_OF_TRAINING = 3  # a forward pass, and a backward pass of twice its operations
_CORE_FLOPS = 5e10  # a second, in float32: what a core of today's servers gives in large products
_HOPELESS_DAYS = 2.0


def step_flops(config: "Config") -> float:
    """Returns about how many floating-point operations a training step has, on all devices.

    Only convolutions and dense layers count, so it is rather too few.

    Args:
        config: the whole configuration.
    """
    model = config.model
    pixels = max(height * width for height, width in config.data.buckets)
    per_pixel = _of_backbone(model.backbone, pixels)
    channels = model.fpn.channels
    rpn = model.rpn.convs * 9 * channels * (model.rpn.channels or channels)
    per_pixel += (9 * channels**2 + rpn) * 4 / 3 / 16  # on P2 to P6
    image = pixels * per_pixel + _of_regions(model)
    return 2 * _OF_TRAINING * config.train.batch_size * image


def _of_backbone(backbone: BackboneConfig, pixels: int) -> float:
    """Returns the multiplications for each pixel of an image of so many."""
    if backbone.kind == "vit":
        return _of_vit(backbone.vit, pixels)
    if backbone.kind == "convnext":
        stages = zip(backbone.convnext.blocks, backbone.convnext.channels, strict=True)
        return sum(
            number * (49 * width + 8 * width**2) / (4 * 2**i) ** 2
            for i, (number, width) in enumerate(stages)
        )
    # A bottleneck of inner width q w has 8 q w^2 of 1x1 and 9 (q w)^2 / groups of 3x3, q mostly 1.
    wider = backbone.width_per_group * backbone.groups / 64
    ratio = (8 * wider + 9 * wider**2 / backbone.groups) / 17
    return _BACKBONE[backbone.depth] * (backbone.width / 64) ** 2 * ratio


def _of_vit(vit: ViTConfig, pixels: int) -> float:
    """Returns the same of a ViT and the up-samplings of its pyramid, on patches of 256 pixels."""
    seen = (vit.depth - len(vit.global_blocks)) * vit.window**2
    seen += len(vit.global_blocks) * pixels // 256
    return (12 * vit.depth + 6) * vit.channels**2 / 256 + 2 * seen * vit.channels / 256


def _of_regions(model: ModelConfig) -> float:
    """Returns the multiplications of all heads for an image."""
    box, mask, sampled = model.box_head, model.mask_head, model.roi.samples_per_image
    bins, channels = box.pool_size**2, model.fpn.channels
    boxes = box.convs * 9 * bins * box.conv_channels**2
    boxes += bins * (box.conv_channels if box.convs else channels) * box.dense_channels
    masks = model.masks * mask.convs * 9 * mask.pool_size**2 * mask.channels**2
    if model.point_rend.enabled:
        masks = _of_point_rend(model.point_rend, channels)
    if model.mask_scoring.enabled:
        masks += _of_mask_scoring(model)
    boxes *= 1 + len(model.cascade.ious)
    head = model.keypoints
    points = bool(head.names) * head.convs * 9 * head.pool_size**2 * head.channels**2
    return sampled * (boxes + model.roi.positive_fraction * (masks + points))


def _of_mask_scoring(model: ModelConfig) -> int:
    """Returns the multiplications of the MaskIoU head for a RoI."""
    head, bins = model.mask_scoring, model.mask_head.pool_size**2
    convs = 9 * bins * head.channels * (model.fpn.channels + (head.convs - 1) * head.channels)
    dense = bins // 4 * head.channels + (head.dense_layers - 1) * head.dense_channels
    return convs + dense * head.dense_channels


def _of_point_rend(head: PointRendConfig, channels: int) -> int:
    """Returns the multiplications of both heads for a RoI, without those of the classes."""
    bins = head.pool_size**2 // 4
    coarse = bins * (4 * channels**2 + channels * head.dense_channels)
    coarse += (head.dense_layers - 1) * head.dense_channels**2
    layers = channels + (head.point_layers - 1) * head.point_channels
    return coarse + head.train_points * layers * head.point_channels


def hopeless_on_cpu(config: "Config", platform: str, steps: int) -> str:
    """Returns a line where the steps that are left take days on this CPU at least; else "".

    Args:
        config: the whole configuration.
        platform: of the devices, "cpu" say.
        steps: that are left.
    """
    cores, flops = os.cpu_count() or 1, step_flops(config)
    days = steps * flops / (cores * _CORE_FLOPS) / 86_400
    if platform != "cpu" or days < _HOPELESS_DAYS:
        return ""
    return (
        f"WARNING: this run is on a CPU, where its {amount(steps, 'step')} of about "
        f"{flops / 1e12:,.2g} TFLOP take at least {days:,.0f} days with {amount(cores, 'core')}: "
        "use an accelerator, a smaller recipe (docs/own_data.md: FOLDER:small), smaller "
        "config.data.buckets or fewer config.train.steps"
    )
