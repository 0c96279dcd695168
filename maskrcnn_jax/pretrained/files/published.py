"""The weights that others publish, by name: where each file is, and by what it is known."""

from typing import NamedTuple


class Published(NamedTuple):
    """A file of weights that somebody publishes.

    Attributes:
        kind: of the weights, a name in `sources.SOURCES`.
        url: of the file; its last part is the file's name in the cache.
        digest: (algorithm, hexadecimal digits), perhaps the first digits only; None: not known.
        size: bytes; None: not known.
    """

    kind: str
    url: str
    digest: tuple[str, str] | None
    size: int | None = None

    @property
    def file_name(self) -> str:
        """Name of the file, the same at its source and in the cache."""
        return self.url.rsplit("/", 1)[1]


_TORCHVISION = "https://download.pytorch.org/models"
_DETECTRON2 = "https://dl.fbaipublicfiles.com/detectron2"
_MAE = "https://dl.fbaipublicfiles.com/mae/pretrain"
_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/resnet"


def _sha256(digits: str) -> tuple[str, str]:
    return "sha256", digits


def _md5(digits: str) -> tuple[str, str]:
    """Shows damage, but is no guard against somebody who forges a file."""
    return "md5", digits


NAMES = {
    # torchvision: the file names end in the first eight digits of the SHA-256.
    "coco_torchvision_v1": Published(
        "torchvision_v1",
        f"{_TORCHVISION}/maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth",
        _sha256("bf2d0c1efbc936eeee2bc95a48e80ebc86b891f61b0106485937fc29f9315fc0"),
        178_090_079,
    ),
    "coco_torchvision_v2": Published(
        "torchvision_v2",
        f"{_TORCHVISION}/maskrcnn_resnet50_fpn_v2_coco-73cbd019.pth",
        _sha256("73cbd0190fcbe3ba339921fbce2c3a0b6bb9126c9a133c85e43a2a8e060a109e"),
        185_828_065,
    ),
    "coco_torchvision_faster_v1": Published(
        "torchvision_v1",
        f"{_TORCHVISION}/fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
        _sha256("258fb6c6"),
    ),
    "coco_torchvision_faster_v2": Published(
        "torchvision_v2",
        f"{_TORCHVISION}/fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth",
        _sha256("dd69338a"),
    ),
    "coco_torchvision_keypoints": Published(
        "torchvision_keypoints",
        f"{_TORCHVISION}/keypointrcnn_resnet50_fpn_coco-fc266e95.pth",
        _sha256("fc266e95"),
    ),
    # Its ImageNet classifiers, weights IMAGENET1K_V1: those that its detectors started from.
    "imagenet_torchvision_r18": Published(
        "torchvision_resnet",
        f"{_TORCHVISION}/resnet18-f37072fd.pth",
        _sha256("f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec"),
        46_830_571,
    ),
    "imagenet_torchvision_r34": Published(
        "torchvision_resnet",
        f"{_TORCHVISION}/resnet34-b627a593.pth",
        _sha256("b627a593bcbe140c234610266fe4f8ae95ea42fc881d091c9b6052e6b1d0590f"),
        87_319_819,
    ),
    "imagenet_torchvision_r50": Published(
        "torchvision_resnet",
        f"{_TORCHVISION}/resnet50-0676ba61.pth",
        _sha256("0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a"),
        102_530_333,
    ),
    "imagenet_torchvision_r101": Published(
        "torchvision_resnet",
        f"{_TORCHVISION}/resnet101-63fe2227.pth",
        _sha256("63fe2227b86e8f1f2063f43a75c84d195911b6a0eace650907dd3dc62dd49a0a"),
    ),
    "imagenet_torchvision_r152": Published(
        "torchvision_resnet",
        f"{_TORCHVISION}/resnet152-394f9c45.pth",
        _sha256("394f9c45966e3651a89bbb78a48410a6755854ce4a5ab64927cf1c7247f85e58"),
    ),
    # ResNeXts and wide ResNets by their IMAGENET1K_V1, too; ConvNeXts have no other.
    **{
        f"imagenet_torchvision_{name}": Published(
            f"torchvision_{kind}", f"{_TORCHVISION}/{file}.pth", _sha256(file[-8:])
        )
        for name, kind, file in (
            ("x50_32x4d", "resnet", "resnext50_32x4d-7cdf4587"),
            ("x101_32x8d", "resnet", "resnext101_32x8d-8ba56ff5"),
            ("x101_64x4d", "resnet", "resnext101_64x4d-173b62eb"),
            ("wide_r50", "resnet", "wide_resnet50_2-95faca4d"),
            ("wide_r101", "resnet", "wide_resnet101_2-32ee1156"),
            ("convnext_t", "convnext", "convnext_tiny-983f1562"),
            ("convnext_s", "convnext", "convnext_small-0c510722"),
            ("convnext_b", "convnext", "convnext_base-6075fbad"),
        )
    },
    # Detectron2's zoo: the file names end in the first six digits of the MD5 (its MODEL_ZOO.md).
    # The SHA-256 of two 3x models are known from others who use them.
    "coco_detectron2_r50_1x": Published(
        "detectron2",
        f"{_DETECTRON2}/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x/137260431/"
        "model_final_a54504.pkl",
        _md5("a54504"),
    ),
    "coco_detectron2_r50_3x": Published(
        "detectron2",
        f"{_DETECTRON2}/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x/137849600/"
        "model_final_f10217.pkl",
        _sha256("9a737e290372f1f70994ebcbd89d8004dbb3ae30a605fd915a190fa4a782dd66"),
        177_841_981,
    ),
    "coco_detectron2_r101_3x": Published(
        "detectron2",
        f"{_DETECTRON2}/COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x/138205316/"
        "model_final_a3ec72.pkl",
        _md5("a3ec72"),
    ),
    "coco_detectron2_x101_3x": Published(
        "detectron2",
        f"{_DETECTRON2}/COCO-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_3x/139653917/"
        "model_final_2d9806.pkl",
        _sha256("12f6e1811baf1b4d329c3f5ac5ec52d8f634d3cedc82a13fff55d0c05d84f442"),
    ),
    "coco_detectron2_keypoints_r50_1x": Published(
        "detectron2_keypoints",
        f"{_DETECTRON2}/COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x/137261548/model_final_04e291.pkl",
        _md5("04e291"),
    ),
    "coco_detectron2_keypoints_r50_3x": Published(
        "detectron2_keypoints",
        f"{_DETECTRON2}/COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x/137849621/model_final_a6e10b.pkl",
        _md5("a6e10b"),
    ),
    "coco_detectron2_keypoints_r101_3x": Published(
        "detectron2_keypoints",
        f"{_DETECTRON2}/COCO-Keypoints/keypoint_rcnn_R_101_FPN_3x/138363331/model_final_997cc7.pkl",
        _md5("997cc7"),
    ),
    "coco_detectron2_cascade_r50_1x": Published(
        "detectron2_cascade",
        f"{_DETECTRON2}/Misc/cascade_mask_rcnn_R_50_FPN_1x/138602847/model_final_e9d89b.pkl",
        _md5("e9d89b"),
    ),
    "coco_detectron2_cascade_r50_3x": Published(
        "detectron2_cascade",
        f"{_DETECTRON2}/Misc/cascade_mask_rcnn_R_50_FPN_3x/144998488/model_final_480dd8.pkl",
        _md5("480dd8"),
    ),
    # Its projects/PointRend; the README there.
    "coco_detectron2_point_rend_r50_1x": Published(
        "detectron2_point_rend",
        f"{_DETECTRON2}/PointRend/InstanceSegmentation/pointrend_rcnn_R_50_FPN_1x_coco/164254221/"
        "model_final_736f5a.pkl",
        _md5("736f5a"),
    ),
    "coco_detectron2_point_rend_r50_3x": Published(
        "detectron2_point_rend",
        f"{_DETECTRON2}/PointRend/InstanceSegmentation/pointrend_rcnn_R_50_FPN_3x_coco/164955410/"
        "model_final_edd263.pkl",
        _md5("edd263"),
    ),
    # Its projects/ViTDet, of COCO; the README there.
    "coco_detectron2_vitdet_b": Published(
        "detectron2_vitdet",
        f"{_DETECTRON2}/ViTDet/COCO/mask_rcnn_vitdet_b/f325346929/model_final_61ccd1.pkl",
        _md5("61ccd1"),
    ),
    "coco_detectron2_vitdet_l": Published(
        "detectron2_vitdet",
        f"{_DETECTRON2}/ViTDet/COCO/mask_rcnn_vitdet_l/f325599698/model_final_6146ed.pkl",
        _md5("6146ed"),
    ),
    "coco_detectron2_vitdet_cascade_b": Published(
        "detectron2_vitdet_cascade",
        f"{_DETECTRON2}/ViTDet/COCO/cascade_mask_rcnn_vitdet_b/f325358525/model_final_435fa9.pkl",
        _md5("435fa9"),
    ),
    "coco_detectron2_vitdet_cascade_l": Published(
        "detectron2_vitdet_cascade",
        f"{_DETECTRON2}/ViTDet/COCO/cascade_mask_rcnn_vitdet_l/f328021305/model_final_1a9f28.pkl",
        _md5("1a9f28"),
    ),
    # The encoders that it starts from, with the first digits of their MD5s: facebookresearch/mae.
    "imagenet_mae_vit_b": Published("mae_vit", f"{_MAE}/mae_pretrain_vit_base.pth", _md5("8cad7c")),
    "imagenet_mae_vit_l": Published(
        "mae_vit", f"{_MAE}/mae_pretrain_vit_large.pth", _md5("b8b06e")
    ),
    # The ImageNet classifiers that Detectron2 starts from. No digest is published.
    "imagenet_msra_r50": Published(
        "msra_resnet", f"{_DETECTRON2}/ImageNetPretrained/MSRA/R-50.pkl", None
    ),
    "imagenet_msra_r101": Published(
        "msra_resnet", f"{_DETECTRON2}/ImageNetPretrained/MSRA/R-101.pkl", None
    ),
    # matterport/Mask_RCNN, release 2.0.
    "coco_matterport": Published(
        "matterport",
        "https://github.com/matterport/Mask_RCNN/releases/download/v2.0/mask_rcnn_coco.h5",
        _md5("e98aaff6f99e307b5e2a8a3ff741a518"),
        257_557_808,
    ),
    # Keras: the MD5s with which keras.applications loads them. An older file of the same name (the
    # first ResNet-50 of Keras) is another one.
    "imagenet_keras_r50": Published(
        "keras_resnet",
        f"{_KERAS}/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
        _md5("4d473c1dd8becc155b73f8504c6f6626"),
        94_765_736,
    ),
    "imagenet_keras_r101": Published(
        "keras_resnet",
        f"{_KERAS}/resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5",
        _md5("88cf7a10940856eca736dc7b7e228a21"),
        171_446_536,
    ),
}
