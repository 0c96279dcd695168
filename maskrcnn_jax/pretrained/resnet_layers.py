"""How deep a ResNet is and how its channels are grouped, read from its weights."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from maskrcnn_jax.models.backbones.resnet import BLOCKS
from maskrcnn_jax.pretrained.tables.detectron2 import PIXEL_STD_OF_RESNEXT


def depth_by_blocks(state: Mapping[str, np.ndarray], pattern: str) -> int:
    """Returns the ResNet's depth from the names of its blocks.

    Args:
        state: name -> array.
        pattern: of the names of all residual convolutions; its first group is the stage and the
            second the block, counted from anything.

    Raises:
        ValueError: where no ResNet has these numbers of blocks.
    """
    blocks: dict[str, set[str]] = {}
    convs = 0
    for name in state:
        if match := re.match(pattern, name):
            blocks.setdefault(match[1], set()).add(match[2])
            convs += 1
    counts = tuple(len(blocks[stage]) for stage in sorted(blocks))
    # 34 and 50 layers have as many blocks; a bottleneck has three convolutions, a basic block two.
    found = [d for d, number in BLOCKS.items() if number == counts]
    found = [d for d in found if (d >= 50) == (convs >= 3 * sum(counts))]
    if not counts:
        raise ValueError(
            "it has no residual blocks under the names that such weights have; is its backbone a "
            "ResNet?"
        )
    if not found:
        raise ValueError(
            f"it has a residual network with {counts} blocks in its stages; known are "
            f"{', '.join(f'ResNet-{d} {blocks}' for d, blocks in BLOCKS.items())}"
        )
    return found[0]


def of_torchvision(state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns the keys of `config.model` about the layers of torchvision's ResNets."""
    depth = depth_by_blocks(state, r"(?:backbone\.body\.)?layer(\d)\.(\d+)\.conv\d\.weight")
    prefix = "" if "conv1.weight" in state else "backbone.body."
    found = groups(state, f"{prefix}conv1.weight", f"{prefix}layer1.0.conv2.weight")
    return {"backbone.depth": depth, **(found if depth >= 50 else {})}


def of_detectron2(state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns the same of Detectron2's.

    Its ResNeXts have a dialect of their own: the stride in the 3x3, and pixels that are scaled.
    """
    # Its names, and the older ones of Caffe2 that MSRA's backbones bear.
    conv = r"(?:conv\d\.weight|branch2[abc]_w)"
    depth = depth_by_blocks(state, rf"(?:backbone\.bottom_up\.)?res(\d)[._](\d+)[._]{conv}")
    prefix = "" if "stem.conv1.weight" in state else "backbone.bottom_up."
    found = groups(state, f"{prefix}stem.conv1.weight", f"{prefix}res2.0.conv2.weight")
    if found.get("backbone.groups", 1) > 1:
        found |= {"backbone.stride_in_1x1": False, "pixel.std": PIXEL_STD_OF_RESNEXT}
    return {"backbone.depth": depth, **(found if depth >= 50 else {})}


def groups(state: Mapping[str, np.ndarray], stem: str, conv: str) -> dict[str, Any]:
    """Returns the keys of `config.model` that say how a ResNeXt's or a wide ResNet's channels lie.

    Args:
        state: name -> array.
        stem: name of the kernel of the stem, (out, in, row, column) as PyTorch has it.
        conv: name of the kernel of the first 3x3 convolution of a bottleneck.

    Returns:
        None of a plain ResNet, or where the arrays are missing or of no such shapes, which the
        mapping then reports.
    """
    shapes = [np.shape(state.get(name, ())) for name in (stem, conv)]
    if not all(len(shape) == 4 for shape in shapes):
        return {}
    width, (inner, inputs) = shapes[0][0], shapes[1][:2]
    number = max(inner // max(inputs, 1), 1)
    per_group = 64 * inner // (max(width, 1) * number)
    if (number, per_group) == (1, 64):
        return {}
    return {"backbone.groups": number, "backbone.width_per_group": per_group}
