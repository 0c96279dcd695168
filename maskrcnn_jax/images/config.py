"""The settings of how an image enters the network, in training and in prediction."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from maskrcnn_jax.config_fields import check_fields, setting
from maskrcnn_jax.config_json import section

_STRIDE = 32  # the coarsest of the backbone


# How a mask goes into its image; images/paste.py has both.
PASTE_RULES = ("exact", "torchvision")


@dataclass(slots=True)
class ImageConfig:
    """Those keys of `config.data` that prediction needs, too."""

    channels: int = setting(
        3,
        "1: grey, 3: RGB, another number: as many as the file has, in its order; "
        "config.model.pixel has one mean and std for each",
        within="[1, inf)",
    )
    depth: int = setting(8, "bits of a value", choices=(8, 16))
    normalize: str = setting(
        "depth",
        "depth: values as the file has them, of 16 bits read as 8 the high byte; percentile: each "
        "channel of an image stretched from config.data.percentiles to the whole range of "
        "config.data.depth, "
        "as Cellpose and StarDist do",
        choices=("depth", "percentile"),
    )
    percentiles: tuple[float, float] = setting(
        (1.0, 99.8),
        "with normalize = percentile: what becomes 0 and the highest value (StarDist's; Cellpose "
        "takes 1 and 99)",
        within="[0, 100]",
    )
    resize: str = setting(
        "short_side",
        "short_side: to config.data.short_side, no longer than config.data.long_side; square: the "
        "long side to "
        "the bucket's, then padding",
        choices=("short_side", "square"),
    )
    short_side: int = setting(800, "short side of the resized image, pixels", within="[1, inf)")
    long_side: int = setting(1333, "maximum of its long side, pixels", within="[1, inf)")
    buckets: tuple[tuple[int, int], ...] = setting(
        ((800, 1088), (1088, 800), (800, 1344), (1344, 800)),
        "heights and widths of the padded input, multiples of 32: one compilation and one kind of "
        "batch each; an image goes to the smallest that it fits",
    )
    max_pixels: int = setting(
        100_000_000, "an image of more pixels is refused before it is decoded", within="[1, inf)"
    )

    def validate(self, key: str = "config.data") -> None:
        """Checks every value.

        Raises:
            ValueError: naming the key, its value and what is expected.
        """
        check_fields(self, key)
        if self.percentiles[0] >= self.percentiles[1]:
            raise ValueError(
                f"{key}.percentiles is {self.percentiles}; the first must be below the second"
            )
        if not self.buckets:
            raise ValueError(f"{key}.buckets is empty; give at least one (height, width)")
        for bucket in self.buckets:
            if any(side < _STRIDE or side % _STRIDE for side in bucket):
                raise ValueError(
                    f"{key}.buckets has {bucket}; each must be (height, width) in multiples of "
                    f"{_STRIDE}, the coarsest stride of the backbone"
                )


def image_config(data: Mapping[str, Any]) -> ImageConfig:
    """Returns the settings of images in the `data` section of a checkpoint's configuration."""
    names = [field.name for field in fields(ImageConfig)]
    return section(ImageConfig, {name: data[name] for name in names if name in data}, "config.data")
