"""torchvision's Mask, Faster and Keypoint R-CNN weights as our variables, and back.

One table says where each array lives in both and how its axes are laid out. It covers ResNet-FPN
detectors of both generations (`maskrcnn_resnet50_fpn` and `maskrcnn_resnet50_fpn_v2`, and
`fasterrcnn_...` likewise); which layers there are follows from the config, see `MODEL_OVERRIDES`.
"""

import re
from collections.abc import Iterator, Mapping

import numpy as np

from maskrcnn_jax.models.backbones.interface import FEATURES
from maskrcnn_jax.models.backbones.resnet import BLOCKS
from maskrcnn_jax.models.build import abstract_variables, make_model
from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.pretrained.tables.mapping import (
    CLASS_CONV,
    CONV,
    DECONV,
    DENSE,
    SAME,
    UPSAMPLE,
    Entry,
    export_arrays,
    import_arrays,
    layer,
    norm,
    pooled_dense,
)

# What differs from the default `config.model`: `set_values(config.model, ...)`. The
# published v1 weights were trained with a frozen batch norm without epsilon, which is what
# torchvision sets when it loads them.
MODEL_OVERRIDES = {
    "v1": {"backbone.norm": "frozen_bn", "backbone.norm_eps": 0.0},
    "v2": {
        "backbone.norm": "bn",
        "fpn.norm": "bn",
        "rpn.convs": 2,
        "box_head.convs": 4,
        "box_head.norm": "bn",
        "mask_head.norm": "bn",
    },
}


# Counters of batch norm that only matter without momentum.
IGNORED = (r".*\.num_batches_tracked",)

# Names of the published v1 file that torchvision has since changed, and today's.
_OLDER_NAMES = (
    (
        r"backbone\.fpn\.(inner|layer)_blocks\.(\d)\.(weight|bias)",
        r"backbone.fpn.\1_blocks.\2.0.\3",
    ),
    (r"rpn\.head\.conv\.(weight|bias)", r"rpn.head.conv.0.0.\1"),
    (
        r"roi_heads\.mask_head\.mask_fcn(\d)\.(weight|bias)",
        lambda m: f"roi_heads.mask_head.{int(m[1]) - 1}.0.{m[2]}",
    ),
)


def import_state(
    state: Mapping[str, np.ndarray], config: ModelConfig, num_classes: int
) -> dict[str, dict]:
    """Returns our variables with the arrays of a torchvision state dict.

    Args:
        state: name -> array, with today's names or those of the published v1 file.
        config: `config.model`.
        num_classes: K, foreground classes; torchvision counts one more, the background.

    Returns:
        {"params": ..., "batch_stats": ...} of float32 numpy arrays.

    Raises:
        ValueError: where names are missing or unknown, or shapes differ; it lists them.
    """
    expected = abstract_variables(make_model(config, num_classes))
    what = "the torchvision weights, for config.model (MODEL_OVERRIDES has what v1 and v2 need)"
    return import_arrays(
        todays_names(state), table(config), expected, what=what, ignored=IGNORED
    ).variables


def export_state(variables: Mapping[str, Mapping], config: ModelConfig) -> dict:
    """Returns the torchvision state dict (today's names) of our variables, as numpy arrays.

    The counters `num_batches_tracked` are not among them; torch adds them to a plain dict.

    Args:
        variables: {"params": ..., "batch_stats": ...}.
        config: `config.model`.
    """
    return export_arrays(variables, table(config))


def todays_names(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the state dict with the names that torchvision 0.28 gives its arrays."""
    return {_todays_name(name): array for name, array in state.items()}


def table(config: ModelConfig) -> list[Entry]:
    """Returns every array of the model that `config.model` describes, ours beside torchvision's."""
    return [
        *_backbone(config),
        *_fpn(config),
        *_rpn(config),
        *_box_head(config),
        *(_mask_head(config) if config.masks else ()),
        *(_keypoint_head(config) if config.keypoints.names else ()),
    ]


def backbone_table(config: ModelConfig) -> list[Entry]:
    """Returns every array of the backbone alone, beside those of torchvision's classifier."""
    return list(_backbone(config, ""))


def _backbone(config, prefix="backbone.body.") -> Iterator[Entry]:
    depth = config.backbone.depth

    def conv_norm(path, conv_name, norm_name):
        yield from layer((*path, "conv"), f"{prefix}{conv_name}", CONV, bias=None)
        yield from norm((*path, "norm_layer"), f"{prefix}{norm_name}", config.backbone.norm)

    yield from conv_norm(("backbone", "stem"), "conv1", "bn1")
    for i, stage in enumerate(FEATURES):
        for j in range(BLOCKS[depth][i]):
            ours, torch = ("backbone", f"stage_{stage}_{j}"), f"layer{i + 1}.{j}"
            for k in (1, 2, 3) if depth >= 50 else (1, 2):
                yield from conv_norm((*ours, f"conv{k}"), f"{torch}.conv{k}", f"{torch}.bn{k}")
            if j == 0 and (i > 0 or depth >= 50):
                names = (f"{torch}.downsample.0", f"{torch}.downsample.1")
                yield from conv_norm((*ours, "shortcut"), *names)


def _fpn(config) -> Iterator[Entry]:
    for i in range(4):
        for ours, torch in ((f"lateral_c{i + 2}", "inner"), (f"output_p{i + 2}", "layer")):
            name = f"backbone.fpn.{torch}_blocks.{i}"
            yield from _conv_norm(("fpn", ours), name, config.fpn.norm)


def _rpn(config) -> Iterator[Entry]:
    for i in range(config.rpn.convs):
        yield from layer(("rpn", f"conv_{i}"), f"rpn.head.conv.{i}.0", CONV)
    yield from layer(("rpn", "logits"), "rpn.head.cls_logits", CONV)
    yield from layer(("rpn", "deltas"), "rpn.head.bbox_pred", CONV)


def _box_head(config) -> Iterator[Entry]:
    head, convs = config.box_head, config.box_head.convs
    for i in range(convs):
        yield from _conv_norm(("box_head", f"conv_{i}"), f"roi_heads.box_head.{i}", head.norm)
    # torchvision counts the flattening after the convolutions as a layer.
    first = f"roi_heads.box_head.{convs + 1}" if convs else "roi_heads.box_head.fc6"
    yield from layer(("box_head", "dense_0"), first, pooled_dense(head.pool_size))
    if not convs:
        yield from layer(("box_head", "dense_1"), "roi_heads.box_head.fc7", DENSE)
    yield from layer(("box_head", "class_logits"), "roi_heads.box_predictor.cls_score", DENSE)
    yield from layer(("box_head", "box_deltas"), "roi_heads.box_predictor.bbox_pred", DENSE)


def _mask_head(config) -> Iterator[Entry]:
    head, predictor = config.mask_head, "roi_heads.mask_predictor"
    for i in range(head.convs):
        yield from _conv_norm(("mask_head", f"conv_{i}"), f"roi_heads.mask_head.{i}", head.norm)
    yield from layer(("mask_head", "upsample"), f"{predictor}.conv5_mask", UPSAMPLE)
    yield from layer(("mask_head", "mask_logits"), f"{predictor}.mask_fcn_logits", CLASS_CONV)


def _keypoint_head(config) -> Iterator[Entry]:
    for i in range(config.keypoints.convs):  # torchvision counts the ReLUs between them
        yield from layer(("keypoint_head", f"conv_{i}"), f"roi_heads.keypoint_head.{2 * i}", CONV)
    name = "roi_heads.keypoint_predictor.kps_score_lowres"
    yield from layer(("keypoint_head", "heatmaps"), name, DECONV)


def _conv_norm(path, name, kind) -> Iterator[Entry]:
    yield from layer((*path, "conv"), f"{name}.0", CONV, bias=SAME if kind == "none" else None)
    if kind != "none":
        yield from norm((*path, "norm_layer"), f"{name}.1", kind)


def _todays_name(name: str) -> str:
    for pattern, replacement in _OLDER_NAMES:
        if re.fullmatch(pattern, name):
            return re.sub(pattern, replacement, name)
    return name
