"""Whether a configuration asks for arrays that no memory can hold, told before they are made."""

import math
import os
from collections.abc import Mapping

from maskrcnn_jax.images.config import ImageConfig
from maskrcnn_jax.models.backbones.config import BackboneConfig
from maskrcnn_jax.models.config import ModelConfig

_FLOAT_BYTES = 4


def check_detector(model: ModelConfig, images: ImageConfig, num_classes: int = 1) -> None:
    """Checks that each array of the detector, for one image, fits into this machine's memory.

    They are the largest features, pooled regions and kernels; what a run needs is several times
    that.

    Args:
        model: `config.model`, whose values are each within their interval.
        images: the keys of `config.data` likewise.
        num_classes: K.

    Raises:
        ValueError: naming the keys whose values ask for too much.
    """
    there = machine_bytes()
    for keys, size in _arrays(model, images, num_classes).items():
        if size * _FLOAT_BYTES > there:
            raise ValueError(
                f"{named(keys, {'data': images, 'model': model})} ask for an array of "
                f"{size * _FLOAT_BYTES / 2**30:,.0f} GiB, this machine has "
                f"{there / 2**30:,.0f} GiB: lower them"
            )


def machine_bytes() -> int:
    """Returns the bytes of this machine's memory; 1 TiB where it cannot be asked."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return 2**40


def _arrays(model: ModelConfig, images: ImageConfig, num_classes: int) -> dict[str, int]:
    """Returns how many numbers the largest arrays have, by the keys that say so."""
    pixels = max(height * width for height, width in images.buckets)
    rpn, box, mask, head = model.rpn, model.box_head, model.mask_head, model.keypoints
    features = model.fpn.channels
    pooled = box.pool_size**2
    regions = {
        "model.rpn.post_nms_top_n_train": rpn.post_nms_top_n_train,
        "model.rpn.post_nms_top_n_eval": rpn.post_nms_top_n_eval,
        "model.roi.samples_per_image": model.roi.samples_per_image,
    }
    found = {
        "data.buckets data.channels": pixels * images.channels,
        **_of_backbone(model.backbone, pixels),
        "data.buckets model.fpn.channels": pixels // 16 * features,
        "data.buckets model.rpn.channels": pixels // 16 * rpn.channels,
        "model.fpn.channels": 9 * features**2,
        "model.rpn.channels": 9 * rpn.channels**2,
        "model.box_head.conv_channels": 9 * box.conv_channels**2,
        "model.mask_head.channels": 9 * mask.channels**2,
        "model.keypoints.channels": 9 * head.channels**2,
        "model.box_head.dense_channels": box.dense_channels * max(box.dense_channels, num_classes),
        "model.box_head.pool_size model.fpn.channels model.box_head.dense_channels": (
            pooled * features * box.dense_channels
        ),
        "model.detections.max_per_image model.mask_head.pool_size model.mask_head.channels": (
            model.detections.max_per_image
            * (2 * mask.pool_size) ** 2
            * max(mask.channels, num_classes)
        ),
        "model.detections.max_per_image model.keypoints.pool_size model.keypoints.channels": (
            len(head.names)
            and model.detections.max_per_image
            * head.pool_size**2
            * max(head.channels, 16 * len(head.names))
        ),
    }
    # Imported here: most detectors have neither.
    if model.point_rend.enabled:
        from maskrcnn_jax.models.point_rend import checks as point_rend

        found |= point_rend.array_sizes(model, num_classes)
    if model.mask_scoring.enabled:
        from maskrcnn_jax.models.mask_scoring import checks as mask_scoring

        found |= mask_scoring.array_sizes(model, num_classes)
    for key, number in regions.items():
        found[key] = number * num_classes
        found[f"{key} model.box_head.pool_size model.fpn.channels"] = number * pooled * features
    return found


def _of_backbone(backbone: BackboneConfig, pixels: int) -> dict[str, int]:
    """Returns the same for the backbone alone, of its kind."""
    if backbone.kind == "convnext":
        channels = backbone.convnext.channels
        return {
            "data.buckets model.backbone.convnext.channels": pixels // 16 * 4 * channels[0],
            "model.backbone.convnext.channels": 4 * max(channels) ** 2,
        }
    if backbone.kind == "vit":
        vit, patches = backbone.vit, pixels // 256
        seen = patches if vit.global_blocks else vit.window**2
        grid = max(vit.position_grid**2, 2 * vit.relative_grid)
        return {
            "data.buckets model.backbone.vit.heads": vit.heads * patches * seen,
            "data.buckets model.backbone.vit.channels": patches * 4 * vit.channels,
            "model.backbone.vit.channels": 4 * vit.channels**2,
            "model.backbone.vit.position_grid model.backbone.vit.relative_grid": (
                grid * vit.channels
            ),
        }
    width, of_group = backbone.width, backbone.width_per_group
    inner = 8 * width * of_group // 64
    return {
        "data.buckets model.backbone.width": pixels // 4 * width,
        "model.backbone.width": 9 * (8 * width) ** 2,
        "model.backbone.width model.backbone.groups model.backbone.width_per_group": (
            9 * inner**2 * backbone.groups
        ),
    }


def named(keys: str, sections: Mapping[str, object]) -> str:
    """Returns keys with their values in words.

    Args:
        keys: without `config.`, with spaces between them.
        sections: of the configuration, by name.
    """
    words = []
    for key in keys.split():
        name, *path = key.split(".")
        value: object = sections[name]
        for part in path:
            value = getattr(value, part)
        if key.endswith("buckets"):
            assert isinstance(value, tuple)
            value = max(value, key=math.prod)
        words.append(f"config.{key} = {value}")
    return " and ".join(words)
