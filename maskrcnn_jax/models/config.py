"""The settings of the detector: `config.model`.

The defaults are those of torchvision's `maskrcnn_resnet50_fpn`, so that its weights give its
outputs. Most settings with named choices tell the dialects of projects apart whose weights can be
imported. `weights` names the parts of the detector whose trained weights need the value: it is then
imported with them.
"""

from dataclasses import dataclass, field

from maskrcnn_jax.config_fields import check_fields, setting
from maskrcnn_jax.models.backbones.config import BackboneConfig
from maskrcnn_jax.models.cascade.config import CascadeConfig
from maskrcnn_jax.models.heads_config import (
    BOX_LOSSES,
    FRACTION,
    NORMS,
    POSITIVE,
    BoxHeadConfig,
    DetectionsConfig,
    MaskHeadConfig,
    RoIConfig,
)
from maskrcnn_jax.models.keypoints.config import KeypointsConfig
from maskrcnn_jax.models.mask_scoring.config import MaskScoringConfig
from maskrcnn_jax.models.point_rend.config import PointRendConfig

# What weights can be taken of, and trained: the detector's parts, and those that some have besides.
PARTS = ("backbone", "fpn", "rpn", "box_head", "mask_head")
ALL_PARTS = (*PARTS, "mask_iou_head", "keypoint_head")


@dataclass(slots=True, unsafe_hash=True)
class PixelConfig:
    """How pixels are normalised."""

    order: str = setting(
        "rgb",
        "order of three channels as the network takes them",
        choices=("rgb", "bgr"),
        weights=("backbone",),
    )
    mean: tuple[float, ...] = setting(
        (123.675, 116.28, 103.53),
        "mean of each channel in that order, 0 to 255, or to 65535 with config.data.depth=16",
        within="[0, inf)",
        weights=("backbone",),
    )
    std: tuple[float, ...] = setting(
        (58.395, 57.12, 57.375),
        "standard deviation of each channel; 1 for a channel that never varies",
        within="(0, inf)",
        weights=("backbone",),
    )
    padding: str = setting(
        "mean",
        "pixels around an image: the mean, or black (value 0, as matterport)",
        choices=("mean", "black"),
        weights=("backbone",),
    )


@dataclass(slots=True, unsafe_hash=True)
class FPNConfig:
    """The feature pyramid."""

    channels: int = setting(256, "channels of each level", within=POSITIVE, weights=("fpn",))
    norm: str = setting("none", "normalisation layers", choices=NORMS, weights=("fpn",))
    norm_eps: float = setting(
        1e-5, "epsilon of the normalisation", within="[0, inf)", weights=("fpn",)
    )


@dataclass(slots=True, unsafe_hash=True)
class AnchorsConfig:
    """The anchors."""

    sizes: tuple[float, ...] = setting(
        (32.0, 64.0, 128.0, 256.0, 512.0),
        "side of the anchors of P2 to P6, pixels",
        within="(0, inf)",
        weights=(),
    )
    aspect_ratios: tuple[float, ...] = setting(
        (0.5, 1.0, 2.0), "height / width of the anchors", within="(0, inf)", weights=("rpn",)
    )
    rounded: bool = setting(
        True,
        "corners of the cell anchors rounded to whole pixels, as torchvision",
        weights=("rpn",),
    )
    strides: str = setting(
        "quotient",
        "pixels between cells; quotient: image / level, as torchvision (61 for 13 rows of 800); "
        "nominal: 4, 8, 16, 32, 64, as Detectron2 and matterport",
        choices=("quotient", "nominal"),
        weights=("rpn",),
    )


@dataclass(slots=True, unsafe_hash=True)
class RPNConfig:
    """The region proposal network."""

    convs: int = setting(
        1, "3x3 convolutions before the two predictors", within="[1, 64]", weights=("rpn",)
    )
    channels: int = setting(
        0, "channels of these; 0: as many as the FPN has", within="[0, inf)", weights=("rpn",)
    )
    nms: str = setting(
        "per_level",
        "NMS within each level, or joint over all levels, as matterport",
        choices=("per_level", "joint"),
        weights=("rpn",),
    )
    pre_nms_top_n_train: int = setting(
        2000,
        "proposals before NMS in training, of each level, or of all (joint)",
        within=POSITIVE,
        weights=(),
    )
    pre_nms_top_n_eval: int = setting(
        1000, "the same in evaluation and prediction", within=POSITIVE, weights=()
    )
    post_nms_top_n_train: int = setting(
        2000,
        "proposals of an image after NMS in training, over all levels",
        within=POSITIVE,
        weights=(),
    )
    post_nms_top_n_eval: int = setting(
        1000, "the same in evaluation and prediction", within=POSITIVE, weights=()
    )
    nms_threshold: float = setting(
        0.7,
        "IoU above which the proposal with the lower score is dropped",
        within=FRACTION,
        weights=(),
    )
    clip: str = setting(
        "image",
        "proposals are clipped to the image, or to the padded input",
        choices=("image", "input"),
        weights=("rpn",),
    )
    min_size: float = setting(
        1e-3, "smaller proposals are dropped, pixels", within="[0, inf)", weights=()
    )
    coder_weights: tuple[float, float, float, float] = setting(
        (1.0, 1.0, 1.0, 1.0),
        "factors of dx, dy, dw, dh in the box deltas",
        within="(0, inf)",
        weights=("rpn",),
    )
    positive_iou: float = setting(
        0.7, "IoU from which an anchor is positive", within=FRACTION, weights=()
    )
    negative_iou: float = setting(
        0.3, "IoU below which an anchor is negative", within=FRACTION, weights=()
    )
    samples_per_image: int = setting(
        256, "anchors in the loss of an image", within=POSITIVE, weights=()
    )
    positive_fraction: float = setting(
        0.5, "maximum fraction of positives among them", within=FRACTION, weights=()
    )
    box_loss: str = setting(
        "smooth_l1", "loss of the proposals' boxes", choices=BOX_LOSSES, weights=()
    )
    box_loss_weight: float = setting(1.0, "factor of that loss", within="(0, inf)", weights=())
    box_loss_beta: float = setting(
        1.0 / 9.0,
        "where smooth L1 turns from quadratic to linear",
        within="[0, inf)",
        weights=("rpn",),
    )


@dataclass(slots=True, unsafe_hash=True)
class ModelConfig:
    """The detector."""

    dtype: str = setting(
        "float32",
        "dtype of convolutions and dense layers",
        choices=("float32", "bfloat16"),
        weights=(),
    )
    corners: str = setting(
        "continuous",
        "inclusive: x2 and y2 are one pixel less inside the network, as in matterport's",
        choices=("continuous", "inclusive"),
        weights=("rpn", "box_head"),
    )
    masks: bool = setting(
        True, "predict masks; False: boxes alone (Faster R-CNN), without a mask head", weights=()
    )
    sync_batch_norm: bool = setting(
        True,
        "norm = bn uses the statistics of the whole batch; False: of the images of each device (or "
        "group of devices that share images), whose means become the running ones",
        weights=(),
    )
    pixel: PixelConfig = field(default_factory=PixelConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    fpn: FPNConfig = field(default_factory=FPNConfig)
    anchors: AnchorsConfig = field(default_factory=AnchorsConfig)
    rpn: RPNConfig = field(default_factory=RPNConfig)
    roi: RoIConfig = field(default_factory=RoIConfig)
    box_head: BoxHeadConfig = field(default_factory=BoxHeadConfig)
    cascade: CascadeConfig = field(default_factory=CascadeConfig)
    mask_head: MaskHeadConfig = field(default_factory=MaskHeadConfig)
    point_rend: PointRendConfig = field(default_factory=PointRendConfig)
    mask_scoring: MaskScoringConfig = field(default_factory=MaskScoringConfig)
    keypoints: KeypointsConfig = field(default_factory=KeypointsConfig)
    detections: DetectionsConfig = field(default_factory=DetectionsConfig)

    def validate(self, key: str = "config.model") -> None:
        """Checks every value, and those that have to go together.

        Raises:
            ValueError: naming the key, its value and what is expected.
        """
        check_fields(self, key)
        self.backbone.validate(f"{key}.backbone")
        self.cascade.validate(self.box_head.class_agnostic, f"{key}.cascade")
        self.point_rend.validate(
            self.masks, self.mask_head.class_agnostic, bool(self.cascade.ious), f"{key}.point_rend"
        )
        self.mask_scoring.validate(self.masks, self.point_rend.enabled, f"{key}.mask_scoring")
        self.keypoints.validate(f"{key}.keypoints")
        if self.box_head.class_loss != "softmax" and self.detections.classes == "best":
            raise ValueError(
                f"{key}.detections.classes is 'best', the background included, and of a background "
                f"{key}.box_head.class_loss = {self.box_head.class_loss!r} gives no score; set "
                f"{key}.detections.classes to 'all', or {key}.box_head.class_loss to 'softmax'"
            )
        if len(self.pixel.mean) != len(self.pixel.std):
            raise ValueError(
                f"{key}.pixel.mean has {len(self.pixel.mean)} values and {key}.pixel.std "
                f"{len(self.pixel.std)}; each channel needs one of both"
            )
        if len(self.anchors.sizes) != 5:
            raise ValueError(
                f"{key}.anchors.sizes has {len(self.anchors.sizes)} values; expected one for each "
                "level, P2 to P6"
            )
