"""The settings of what works on single regions: RoIs, the two heads and the detections."""

from dataclasses import dataclass

from maskrcnn_jax.config_fields import setting
from maskrcnn_jax.images.config import PASTE_RULES

NORMS = ("none", "frozen_bn", "bn", "gn", "ln")
POSITIVE = "[1, inf)"
FRACTION = "[0, 1]"
BOX_LOSSES = ("smooth_l1", "l1", "giou", "diou", "ciou")


@dataclass(slots=True, unsafe_hash=True)
class RoIConfig:
    """The sampled regions and their features."""

    positive_iou: float = setting(
        0.5, "IoU from which a proposal is positive", within=FRACTION, weights=()
    )
    negative_iou: float = setting(
        0.5, "IoU below which a proposal is background", within=FRACTION, weights=()
    )
    samples_per_image: int = setting(
        512, "proposals in the losses of an image", within=POSITIVE, weights=()
    )
    positive_fraction: float = setting(
        0.25, "maximum fraction of positives among them", within=FRACTION, weights=()
    )
    crowd_overlap: float = setting(
        0.5,
        "fraction of a background box inside a crowd region from which it is ignored",
        within=FRACTION,
        weights=(),
    )
    pooling: str = setting(
        "roi_align",
        "how features are pooled; crop_and_resize: TensorFlow's, one sample per bin, the outermost "
        "on the box's edges, as matterport (sampling_ratio and aligned are then not used)",
        choices=("roi_align", "crop_and_resize"),
        weights=("box_head", "mask_head"),
    )
    sampling_ratio: int = setting(
        2,
        "bilinear samples per bin and axis in RoIAlign",
        within="[1, 64]",
        weights=("box_head", "mask_head"),
    )
    aligned: bool = setting(
        False, "Detectron2's half-pixel shift", weights=("box_head", "mask_head")
    )
    canonical_level: float = setting(
        4.0,
        "level of a box of the canonical size; fractions are cut off, so 4.5 rounds to the nearest "
        "level, as matterport",
        within="[0, inf)",
        weights=("box_head", "mask_head"),
    )
    canonical_size: float = setting(
        224.0, "side of a box of the canonical level, pixels", within="(0, inf)", weights=()
    )


@dataclass(slots=True, unsafe_hash=True)
class BoxHeadConfig:
    """The head that classifies and refines boxes."""

    pool_size: int = setting(
        7, "S, side of the pooled features", within=POSITIVE, weights=("box_head",)
    )
    convs: int = setting(
        0,
        "3x3 convolutions; 0: two dense layers, 4: the 4conv+1fc head",
        within="[0, 64]",
        weights=("box_head",),
    )
    conv_channels: int = setting(256, "channels of these", within=POSITIVE, weights=("box_head",))
    dense_channels: int = setting(
        1024, "channels of the dense layers", within=POSITIVE, weights=("box_head",)
    )
    dense_norm: str = setting(
        "none",
        "normalisation after the dense layers but the predictors (vectors have no groups for gn)",
        choices=NORMS[:3],
        weights=("box_head",),
    )
    norm: str = setting(
        "none", "normalisation after the convolutions", choices=NORMS, weights=("box_head",)
    )
    norm_eps: float = setting(
        1e-5, "epsilon of both normalisations", within="[0, inf)", weights=("box_head",)
    )
    coder_weights: tuple[float, float, float, float] = setting(
        (10.0, 10.0, 5.0, 5.0),
        "factors of dx, dy, dw, dh in the box deltas",
        within="(0, inf)",
        weights=("box_head",),
    )
    class_agnostic: bool = setting(
        False, "one box for all classes instead of one for each", weights=("box_head",)
    )
    class_loss: str = setting(
        "softmax",
        "loss of the classes, and their scores: a softmax, or a sigmoid for each; federated: "
        "sigmoids, of which an image's loss has some (Detectron2's USE_FED_LOSS, for LVIS)",
        choices=("softmax", "sigmoid", "federated"),
        weights=("box_head",),
    )
    federated_classes: int = setting(
        50, "classes in that loss of an image, the background too", within=POSITIVE, weights=()
    )
    federated_power: float = setting(
        0.5,
        "those that an image does not show are drawn in proportion to class_image_counts to this "
        "power",
        within="[0, inf)",
        weights=(),
    )
    class_image_counts: tuple[int, ...] = setting(
        (), "images of each class; none: counted as training begins", within="[0, inf)", weights=()
    )
    box_loss: str = setting(
        "smooth_l1",
        "loss of the boxes; giou, diou, ciou compare decoded boxes by their overlap",
        choices=BOX_LOSSES,
        weights=(),
    )
    box_loss_weight: float = setting(
        1.0, "factor of that loss (mmdetection has 10 for giou)", within="(0, inf)", weights=()
    )
    box_loss_beta: float = setting(
        1.0 / 9.0,
        "where smooth L1 turns from quadratic to linear",
        within="[0, inf)",
        weights=("box_head",),
    )


@dataclass(slots=True, unsafe_hash=True)
class MaskHeadConfig:
    """The head that predicts masks."""

    pool_size: int = setting(
        14,
        "side of the pooled features; masks are twice as large",
        within=POSITIVE,
        weights=("mask_head",),
    )
    convs: int = setting(4, "3x3 convolutions", within="[1, 64]", weights=("mask_head",))
    channels: int = setting(256, "channels of these", within=POSITIVE, weights=("mask_head",))
    class_agnostic: bool = setting(
        False, "one mask for all classes instead of one for each", weights=("mask_head",)
    )
    norm: str = setting("none", "normalisation layers", choices=NORMS, weights=("mask_head",))
    norm_eps: float = setting(
        1e-5, "epsilon of the normalisation", within="[0, inf)", weights=("mask_head",)
    )


@dataclass(slots=True, unsafe_hash=True)
class DetectionsConfig:
    """What is kept of the predictions."""

    classes: str = setting(
        "all",
        "classes of a RoI: all above the threshold, or its best one unless that is background",
        choices=("all", "best"),
        weights=(),
    )
    score_threshold: float = setting(
        0.05, "detections with a lower score are dropped", within=FRACTION, weights=()
    )
    nms_threshold: float = setting(
        0.5,
        "IoU above which the detection of the same class with the lower score is dropped",
        within=FRACTION,
        weights=(),
    )
    max_per_image: int = setting(100, "D, detections of an image", within=POSITIVE, weights=())
    min_size: float = setting(
        1e-2, "smaller boxes are dropped, pixels", within="[0, inf)", weights=()
    )
    mask_paste: str = setting(
        "exact",
        "how a mask is put into the image: at its true position, or on whole pixels as torchvision",
        choices=PASTE_RULES,
        weights=(),
        before="torchvision",
    )
