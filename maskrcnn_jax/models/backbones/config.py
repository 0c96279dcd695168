"""The settings of the backbone: `config.model.backbone`."""

from dataclasses import dataclass

from maskrcnn_jax.config_fields import fields, setting
from maskrcnn_jax.models.heads_config import NORMS, POSITIVE

_OWN = ("backbone",)  # weights of the backbone need the value


@dataclass(slots=True, unsafe_hash=True)
class BackboneConfig:
    """The backbone. Beside its kind stand a ResNet's settings; another kind has its section."""

    kind: str = setting("resnet", "what kind of network it is", choices=("resnet",), weights=_OWN)
    depth: int = setting(
        50,
        "layers of the ResNet",
        choices=(18, 34, 50, 101, 152),
        weights=_OWN,
    )
    width: int = setting(
        64,
        "channels of the stem; every later stage has a multiple",
        within=POSITIVE,
        weights=_OWN,
    )
    norm: str = setting(
        "frozen_bn",
        "normalisation layers",
        choices=NORMS[1:],
        weights=_OWN,
    )
    norm_eps: float = setting(1e-5, "epsilon of the normalisation", within="[0, inf)", weights=_OWN)
    stride_in_1x1: bool = setting(
        False,
        "stride in the 1x1 convolution (original ResNet) instead of the 3x3 (v1.5, torchvision)",
        weights=_OWN,
    )
    pool_padding: str = setting(
        "symmetric",
        "padding of the stem's max pooling; same: at the right and bottom, as TensorFlow",
        choices=("symmetric", "same"),
        weights=_OWN,
    )

    def validate(self, key: str = "config.model.backbone") -> None:
        """Checks that nothing is set that only another kind of backbone has.

        Raises:
            ValueError: naming the key, its value and the kind.
        """
        for name, field, value in fields(self, key):
            section, _, inner = name.removeprefix(f"{key}.").partition(".")
            kind = section if inner else "resnet"
            if section != "kind" and kind != self.kind and value != field.default:
                raise ValueError(
                    f"{name} is {value!r}, which is for the kind {kind!r}, and {key}.kind is "
                    f"{self.kind!r}; leave it at {field.default!r}, or set {key}.kind"
                )

    def name(self) -> str:
        """Returns what it is in words, such as ResNet-50."""
        return f"ResNet-{self.depth}"
