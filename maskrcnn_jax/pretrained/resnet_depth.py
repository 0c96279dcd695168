"""How deep a ResNet is, read from the names of its weights."""

import re
from collections.abc import Mapping

import numpy as np

from maskrcnn_jax.models.backbones.resnet import BLOCKS


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
