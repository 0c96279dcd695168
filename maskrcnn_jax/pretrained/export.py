"""Our detectors as torchvision's: a state dict, and the lines that build the model it belongs to.

torchvision 0.28 has two builders, `maskrcnn_resnet50_fpn` (v1) and `maskrcnn_resnet50_fpn_v2`, for
boxes alone `fasterrcnn_...`, and for keypoints one, `keypointrcnn_resnet50_fpn`; what has other
layers is put together of its classes. Much of a model can be set on what they give, so that it
detects as ours does; what cannot is refused.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from maskrcnn_jax.config_json import copied, differences, set_values
from maskrcnn_jax.images.config import ImageConfig
from maskrcnn_jax.images.pixels import pixel_format
from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.pretrained.tables import torchvision
from maskrcnn_jax.pretrained.torchvision_layers import mask_rcnn_lines

# After mask, faster or keypoint, of which there is no v2.
_BUILDERS = {"v1": "rcnn_resnet50_fpn", "v2": "rcnn_resnet50_fpn_v2"}

# Keys of config.model, and the builders' arguments that mean the same.
_ARGUMENTS = {
    "rpn.pre_nms_top_n_train": "rpn_pre_nms_top_n_train",
    "rpn.pre_nms_top_n_eval": "rpn_pre_nms_top_n_test",
    "rpn.post_nms_top_n_train": "rpn_post_nms_top_n_train",
    "rpn.post_nms_top_n_eval": "rpn_post_nms_top_n_test",
    "rpn.nms_threshold": "rpn_nms_thresh",
    "rpn.positive_iou": "rpn_fg_iou_thresh",
    "rpn.negative_iou": "rpn_bg_iou_thresh",
    "rpn.samples_per_image": "rpn_batch_size_per_image",
    "rpn.positive_fraction": "rpn_positive_fraction",
    "roi.positive_iou": "box_fg_iou_thresh",
    "roi.negative_iou": "box_bg_iou_thresh",
    "roi.samples_per_image": "box_batch_size_per_image",
    "roi.positive_fraction": "box_positive_fraction",
    "box_head.coder_weights": "bbox_reg_weights",
    "detections.score_threshold": "box_score_thresh",
    "detections.nms_threshold": "box_nms_thresh",
    "detections.max_per_image": "box_detections_per_img",
}
# Keys of layers that its builders do not make, but its classes do.
_LAYERS = (
    "backbone.depth",
    "backbone.width",
    "backbone.norm",
    "backbone.groups",
    "backbone.width_per_group",
    "fpn.channels",
    "fpn.norm",
    "rpn.convs",
    "box_head.convs",
    "box_head.conv_channels",
    "box_head.dense_channels",
    "box_head.norm",
    "mask_head.convs",
    "mask_head.channels",
    "mask_head.norm",
    "keypoints.convs",
    "keypoints.channels",
    # The pools are set apart; the layers behind them have other sizes.
    "box_head.pool_size",
    "mask_head.pool_size",
    "keypoints.pool_size",
)
# Keys that are set in other ways, below.
_SET = (
    "pixel.mean",
    "pixel.std",
    "anchors.sizes",
    "anchors.aspect_ratios",
    "roi.sampling_ratio",
    "roi.canonical_level",
    "roi.canonical_size",
    "backbone.norm_eps",
    "fpn.norm_eps",
    "box_head.norm_eps",
    "mask_head.norm_eps",
)
# Keys that change nothing in what a trained model detects, or only the rounding of it.
_OF_NO_MATTER = (
    "dtype",
    "rpn.box_loss",
    "rpn.box_loss_weight",
    "rpn.box_loss_beta",
    "roi.crowd_overlap",
    "box_head.federated_classes",
    "box_head.federated_power",
    "box_head.class_image_counts",
    "box_head.box_loss",
    "box_head.box_loss_weight",
    "box_head.box_loss_beta",
    "keypoints.loss_weight",
    "keypoints.loss_normalizer",
    # Names are not torchvision's; its positions are ours, whatever they are measured from.
    "keypoints.names",
    "keypoints.flip_pairs",
    "keypoints.skeleton",
    "keypoints.sigmas",
    "keypoints.half_pixel",
    "detections.mask_paste",  # torchvision has its own way; see `builder`
)
# The modules of torchvision's model that have the norms of ours.
_NORMS = {
    "backbone": "model.backbone.body",
    "fpn": "model.backbone.fpn",
    "box_head": "model.roi_heads.box_head",
    "mask_head": "model.roi_heads.mask_head",
}


def torchvision_state(variables: Mapping[str, Any], model: ModelConfig) -> dict[str, np.ndarray]:
    """Returns the state dict that torchvision's model loads strictly.

    Args:
        variables: {"params": ..., "batch_stats": ...}.
        model: `config.model`.

    Returns:
        name -> array; but for v1 with the counters of batch norm, at 0, which it never reads.

    Raises:
        ValueError: torchvision has no such model; all keys that stand in the way are listed.
    """
    kind = _kind(model)
    state = torchvision.export_state(variables, model)
    if kind == "v1":
        return state
    with_counters = {}
    for name, array in state.items():
        with_counters[name] = array
        if name.endswith(".running_var"):
            counter = name.replace("running_var", "num_batches_tracked")
            with_counters[counter] = np.zeros((), np.int64)
    return with_counters


def builder(model: ModelConfig, images: ImageConfig, num_classes: int) -> str:
    """Returns the lines of Python that make `model` in torchvision, for that state dict.

    Args:
        model: `config.model`.
        images: those keys of `config.data`.
        num_classes: K, foreground classes.

    Raises:
        ValueError: as `torchvision_state`.
    """
    kind = _kind(model)
    changes = {key: ours for key, _, ours in _changes(model)}
    arguments = _sizes(images) | _pixel(model, images, changes)
    arguments |= {_ARGUMENTS[key]: value for key, value in changes.items() if key in _ARGUMENTS}
    if kind in _BUILDERS:
        points = len(model.keypoints.names)
        name = ("keypoint" if points else "mask" if model.masks else "faster") + _BUILDERS[kind]
        arguments |= {"num_keypoints": points} if points else {}
        lines = _builder_lines(name, num_classes, arguments)
    else:
        lines = [mask_rcnn_lines(model, num_classes, arguments)]
    lines += _anchors(model, changes) + _roi_pools(model, changes)
    lines += _epsilons(model)
    return "\n".join(lines)


def _builder_lines(name: str, num_classes: int, changes: Mapping[str, Any]) -> list[str]:
    arguments: dict[str, Any] = {"weights": None, "weights_backbone": None}
    arguments |= {"num_classes": num_classes + 1, **changes}
    return [
        "import torch",
        f"from torchvision.models.detection import {name}",
        "",
        f"model = {name}(",
        *(f"    {argument}={value!r}," for argument, value in arguments.items()),
        ")",
    ]


def _kind(model: ModelConfig) -> str:
    """Returns "v1" or "v2", the builder that makes the model's layers; "" where none does.

    Raises:
        ValueError: torchvision's classes cannot be such a model.
    """
    allowed = {*_ARGUMENTS, *_LAYERS, *_SET, *_OF_NO_MATTER}
    faults = [
        f"{key} is {ours!r}, there {theirs!r}"
        for key, theirs, ours in _changes(model)
        if key not in allowed
    ]
    faults += [
        f"{section}.norm is 'ln', there batch or group norm"
        for section in _NORMS
        if getattr(model, section).norm == "ln" and (section != "mask_head" or model.masks)
    ]
    if model.masks and model.keypoints.names:
        faults.append("it has masks and keypoints, there one of both")
    if len(model.pixel.mean) != 3:
        faults.append(f"pixel.mean has {len(model.pixel.mean)} channels, there 3")
    if faults:
        raise ValueError(
            "torchvision's detectors cannot be such a model. What differs (keys of config.model): "
            f"{'; '.join(faults)}"
        )
    has_other_layers = {key for key, _, _ in _changes(model)} & set(_LAYERS)
    if has_other_layers or len(model.anchors.aspect_ratios) != 3:
        return ""
    nearest = _nearest(model)
    return "" if nearest == "v2" and model.keypoints.names else nearest


def _nearest(model: ModelConfig) -> str:
    return "v2" if model.box_head.convs else "v1"


def _changes(model: ModelConfig) -> list[tuple[str, Any, Any]]:
    """Returns `(key, theirs, ours)` of what differs from the builder that is nearest."""
    theirs = ModelConfig()
    set_values(theirs, torchvision.MODEL_OVERRIDES[_nearest(model)], "config.model")
    # Built without weights, both generations have batch norm that learns, with this epsilon.
    theirs.backbone.norm, theirs.backbone.norm_eps = "bn", 1e-5
    ours = copied(model)
    for section in _NORMS:  # the same arrays, and the same outputs after training
        if getattr(ours, section).norm == "frozen_bn":
            getattr(ours, section).norm = "bn"
    if ours.rpn.channels == ours.fpn.channels:
        ours.rpn.channels = 0
    if not ours.masks:
        ours.masks, ours.mask_head = theirs.masks, theirs.mask_head
    return differences(theirs, ours)


def _sizes(images: ImageConfig) -> dict[str, Any]:
    short, long = images.short_side, images.long_side
    if images.resize == "square":
        short = long = min(images.buckets[0])
    return {} if (short, long) == (800, 1333) else {"min_size": short, "max_size": long}


def _pixel(model: ModelConfig, images: ImageConfig, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns mean and deviation on the scale from 0 to 1."""
    brightest = np.iinfo(pixel_format(images).dtype).max
    return {
        f"image_{name}": [value / brightest for value in getattr(model.pixel, name)]
        for name in ("mean", "std")
        if f"pixel.{name}" in changes
    }


def _anchors(model: ModelConfig, changes: Mapping[str, Any]) -> list[str]:
    if not {"anchors.sizes", "anchors.aspect_ratios"} & set(changes):
        return []
    sizes = tuple((float(size),) for size in model.anchors.sizes)
    ratios = tuple(map(float, model.anchors.aspect_ratios))
    return [
        "from torchvision.models.detection.anchor_utils import AnchorGenerator",
        f"model.rpn.anchor_generator = AnchorGenerator({sizes}, ({ratios},) * {len(sizes)})",
    ]


def _roi_pools(model: ModelConfig, changes: Mapping[str, Any]) -> list[str]:
    keys = ("sampling_ratio", "canonical_level", "canonical_size")
    heads: dict[str, Any] = {"box": model.box_head}
    heads |= {"mask": model.mask_head} if model.masks else {}
    heads |= {"keypoint": model.keypoints} if model.keypoints.names else {}
    sizes = {"box_head.pool_size", "mask_head.pool_size", "keypoints.pool_size"}
    if not ({f"roi.{key}" for key in keys} | sizes) & set(changes):
        return []
    ratio, level, size = (getattr(model.roi, key) for key in keys)
    lines = ["from torchvision.ops import MultiScaleRoIAlign"]
    for head, section in heads.items():
        lines.append(
            f'model.roi_heads.{head}_roi_pool = MultiScaleRoIAlign(["0", "1", "2", "3"], '
            f"{section.pool_size}, {ratio}, canonical_scale={size!r}, canonical_level={level!r})"
        )
    return lines


def _epsilons(model: ModelConfig) -> list[str]:
    lines = []
    for section, module in _NORMS.items():
        if section == "mask_head" and not model.masks:
            continue
        norm, epsilon = getattr(model, section).norm, getattr(model, section).norm_eps
        if norm != "none" and epsilon != 1e-5:
            kind = "GroupNorm" if norm == "gn" else "BatchNorm2d"
            lines += [
                f"for module in {module}.modules():",
                f"    if isinstance(module, torch.nn.{kind}):",
                f"        module.eps = {epsilon!r}",
            ]
    return lines
