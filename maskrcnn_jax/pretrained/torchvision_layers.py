"""Python for a Mask R-CNN of torchvision's own classes that no builder of its makes.

torchvision 0.28 builds ResNet-50 of the usual width alone. Its `MaskRCNN` takes any backbone and
heads: other depths, widths, numbers of convolutions and norms.
"""

from collections.abc import Mapping
from typing import Any

from maskrcnn_jax.models.backbones.resnet import BLOCKS
from maskrcnn_jax.models.config import ModelConfig

_IMPORTS = """\
import math

import torch
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import (
    FastRCNNConvFCHead,
    FastRCNNPredictor,
    TwoMLPHead,
)
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
"""

_MASK_HEADS = """\
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
"""

_KEYPOINT_HEADS = """\
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
"""

_GROUP_NORM = """

def group_norm(channels):
    return torch.nn.GroupNorm(math.gcd(32, channels), channels)
"""

# torchvision fixes the stem's channels, on which those of all stages depend, at 64.
_RESNET_OF_WIDTH = """

class ResNetOfWidth(ResNet):
    def _make_layer(self, block, planes, *args, **kwargs):
        if planes == 64:
            self.inplanes = {width}
            self.conv1 = torch.nn.Conv2d(3, {width}, 7, stride=2, padding=3, bias=False)
            self.bn1 = self._norm_layer({width})
        return super()._make_layer(block, planes * {width} // 64, *args, **kwargs)
"""

_NORM_LAYERS = {
    "none": "None",
    "bn": "torch.nn.BatchNorm2d",
    "frozen_bn": "torch.nn.BatchNorm2d",  # which is frozen in evaluation
    "gn": "group_norm",
}


def mask_rcnn_lines(model: ModelConfig, num_classes: int, arguments: Mapping[str, Any]) -> str:
    """Returns the lines of Python that make `model` of torchvision's classes.

    Args:
        model: `config.model`.
        num_classes: K, foreground classes.
        arguments: further ones of torchvision's `MaskRCNN`.
    """
    width, channels = model.backbone.width, model.fpn.channels
    names = ("backbone", "fpn", "mask_head") if model.masks else ("backbone", "fpn")
    norms = {name: getattr(model, name).norm for name in names}
    norms["box_head"] = model.box_head.norm if model.box_head.convs else "none"
    norm = {name: _NORM_LAYERS[kind] for name, kind in norms.items()}
    deep = model.backbone.depth >= 50
    text = _IMPORTS
    if not model.masks:
        text = text.replace("import MaskRCNN\n", f"import {_kind(model)}\n")
        text = text.replace(_MASK_HEADS, _KEYPOINT_HEADS if model.keypoints.names else "")
    text += _GROUP_NORM if "gn" in norms.values() else ""
    text += _RESNET_OF_WIDTH.format(width=width) if width != 64 else ""
    if text != _IMPORTS:
        text += "\n"
    mask, dense = model.mask_head, model.box_head.dense_channels
    parts = {
        "rpn_head": f"RPNHead({channels}, {len(model.anchors.aspect_ratios)}, {model.rpn.convs})",
        "box_head": _box_head(model, norm["box_head"]),
        "box_predictor": f"FastRCNNPredictor({dense}, {num_classes + 1})",
    }
    if points := model.keypoints.names:
        head = model.keypoints
        parts["keypoint_head"] = f"KeypointRCNNHeads({channels}, {[head.channels] * head.convs})"
        parts["keypoint_predictor"] = f"KeypointRCNNPredictor({head.channels}, {len(points)})"
    if model.masks:
        widths, classes = [mask.channels] * mask.convs, num_classes + 1
        parts["mask_head"] = f"MaskRCNNHeads({channels}, {widths}, 1, {norm['mask_head']})"
        parts["mask_predictor"] = f"MaskRCNNPredictor({mask.channels}, {mask.channels}, {classes})"
    parts |= {name: repr(value) for name, value in arguments.items()}
    kind = _kind(model)
    stages = [width * 2**i * (4 if deep else 1) for i in range(4)]
    lines = [
        f"body = {'ResNet' if width == 64 else 'ResNetOfWidth'}(",
        f"    {'Bottleneck' if deep else 'BasicBlock'}, {list(BLOCKS[model.backbone.depth])}, "
        f"{_groups(model)}norm_layer={norm['backbone']}",
        ")",
        "backbone = BackboneWithFPN(",
        '    body, {"layer1": "0", "layer2": "1", "layer3": "2", "layer4": "3"},',
        f"    {stages}, {channels}, LastLevelMaxPool(), {norm['fpn']},",
        ")",
        f"model = {kind}(",
        "    backbone,",
        *(f"    {name}={value}," for name, value in parts.items()),
        ")",
    ]
    return text + "\n" + "\n".join(lines)


def _groups(model: ModelConfig) -> str:
    number, width = model.backbone.groups, model.backbone.width_per_group
    return "" if (number, width) == (1, 64) else f"groups={number}, width_per_group={width}, "


def _kind(model: ModelConfig) -> str:
    if model.masks:
        return "MaskRCNN"
    return "KeypointRCNN" if model.keypoints.names else "FasterRCNN"


def _box_head(model: ModelConfig, norm: str) -> str:
    head, channels = model.box_head, model.fpn.channels
    if not head.convs:
        return f"TwoMLPHead({channels} * {head.pool_size} ** 2, {head.dense_channels})"
    shape = (channels, head.pool_size, head.pool_size)
    convs = [head.conv_channels] * head.convs
    return f"FastRCNNConvFCHead({shape}, {convs}, [{head.dense_channels}], {norm})"
