"""The settings of the backbone: `config.model.backbone`."""

from dataclasses import dataclass, field

from maskrcnn_jax.config_fields import setting
from maskrcnn_jax.models.heads_config import NORMS, POSITIVE

# Each kind, and its file; `interface.py` says what is in it.
KINDS = {
    "resnet": "maskrcnn_jax.models.backbones.resnet",
    "convnext": "maskrcnn_jax.models.backbones.convnext",
    "vit": "maskrcnn_jax.models.backbones.vit",
}
_OWN = ("backbone",)  # weights of the backbone need the value
_Four = tuple[int, int, int, int]


@dataclass(slots=True, unsafe_hash=True)
class ConvNeXtConfig:
    """A ConvNeXt; the defaults are those of ConvNeXt-T."""

    blocks: _Four = setting(
        (3, 3, 9, 3), "blocks of C2 to C5; 3,3,27,3 in S and B", within="[1, 64]", weights=_OWN
    )
    channels: _Four = setting(
        (96, 192, 384, 768), "channels of C2 to C5", within=POSITIVE, weights=_OWN
    )
    norm_features: bool = setting(
        True, "normalise each of C2 to C5 before the pyramid, as the authors' detectors", weights=()
    )
    layer_scale: float = setting(
        1e-6,
        "factor of what a new block adds, to begin with; 1 in mmdetection",
        within="[0, inf)",
        weights=(),
    )
    stochastic_depth: float = setting(
        0.0,
        "probability that the last block is left out for an image in training; that of the others "
        "rises to it from 0",
        within="[0, 1)",
        weights=(),
    )


@dataclass(slots=True, unsafe_hash=True)
class ViTConfig:
    """A plain ViT with windows (ViTDet); the defaults are those of ViT-B at 1024 x 1024."""

    depth: int = setting(12, "blocks", within="[4, 256]", weights=_OWN)
    channels: int = setting(768, "channels of every block", within=POSITIVE, weights=_OWN)
    heads: int = setting(12, "heads of the attention", within=POSITIVE, weights=_OWN)
    window: int = setting(14, "side of the windows, patches", within=POSITIVE, weights=_OWN)
    global_blocks: tuple[int, ...] = setting(
        (2, 5, 8, 11), "blocks, from 0, without windows", within="[0, inf)", weights=_OWN
    )
    position_grid: int = setting(
        14, "side of the image of the stored positions, patches", within="[1, 1024]", weights=_OWN
    )
    relative_grid: int = setting(
        64, "the same of the relative ones of global blocks", within="[1, 1024]", weights=_OWN
    )
    stochastic_depth: float = setting(
        0.0, "as config.model.backbone.convnext.stochastic_depth", within="[0, 1)", weights=()
    )


@dataclass(slots=True, unsafe_hash=True)
class BackboneConfig:
    """The backbone. Beside its kind stand a ResNet's settings; another kind has its section."""

    kind: str = setting("resnet", "what kind of network it is", choices=tuple(KINDS), weights=_OWN)
    depth: int = setting(50, "layers of the ResNet", choices=(18, 34, 50, 101, 152), weights=_OWN)
    width: int = setting(
        64, "channels of the stem; every later stage has a multiple", within=POSITIVE, weights=_OWN
    )
    norm: str = setting("frozen_bn", "normalisation layers", choices=NORMS[1:4], weights=_OWN)
    norm_eps: float = setting(1e-5, "epsilon of the normalisation", within="[0, inf)", weights=_OWN)
    stride_in_1x1: bool = setting(
        False,
        "stride in the 1x1 convolution (original ResNet) instead of the 3x3 (v1.5, torchvision)",
        weights=_OWN,
    )
    groups: int = setting(
        1,
        "groups of channels in the 3x3 convolutions (ResNeXt: 32)",
        within="[1, 256]",
        weights=_OWN,
    )
    width_per_group: int = setting(
        64,
        "channels of a group in C2 with a width of 64; ResNeXt-101 32x8d: 8, a wide ResNet: 128",
        within="[1, 1024]",
        weights=_OWN,
    )
    pool_padding: str = setting(
        "symmetric",
        "padding of the stem's max pooling; same: at the right and bottom, as TensorFlow",
        choices=("symmetric", "same"),
        weights=_OWN,
    )

    convnext: ConvNeXtConfig = field(default_factory=ConvNeXtConfig)
    vit: ViTConfig = field(default_factory=ViTConfig)

    def validate(self, key: str = "config.model.backbone") -> None:
        """Checks what has to go together, and that nothing is set that only another kind has.

        Raises:
            ValueError: naming the key, its value and the kind.
        """
        # Imported here: a program that predicts has a backbone that was checked when it was loaded.
        from maskrcnn_jax.models.backbones.checks import check_groups, check_kind, check_vit

        check_kind(self, key)
        check_groups(self, key)
        check_vit(self.vit, f"{key}.vit")
