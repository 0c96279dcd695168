"""ViTs as our backbone, and back: Detectron2's ViTDet with its pyramid, and MAE's encoder.

timm, MAE (He et al. 2022, "Masked Autoencoders Are Scalable Vision Learners") and Detectron2 have
the same names. The position of the class token is left behind, as nobody reads it; back it is 0.
"""

import re
from collections.abc import Iterator, Mapping
from math import isqrt
from typing import Any

import numpy as np

from maskrcnn_jax.models.backbones.vit import PATCH
from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.pretrained.tables.mapping import (
    CONV,
    DENSE,
    SAME,
    UPSAMPLE,
    Entry,
    Layout,
    layer,
    norm,
)

# The class token with the last norm and the classifier, and what MAE's decoder has.
IGNORED = (r"cls_token", r"mask_token", r"(norm|fc_norm|head)\..*", r"decoder_.*")

# Channels of the heads: those of ViT-H are the wider.
_OF_HEAD = {1280: 80}
_USUAL_OF_HEAD = 64


def encoder_table(config: ModelConfig) -> list[Entry]:
    """Returns every array of the backbone, beside those of MAE's encoder.

    It has no relative positions, which begin as zeros.
    """
    return list(backbone_entries(config, "", has_relative=False))


def backbone_entries(config: ModelConfig, prefix: str, has_relative: bool) -> Iterator[Entry]:
    """Yields every array of the backbone.

    Args:
        config: `config.model`.
        prefix: of the names.
        has_relative: whether there are relative positions.
    """
    vit = config.backbone.vit
    stem = ("backbone", "stem")
    yield from layer((*stem, "patches"), f"{prefix}patch_embed.proj", CONV)
    yield Entry(("params", *stem, "positions"), (f"{prefix}pos_embed",), _POSITIONS)
    for i in range(vit.depth):
        ours, theirs = ("backbone", f"block_{i}"), f"{prefix}blocks.{i}"
        attention = (*ours, "attention")
        yield from norm((*ours, "norm_attention"), f"{theirs}.norm1", "ln")
        yield from layer((*attention, "qkv"), f"{theirs}.attn.qkv", DENSE)
        yield from layer((*attention, "project"), f"{theirs}.attn.proj", DENSE)
        side = vit.relative_grid if i in vit.global_blocks else vit.window
        for axis, letter in (("rows", "h"), ("columns", "w")):
            path = ("params", *attention, f"relative_{axis}")
            if has_relative:
                yield Entry(path, (f"{theirs}.attn.rel_pos_{letter}",), SAME)
            else:
                yield Entry(path, (), _new((2 * side - 1, vit.channels // vit.heads)))
        yield from norm((*ours, "norm_dense"), f"{theirs}.norm2", "ln")
        yield from layer((*ours, "expand"), f"{theirs}.mlp.fc1", DENSE)
        yield from layer((*ours, "project"), f"{theirs}.mlp.fc2", DENSE)


def pyramid_entries(config: ModelConfig) -> Iterator[Entry]:
    """Yields every array of the pyramid, beside those of Detectron2's `SimpleFeaturePyramid`.

    It numbers the layers of each level, GELU and pooling too.
    """
    kind = config.fpn.norm
    yield from layer(("fpn", "upsample_half"), "backbone.simfp_2.0", UPSAMPLE)
    if kind != "none":
        yield from norm(("fpn", "norm_layer"), "backbone.simfp_2.1", kind)
    yield from layer(("fpn", "upsample_p2"), "backbone.simfp_2.3", UPSAMPLE)
    yield from layer(("fpn", "upsample_p3"), "backbone.simfp_3.0", UPSAMPLE)
    for level, first in ((2, 4), (3, 1), (4, 0), (5, 1)):
        for i, ours in enumerate((f"reduce_p{level}", f"output_p{level}")):
            theirs = f"backbone.simfp_{level}.{first + i}"
            bias = SAME if kind == "none" else None
            yield from layer(("fpn", ours, "conv"), theirs, CONV, bias)
            if kind != "none":
                yield from norm(("fpn", ours, "norm_layer"), f"{theirs}.norm", kind)


def encoder_layers(state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns the keys of `config.model` about the layers of MAE's encoder.

    The last block of each quarter attends to the whole image, as in ViTDet.
    """
    found = _layers(state, "")
    channels, depth = (found[f"backbone.vit.{key}"] for key in ("channels", "depth"))
    heads = max(channels // _OF_HEAD.get(channels, _USUAL_OF_HEAD), 1)
    last = tuple(i * depth // 4 - 1 for i in range(1, 5))
    return {**found, "backbone.vit.heads": heads, "backbone.vit.global_blocks": last}


def detectron2_layers(state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns the same of Detectron2's ViT.

    Blocks without windows have more relative positions than the others.
    """
    prefix = "backbone.net."
    found = _layers(state, prefix)
    pattern = rf"{re.escape(prefix)}blocks\.(\d+)\.attn\.rel_pos_h"
    shapes = {int(m[1]): np.shape(x) for n, x in state.items() if (m := re.fullmatch(pattern, n))}
    sides = {i: (shape[0] + 1) // 2 for i, shape in shapes.items()}
    window, grid = min(sides.values()), max(sides.values())
    here = {
        "heads": max(found["backbone.vit.channels"] // shapes[min(shapes)][1], 1),
        "window": window,
        "relative_grid": grid,
        "global_blocks": tuple(i for i in sorted(sides) if sides[i] != window),
    }
    return found | {f"backbone.vit.{key}": value for key, value in here.items()}


def _layers(state: Mapping[str, np.ndarray], prefix: str) -> dict[str, Any]:
    """Returns the keys that both kinds tell in the same way.

    Raises:
        ValueError: the patches have another size than ours.
    """
    kernel = np.shape(state[f"{prefix}patch_embed.proj.weight"])
    if kernel[2:] != (PATCH, PATCH):
        raise ValueError(f"it has patches of {kernel[2:]} pixels; expected {PATCH} x {PATCH}")
    pattern = rf"{re.escape(prefix)}blocks\.(\d+)\..*"
    blocks = [int(m[1]) for name in state if (m := re.fullmatch(pattern, name))]
    return {
        "backbone.vit.depth": max(blocks) + 1,
        "backbone.vit.channels": kernel[0],
        "backbone.vit.position_grid": isqrt(np.shape(state[f"{prefix}pos_embed"])[1] - 1),
    }


def _positions_of_patches(x: np.ndarray) -> np.ndarray:
    side = isqrt(x.shape[1] - 1)
    return x[0, 1:].reshape(side, side, -1)


def _positions_of_tokens(x: np.ndarray) -> np.ndarray:
    flat = x.reshape(1, -1, x.shape[-1])
    return np.concatenate([np.zeros_like(flat[:, :1]), flat], axis=1)


# (1, class token and patches, C) <-> (row, column, C)
_POSITIONS = Layout(_positions_of_patches, _positions_of_tokens)


def _new(shape: tuple[int, ...]) -> Layout:
    """Zeros, made of no array, and back to none."""
    return Layout(lambda: np.zeros(shape), lambda _: ())
