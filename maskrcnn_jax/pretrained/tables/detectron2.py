"""Detectron2's Mask R-CNN and backbone weights as our variables, and back.

Names are those of Detectron2 0.6. In its predictors the background is the last class, and neither
box deltas nor masks have a row for it; with us it is class 0 and has rows, which nobody reads.
Backbones of Caffe2's Detectron, which Detectron2 starts from, are given its names first.
"""

import re
from collections.abc import Iterator, Mapping

import numpy as np

from maskrcnn_jax.models.backbones.interface import FEATURES
from maskrcnn_jax.models.backbones.resnet import BLOCKS
from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.pretrained.tables import vit
from maskrcnn_jax.pretrained.tables.mapping import (
    CLASS_CONV,
    CONV,
    DECONV,
    DENSE,
    POINT_CONV,
    SAME,
    UPSAMPLE,
    Entry,
    Layout,
    chain,
    layer,
    norm,
    pooled_dense,
)

# BGR, in Detectron2's default configuration.
PIXEL_MEAN = (103.53, 116.28, 123.675)
PIXEL_STD = (1.0, 1.0, 1.0)
PIXEL_STD_OF_RESNEXT = (57.375, 57.12, 58.395)

# What our model has elsewhere: the config has the pixels' mean and std and makes the anchors, of
# which files written before 2021 hold them; images of a class are counted when training begins. The
# counters of batch norm matter only without momentum.
IGNORED = (
    r"pixel_(mean|std)",
    r"roi_heads\.box_predictor(\.\d)?\.fed_loss_cls_weights",
    r"proposal_generator\.anchor_generator\.cell_anchors\.\d",
    r".*\.num_batches_tracked",
)

# The classifiers, under the names of Caffe2 (fc1000, pred), of Detectron2's ResNet (linear) and of
# its script that converts torchvision's (stem.fc). Convolutions of Caffe2 may have biases, of zero
# or in MSRA's first one about 1e-9, which Detectron2 leaves behind as well.
IGNORED_OF_BACKBONE = (
    r"(fc1000|pred)_[wb]",
    r"(linear|stem\.fc)\.(weight|bias)",
    r"(stem|res\d\.\d+)\.(conv\d|shortcut)\.bias",
    r".*\.num_batches_tracked",
)

# What else Detectron2 and Detectron publish: a name that only such a file has, and what it is.
OTHER_MODELS = {
    "roi_heads.res5.0.conv1.weight": "a C4 model, whose box head is the ResNet's last stage",
    "backbone.res5.0.conv1.weight": "a DC5 model, which has no feature pyramid",
    "roi_heads.mask_coarse_head.prediction.weight": (
        "a PointRend with the names of 2020, which Detectron2 changes when it loads them: load and "
        "save it there first"
    ),
    "roi_heads.mask_head.parameter_head.prediction.weight": "an Implicit PointRend",
    "sem_seg_head.predictor.weight": "a Panoptic FPN",
    "head.cls_score.weight": "a RetinaNet",
    "backbone.bottom_up.res5.0.conv2_offset.weight": "a model with deformable convolutions",
    "cls_score_w": "a detector of Caffe2's Detectron, of which only backbones can be read",
    "conv1_gn_s": "a ResNet with group norm",
}

# Classes are rows here, as in torch: the background's is the last of K + 1.
_BACKGROUND_LAST = Layout(lambda x: np.roll(x, 1, axis=0), lambda x: np.roll(x, -1, axis=0))


def _no_background(rows: int) -> Layout:
    """Layout of K times as many rows, without those of the background; ours get zeros."""
    return Layout(
        lambda x: np.concatenate([np.zeros((rows, *x.shape[1:]), x.dtype), x]),
        lambda x: x[rows:],
    )


def table(config: ModelConfig) -> list[Entry]:
    """Returns every array of the model that `config.model` describes, beside Detectron2's."""
    if config.backbone.kind == "vit":
        features = [
            *vit.backbone_entries(config, "backbone.net.", True),
            *vit.pyramid_entries(config),
        ]
    else:
        features = [*_backbone(config, "backbone.bottom_up."), *_fpn(config)]
    return [
        *features,
        *_rpn(config),
        *_box_heads(config),
        *_masks(config),
        *(_keypoint_head(config) if config.keypoints.names else ()),
    ]


def backbone_table(config: ModelConfig) -> list[Entry]:
    """Returns every array of the backbone alone, beside those of Detectron2's ResNet."""
    return list(_backbone(config, ""))


def _backbone(config, prefix) -> Iterator[Entry]:
    depth, kind = config.backbone.depth, config.backbone.norm
    yield from _conv_norm(("backbone", "stem"), f"{prefix}stem.conv1", kind)
    for i, stage in enumerate(FEATURES):
        for j in range(BLOCKS[depth][i]):
            ours, theirs = ("backbone", f"stage_{stage}_{j}"), f"{prefix}res{i + 2}.{j}"
            for k in (1, 2, 3) if depth >= 50 else (1, 2):
                yield from _conv_norm((*ours, f"conv{k}"), f"{theirs}.conv{k}", kind)
            if j == 0 and (i > 0 or depth >= 50):
                yield from _conv_norm((*ours, "shortcut"), f"{theirs}.shortcut", kind)


def _fpn(config) -> Iterator[Entry]:
    for i in range(2, 6):
        for ours, theirs in ((f"lateral_c{i}", "lateral"), (f"output_p{i}", "output")):
            yield from _conv_norm(("fpn", ours), f"backbone.fpn_{theirs}{i}", config.fpn.norm)


def _rpn(config) -> Iterator[Entry]:
    convs, head = config.rpn.convs, "proposal_generator.rpn_head"
    for i in range(convs):
        name = f"{head}.conv" if convs == 1 else f"{head}.conv.conv{i}"
        yield from layer(("rpn", f"conv_{i}"), name, CONV)
    yield from layer(("rpn", "logits"), f"{head}.objectness_logits", CONV)
    yield from layer(("rpn", "deltas"), f"{head}.anchor_deltas", CONV)


def _box_heads(config) -> Iterator[Entry]:
    """The box head, or all of a cascade's."""
    if not config.cascade.ious:
        yield from _box_head(config.box_head, (), "")
    else:
        for k in range(1 + len(config.cascade.ious)):
            yield from _box_head(config.box_head, (f"stage_{k}",), f".{k}")


def _box_head(head, stage, number) -> Iterator[Entry]:
    name, predictor = f"roi_heads.box_head{number}", f"roi_heads.box_predictor{number}"
    ours = ("box_head", *stage)
    for i in range(head.convs):
        yield from _conv_norm((*ours, f"conv_{i}"), f"{name}.conv{i + 1}", head.norm)
    yield from layer((*ours, "dense_0"), f"{name}.fc1", pooled_dense(head.pool_size))
    if not head.convs:
        yield from layer((*ours, "dense_1"), f"{name}.fc2", DENSE)
    yield from layer(
        (*ours, "class_logits"),
        f"{predictor}.cls_score",
        chain(_BACKGROUND_LAST, DENSE),
        _BACKGROUND_LAST,
    )
    boxes = SAME if head.class_agnostic else _no_background(4)
    deltas = (*ours, "box_deltas")
    yield from layer(deltas, f"{predictor}.bbox_pred", chain(boxes, DENSE), boxes)


def _masks(config) -> Iterator[Entry]:
    if config.point_rend.enabled:
        yield from _point_rend(config.point_rend)
    elif config.masks:
        yield from _mask_head(config)


def _point_rend(head) -> Iterator[Entry]:
    """Both heads of projects/PointRend, whose predictors have no row for the background."""
    ours, theirs = ("mask_head", "coarse"), "roi_heads.mask_head.coarse_head"
    yield from layer((*ours, "conv"), f"{theirs}.reduce_spatial_dim_conv", CONV)
    for i in range(head.dense_layers):
        kernel = DENSE if i else pooled_dense(head.pool_size // 2)
        yield from layer((*ours, f"dense_{i}"), f"{theirs}.fc{i + 1}", kernel)
    cells = head.coarse_size**2
    yield from layer(
        (*ours, "coarse_logits"),
        f"{theirs}.prediction",
        Layout(  # (class and cell, in) <-> (in, cell, class)
            lambda x: x.reshape(-1, cells, x.shape[1]).transpose(2, 1, 0),
            lambda x: x.transpose(2, 1, 0).reshape(-1, x.shape[0]),
        ),
        Layout(lambda x: x.reshape(-1, cells).T, lambda x: x.T.reshape(-1)),
    )
    ours, theirs = ("mask_head", "point"), "roi_heads.mask_head.point_head"
    for i in range(head.point_layers):
        yield from layer((*ours, f"layer_{i}"), f"{theirs}.fc{i + 1}", POINT_CONV)
    yield from layer((*ours, "point_logits"), f"{theirs}.predictor", POINT_CONV)


def _mask_head(config) -> Iterator[Entry]:
    head, name = config.mask_head, "roi_heads.mask_head"
    for i in range(head.convs):
        yield from _conv_norm(("mask_head", f"conv_{i}"), f"{name}.mask_fcn{i + 1}", head.norm)
    yield from layer(("mask_head", "upsample"), f"{name}.deconv", UPSAMPLE)
    masks = SAME if head.class_agnostic else _no_background(1)
    logits = ("mask_head", "mask_logits")
    yield from layer(logits, f"{name}.predictor", chain(masks, CLASS_CONV), masks)


def _keypoint_head(config) -> Iterator[Entry]:
    head, name = "keypoint_head", "roi_heads.keypoint_head"
    for i in range(config.keypoints.convs):
        yield from layer((head, f"conv_{i}"), f"{name}.conv_fcn{i + 1}", CONV)
    yield from layer((head, "heatmaps"), f"{name}.score_lowres", DECONV)


def _conv_norm(path, name, kind) -> Iterator[Entry]:
    yield from layer((*path, "conv"), name, CONV, bias=SAME if kind == "none" else None)
    if kind != "none":
        yield from norm((*path, "norm_layer"), f"{name}.norm", kind)


# Caffe2 calls the arrays of res2.0.conv1 res2_0_branch2a_w, res2_0_branch2a_bn_s and so on.
_CAFFE2_CONVS = {"1": "shortcut", "2a": "conv1", "2b": "conv2", "2c": "conv3"}
_CAFFE2_ARRAYS = {
    "w": "weight",
    "b": "bias",
    # MSRA's files as Detectron2 publishes them
    "bn_gamma": "norm.weight",
    "bn_beta": "norm.bias",
    "bn_running_mean": "norm.running_mean",
    "bn_running_var": "norm.running_var",
    # and as Detectron did: the norm became a scale and a bias
    "bn_s": "norm.weight",
    "bn_b": "norm.bias",
}


def checked_pixels(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the state dict, if the pixels it was trained on are those of Detectron2's zoo.

    They are scaled by another deviation where the backbone is a ResNeXt.

    Raises:
        ValueError: where the file says that its mean or standard deviation is another.
    """
    std = PIXEL_STD_OF_RESNEXT if _is_grouped(state) else PIXEL_STD
    for name, usual in (("pixel_mean", PIXEL_MEAN), ("pixel_std", std)):
        given = np.ravel(state.get(name, usual))
        if given.shape != (3,) or not np.allclose(given, usual, atol=1e-3):
            raise ValueError(
                f"the weights were trained with {name} {given.tolist()}, not {list(usual)} as "
                f"Detectron2's own; pixels of another order or scale cannot be told from the file"
            )
    return dict(state)


def _is_grouped(state: Mapping[str, np.ndarray]) -> bool:
    shape = np.shape(state.get("backbone.bottom_up.res2.0.conv2.weight", ()))
    return len(shape) == 4 and shape[0] != shape[1]


def names_of_caffe2(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns a backbone of Caffe2's Detectron under the names of Detectron2.

    Where a norm is only a scale and a bias, statistics are added that leave it so: a mean of 0, and
    with the default `backbone.norm_eps` of 1e-5 a variance of 1 - 1e-5, as Detectron2's
    `FrozenBatchNorm2d` has it.
    """
    renamed = {_name_of_caffe2(name): array for name, array in state.items()}
    for name in [name for name in renamed if name.endswith(".norm.weight")]:
        ones = np.ones_like(renamed[name], np.float32)
        statistics = name.removesuffix("weight")
        renamed.setdefault(f"{statistics}running_mean", 0 * ones)
        renamed.setdefault(f"{statistics}running_var", ones - np.float32(1e-5))
    return renamed


def _name_of_caffe2(name: str) -> str:
    if match := re.fullmatch(r"res(\d)_(\d+)_branch(1|2[abc])_(\w+)", name):
        stage, block, conv, array = match.groups()
        conv = f"res{stage}.{block}.{_CAFFE2_CONVS[conv]}"
    elif match := re.fullmatch(r"(?:res_)?conv1_(\w+)", name):
        conv, array = "stem.conv1", match[1]
    else:
        return name
    return f"{conv}.{_CAFFE2_ARRAYS[array]}" if array in _CAFFE2_ARRAYS else name
