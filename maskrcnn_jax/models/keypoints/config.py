"""The settings of the keypoint head: `config.model.keypoints`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from maskrcnn_jax.config_fields import setting
from maskrcnn_jax.models.heads_config import POSITIVE

if TYPE_CHECKING:
    from maskrcnn_jax.keypoint_set import KeypointSet

Pairs = tuple[tuple[str, str], ...]
_HEAD = ("keypoint_head",)


@dataclass(slots=True, unsafe_hash=True)
class KeypointsConfig:
    """Keypoints of each object, and the head that finds them (models/keypoints/head.py).

    `persons.py` beside this file has COCO's values for persons.
    """

    names: tuple[str, ...] = setting(
        (), "names of the P keypoints of an object; none: no keypoint head", weights=_HEAD
    )
    flip_pairs: Pairs = setting(
        (),
        "pairs of names that change places in a mirrored image: (('left_eye', 'right_eye'), ...)",
        weights=_HEAD,
    )
    skeleton: Pairs = setting((), "pairs of names between which a line is drawn", weights=())
    sigmas: tuple[float, ...] = setting(
        (0.05,),
        "how precisely people place each keypoint, for OKS: one number for each name, or for all",
        within="(0, inf)",
        weights=(),
    )
    half_pixel: bool = setting(
        True,
        "positions in annotations name pixels, whose centres are half a pixel further, as in "
        "Detectron2; False: they are taken as they are, as torchvision",
        weights=_HEAD,
    )
    pool_size: int = setting(
        14,
        "side of the pooled features; heatmaps are four times as large",
        within=POSITIVE,
        weights=_HEAD,
    )
    convs: int = setting(8, "3x3 convolutions", within="[1, 64]", weights=_HEAD)
    channels: int = setting(512, "channels of these", within=POSITIVE, weights=_HEAD)
    loss_weight: float = setting(1.0, "factor of the loss", within="(0, inf)", weights=())
    loss_normalizer: str = setting(
        "visible",
        "the loss is divided by the keypoints that are in it; fixed: by all that the sampled "
        "positives could have, as Detectron2's NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS = False",
        choices=("visible", "fixed"),
        weights=(),
    )

    def keypoint_set(self) -> "KeypointSet | None":
        """Returns what the keypoints are; None without any."""
        if not self.names:
            return None
        # Imported here, as below: a detector without keypoints needs none of it.
        from maskrcnn_jax.models.keypoints.meaning import keypoint_set

        return keypoint_set(self)

    def validate(self, key: str = "config.model.keypoints") -> None:
        """Checks what has to go together; raises ValueError as `meaning.check`."""
        if self.names:
            from maskrcnn_jax.models.keypoints.meaning import check

            check(self, key)
