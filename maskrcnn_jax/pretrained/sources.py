"""The weights we can read, and the dialect of the detector that each was trained in.

Parameters mean what they say only in the network that they were trained in: with its order of
colours, its strides, its epsilons, its idea of where a pixel lies. Each `Source` below names,
beside its table of arrays, every key of `config.model` that differs from the default.
"""

from typing import Any

from maskrcnn_jax.pretrained import resnet_layers
from maskrcnn_jax.pretrained.source import (
    Source,
    State,
    classes_of_cascade,
    classes_of_torch,
    resnet,
    with_class_loss,
)
from maskrcnn_jax.pretrained.tables import (
    convnext,
    detectron2,
    keras_resnet,
    matterport,
    torchvision,
    vit,
)

_TORCHVISION: dict[str, Any] = dict(
    todays_names=torchvision.todays_names, layers=resnet_layers.of_torchvision
)

_CAFFE = {
    "pixel.order": "bgr",
    "pixel.mean": (103.939, 116.779, 123.68),
    "pixel.std": (1.0, 1.0, 1.0),
    "backbone.stride_in_1x1": True,
}

# The original ResNet: colours as Caffe has them, less a mean, and the stride in the 1x1. Detectron2
# has torchvision's mean, not the one that its authors trained with.
_MSRA = {
    "pixel.order": "bgr",
    "pixel.mean": detectron2.PIXEL_MEAN,
    "pixel.std": detectron2.PIXEL_STD,
    "backbone.stride_in_1x1": True,
}

# Its detectors of Base-RCNN-FPN.yaml.
_DETECTOR_OF_DETECTRON2: dict[str, Any] = dict(
    part="detector",
    table=detectron2.table,
    todays_names=detectron2.checked_pixels,
    ignored=detectron2.IGNORED,
    layers=with_class_loss(resnet_layers.of_detectron2),
)
_OF_DETECTRON2 = {
    **_MSRA,
    "anchors.rounded": False,
    "anchors.strides": "nominal",
    "rpn.box_loss_beta": 0.0,
    "roi.aligned": True,
    "box_head.box_loss_beta": 0.0,
}
_SETTINGS_OF_DETECTRON2 = {
    "rpn.post_nms_top_n_train": 1000,
    "rpn.min_size": 1e-20,
    "detections.min_size": 1e-20,
}

# Detectron2's projects/ViTDet: images as torchvision has them, layer norm in pyramid and heads, two
# convolutions in the RPN and the 4conv+1fc head. Images are resized to fit into a square of 1024.
_VITDET: dict[str, Any] = dict(
    part="detector",
    table=detectron2.table,
    layers=with_class_loss(vit.detectron2_layers),
    ignored=detectron2.IGNORED,
    data={"short_side": 1024, "long_side": 1024, "buckets": ((1024, 1024),)},
)
_OF_VITDET = {
    "backbone.kind": "vit",
    **{key: _OF_DETECTRON2[key] for key in _OF_DETECTRON2 if key not in _MSRA},
    **{f"{part}.norm": "ln" for part in ("fpn", "box_head", "mask_head")},
    **{f"{part}.norm_eps": 1e-6 for part in ("fpn", "box_head", "mask_head")},
    "rpn.convs": 2,
    "box_head.convs": 4,
}
_MARKS_OF_VITDET = (
    "backbone.net.patch_embed.proj.weight",
    "backbone.net.pos_embed",
    "backbone.net.blocks.0.attn.rel_pos_h",
    "backbone.simfp_4.0.weight",
)

SOURCES = (
    # keypointrcnn_resnet50_fpn, weights COCO_V1 and COCO_LEGACY: persons alone, trained as the
    # Faster R-CNN below. Positions are those of COCO's annotations, without half a pixel more.
    Source(
        name="torchvision_keypoints",
        part="detector",
        marks=("backbone.body.conv1.weight", "roi_heads.keypoint_predictor.kps_score_lowres.bias"),
        table=torchvision.table,
        num_classes=classes_of_torch,
        num_keypoints=lambda state: len(
            state["roi_heads.keypoint_predictor.kps_score_lowres.bias"]
        ),
        ignored=torchvision.IGNORED,
        model={**torchvision.MODEL_OVERRIDES["v1"], "keypoints.half_pixel": False},
        **_TORCHVISION,
    ),
    # maskrcnn_resnet50_fpn and fasterrcnn_resnet50_fpn (without a mask head), weights COCO_V1. They
    # were trained with a frozen batch norm without epsilon, which torchvision sets when it loads
    # them. Class k is COCO's category id k.
    Source(
        name="torchvision_v1",
        part="detector",
        marks=("backbone.body.conv1.weight", "roi_heads.box_head.fc6.weight"),
        table=torchvision.table,
        num_classes=classes_of_torch,
        ignored=torchvision.IGNORED,
        model=torchvision.MODEL_OVERRIDES["v1"],
        settings={"detections.mask_paste": "torchvision"},
        **_TORCHVISION,
    ),
    # maskrcnn_resnet50_fpn_v2 and fasterrcnn_resnet50_fpn_v2, weights COCO_V1: batch norm in all
    # parts but the RPN.
    Source(
        name="torchvision_v2",
        part="detector",
        marks=("backbone.body.conv1.weight", "roi_heads.box_head.5.weight"),
        table=torchvision.table,
        num_classes=classes_of_torch,
        ignored=torchvision.IGNORED,
        model=torchvision.MODEL_OVERRIDES["v2"],
        settings={"detections.mask_paste": "torchvision"},
        **_TORCHVISION,
    ),
    # ImageNet classifiers of torchvision and timm, ResNet, ResNeXt and wide ResNet: RGB, scaled by
    # mean and std, stride in the 3x3.
    Source(
        name="torchvision_resnet",
        part="backbone",
        marks=("conv1.weight", "bn1.running_mean", "layer1.0.conv1.weight"),
        table=torchvision.backbone_table,
        ignored=(*torchvision.IGNORED, r"fc\.(weight|bias)"),
        model={},
        **_TORCHVISION,
    ),
    # ConvNeXts of timm, and those of torchvision below: ImageNet classifiers, RGB, scaled by mean
    # and std. Neither has the norms behind C2 to C5 of a detector, which begin as the identity.
    Source(
        name="timm_convnext",
        part="backbone",
        marks=("stem.0.weight", "stem.1.weight", "stages.0.blocks.0.conv_dw.weight"),
        table=convnext.timm_table,
        layers=convnext.timm_layers,
        ignored=convnext.IGNORED_OF_TIMM,
        model={"backbone.kind": "convnext"},
    ),
    Source(
        name="torchvision_convnext",
        part="backbone",
        marks=("features.0.0.weight", "features.1.0.layer_scale"),
        table=convnext.torchvision_table,
        layers=convnext.torchvision_layers,
        ignored=convnext.IGNORED_OF_TORCHVISION,
        model={"backbone.kind": "convnext"},
    ),
    # Detectron2's projects/PointRend, pointrend_rcnn_R_50_FPN_1x_coco and _3x: the next one, its
    # Mask R-CNN, with another mask head.
    Source(
        name="detectron2_point_rend",
        marks=(
            "backbone.bottom_up.stem.conv1.weight",
            "roi_heads.mask_head.coarse_head.prediction.weight",
            "roi_heads.mask_head.point_head.predictor.weight",
        ),
        num_classes=classes_of_torch,
        model={**_OF_DETECTRON2, "point_rend.enabled": True},
        settings=_SETTINGS_OF_DETECTRON2,
        **_DETECTOR_OF_DETECTRON2,
    ),
    # Detectron2's keypoint_rcnn_R_50_FPN_1x, _3x and keypoint_rcnn_R_101_FPN_3x (COCO-Keypoints):
    # persons. Otherwise as its detectors below.
    Source(
        name="detectron2_keypoints",
        marks=("backbone.bottom_up.stem.conv1.weight", "roi_heads.keypoint_head.score_lowres.bias"),
        num_classes=classes_of_torch,
        num_keypoints=lambda state: len(state["roi_heads.keypoint_head.score_lowres.bias"]),
        model={**_OF_DETECTRON2, "box_head.box_loss_beta": 0.5},
        settings={**_SETTINGS_OF_DETECTRON2, "rpn.post_nms_top_n_train": 1500},
        **_DETECTOR_OF_DETECTRON2,
    ),
    # Detectron2's zoo, mask_rcnn_R_50_FPN_1x and _3x, mask_rcnn_R_101_FPN_3x, faster_rcnn_... too,
    # and mask_rcnn_X_101_32x8d_FPN_3x, whose ResNeXt has a dialect of its own
    # (Base-RCNN-FPN.yaml and config/defaults.py), and what else was trained so. Class k is COCO's
    # k-th category. Norms are frozen, anchors are not rounded, RoIAlign shifts cells by half a
    # pixel, and boxes are learnt by L1 (a beta of 0).
    # What differs: their RoIAlign takes about one sample per cell under the box; here it is always
    # 2 x 2 per bin, since shapes are static. A box goes when it is empty, which our "at least" says
    # with a size less than any by which coordinates differ; detections that are empty go after NMS
    # and the limit of 100 there, before them here. Masks are pasted at the same positions; a
    # probability of exactly 0.5 is object there and not here. Sides of a resized image are rounded
    # there and cut off here, and images that shrink are smoothed by Pillow there.
    Source(
        name="detectron2",
        marks=("backbone.bottom_up.stem.conv1.weight", "roi_heads.box_head.fc1.weight"),
        num_classes=classes_of_torch,
        model=_OF_DETECTRON2,
        settings=_SETTINGS_OF_DETECTRON2,
        **_DETECTOR_OF_DETECTRON2,
    ),
    # Its cascade_mask_rcnn_R_50_FPN_1x and _3x (Misc), which differ by the box heads alone: three
    # in a row, whose boxes are those of all classes together.
    Source(
        name="detectron2_cascade",
        marks=("backbone.bottom_up.stem.conv1.weight", "roi_heads.box_head.0.fc1.weight"),
        num_classes=classes_of_cascade,
        model={
            **_OF_DETECTRON2,
            "box_head.class_agnostic": True,
            "cascade.ious": (0.6, 0.7),
        },
        settings={**_SETTINGS_OF_DETECTRON2, "rpn.post_nms_top_n_train": 2000},
        **_DETECTOR_OF_DETECTRON2,
    ),
    # mask_rcnn_vitdet_b_100ep and _l, and cascade_mask_rcnn_vitdet_b_100ep and _l, of COCO, and
    # those of LVIS, which have sigmoids.
    Source(
        name="detectron2_vitdet",
        marks=(*_MARKS_OF_VITDET, "roi_heads.box_head.fc1.weight"),
        num_classes=classes_of_torch,
        model=_OF_VITDET,
        settings=_SETTINGS_OF_DETECTRON2,
        **_VITDET,
    ),
    Source(
        name="detectron2_vitdet_cascade",
        marks=(*_MARKS_OF_VITDET, "roi_heads.box_head.0.fc1.weight"),
        num_classes=classes_of_cascade,
        model={**_OF_VITDET, "box_head.class_agnostic": True, "cascade.ious": (0.6, 0.7)},
        settings={**_SETTINGS_OF_DETECTRON2, "rpn.post_nms_top_n_train": 2000},
        **_VITDET,
    ),
    # MAE's encoders, which ViTDet begins from, as their authors publish them (mae_pretrain_vit_...)
    # and timm (vit_base_patch16_224.mae): RGB, scaled by mean and std. Windows are ViTDet's.
    Source(
        name="mae_vit",
        part="backbone",
        marks=("cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"),
        table=vit.encoder_table,
        layers=vit.encoder_layers,
        ignored=vit.IGNORED,
        model={"backbone.kind": "vit"},
    ),
    # MSRA's ImageNet ResNets, R-50.pkl and R-101.pkl, with Caffe2's names: as Detectron2 publishes
    # them, and as Detectron did, whose norms became a scale and a bias. Either is for frozen norms.
    Source(
        name="msra_resnet",
        part="backbone",
        marks=("conv1_w", "res2_0_branch2a_w"),
        table=detectron2.backbone_table,
        todays_names=detectron2.names_of_caffe2,
        ignored=detectron2.IGNORED_OF_BACKBONE,
        model=_MSRA,
        layers=resnet_layers.of_detectron2,
    ),
    # Backbones with Detectron2's own names: torchvision's ImageNet ResNets as its script
    # tools/convert-torchvision-to-d2.py writes them (ImageNetPretrained/torchvision/R-50.pkl), in
    # torchvision's dialect. One that was cut out of a detector looks the same and has another: then
    # give pixel.order, pixel.mean, pixel.std and backbone.stride_in_1x1 as for MSRA.
    Source(
        name="detectron2_resnet",
        part="backbone",
        marks=("stem.conv1.weight", "stem.conv1.norm.weight", "res2.0.conv1.weight"),
        table=detectron2.backbone_table,
        ignored=detectron2.IGNORED_OF_BACKBONE,
        layers=resnet_layers.of_detectron2,
    ),
    # matterport/Mask_RCNN: mask_rcnn_coco.h5 and what else its code has trained (mrcnn/model.py,
    # utils.py and config.py). RGB less a mean, on a black square. All norms are frozen and have
    # Keras' epsilon; strides and pooling are those of the older Keras ResNet below. Boxes live in
    # coordinates in which the last pixel of a side is 1, so corners are inclusive; aspect ratios
    # are width / height there. Both box coders divide by the same deviations, and one NMS serves
    # all levels. The canonical size is 224 pixels of a square of 1024; another one needs its own.
    # The score threshold is that of its COCO evaluation; its demo has 0.7.
    # What differs: their image lies in the middle of the square, ours at the top left. They enlarge
    # it to a short side of 800 but never reduce it to that (no image of COCO is so large). They do
    # not limit dw and dh. They fill up fewer than 1000 proposals with empty boxes, of which
    # detections of one pixel may come. At the end they scale boxes by sizes less one pixel, round
    # them to whole pixels and stretch masks over those; ours stay where they are.
    Source(
        name="matterport",
        part="detector",
        marks=("res2a_branch2a/kernel", "rpn_conv_shared/kernel", "mrcnn_class_logits/bias"),
        table=matterport.table,
        layers=resnet(r"res(\d)(\w)_branch2\w/kernel"),
        num_classes=lambda state: len(state["mrcnn_class_logits/bias"]) - 1,
        ignored=(r"anchors/.*",),  # constants, which ports to TensorFlow 2 save as variables
        model={
            "corners": "inclusive",
            "pixel.mean": (123.7, 116.8, 103.9),
            "pixel.std": (1.0, 1.0, 1.0),
            "pixel.padding": "black",
            "backbone.norm_eps": 1e-3,
            "backbone.stride_in_1x1": True,
            "backbone.pool_padding": "same",
            "anchors.aspect_ratios": (2.0, 1.0, 0.5),
            "anchors.rounded": False,
            "anchors.strides": "nominal",
            "rpn.channels": 512,
            "rpn.nms": "joint",
            "rpn.clip": "input",
            "rpn.coder_weights": (10.0, 10.0, 5.0, 5.0),
            "rpn.box_loss_beta": 1.0,
            "roi.pooling": "crop_and_resize",
            "roi.canonical_level": 4.5,
            "box_head.dense_norm": "frozen_bn",
            "box_head.norm_eps": 1e-3,
            "box_head.box_loss_beta": 1.0,
            "mask_head.norm": "frozen_bn",
            "mask_head.norm_eps": 1e-3,
        },
        settings={
            "rpn.pre_nms_top_n_train": 6000,
            "rpn.pre_nms_top_n_eval": 6000,
            "rpn.min_size": 0.0,
            "roi.samples_per_image": 200,
            "roi.positive_fraction": 0.33,
            "roi.canonical_size": 224 * 1023 / 1024,
            "detections.classes": "best",
            "detections.score_threshold": 0.0,
            "detections.nms_threshold": 0.3,
            "detections.min_size": 0.0,
        },
        data={"short_side": 800, "long_side": 1024, "buckets": ((1024, 1024),)},
    ),
    # ImageNet classifiers of keras.applications since 2019 (ResNet50, 101 and 152; not V2), with or
    # without top: Caffe's colours, stride in the 1x1, and a padding of one around the max pooling.
    Source(
        name="keras_resnet",
        part="backbone",
        marks=("conv1_conv/kernel", "conv1_bn/gamma", "conv2_block1_1_conv/kernel"),
        table=keras_resnet.table,
        layers=resnet(r"conv(\d)_block(\d+)_[123]_conv/kernel"),
        ignored=(r"predictions/(kernel|bias)",),
        model={**_CAFFE, "backbone.norm_eps": 1.001e-5},
    ),
    # The older ResNet50 of Keras (F. Chollet's deep-learning-models; the file has the name of the
    # newer one). Its epsilon is Keras' own. It pools without padding; "same" moves no window and
    # only adds the last row and column, as the Caffe model does from which the weights come.
    Source(
        name="keras_resnet_older",
        part="backbone",
        marks=("conv1/kernel", "bn_conv1/gamma", "res2a_branch2a/kernel"),
        table=keras_resnet.older_table,
        layers=resnet(r"res(\d)(\w)_branch2\w/kernel"),
        ignored=(r"fc1000/(kernel|bias)",),
        model={**_CAFFE, "backbone.norm_eps": 1e-3, "backbone.pool_padding": "same"},
    ),
)


def recognised(state: State, where: str) -> Source:
    """Returns the kind of weights that a state dict holds.

    Args:
        state: name -> array.
        where: it came from, for the message.

    Raises:
        ValueError: where it is of no known kind, or of a model that is no Mask R-CNN with FPN.
    """
    for mark, model in detectron2.OTHER_MODELS.items():
        if mark in state:
            raise ValueError(
                f"{where} is {model} (it has {mark}); only Mask R-CNNs, Faster R-CNNs and "
                "Keypoint R-CNNs with a ResNet and FPN, ViTDets, and their backbones, can be read"
            )
    for source in SOURCES:
        if all(mark in state for mark in source.marks):
            return source
    some = ", ".join(list(state)[:5])
    raise ValueError(
        f"{where} holds weights of no known kind; known are "
        f"{', '.join(source.name for source in SOURCES)}. Its first names are: {some}"
    )
