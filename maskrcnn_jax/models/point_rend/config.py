"""The settings of PointRend: `config.model.point_rend`."""

from dataclasses import dataclass

from maskrcnn_jax.config_fields import setting
from maskrcnn_jax.models.heads_config import POSITIVE


@dataclass(slots=True, unsafe_hash=True)
class PointRendConfig:
    """A coarse mask head and a head of single points, in the place of `config.model.mask_head`.

    The defaults are those of Detectron2's `pointrend_rcnn_R_50_FPN_1x_coco`, whose masks are 224 x
    224 (models/point_rend/).
    """

    enabled: bool = setting(
        False, "masks by PointRend instead of config.model.mask_head", weights=("mask_head",)
    )
    pool_size: int = setting(
        14,
        "side of the features that the coarse head is given, even",
        within="[2, 64]",
        weights=("mask_head",),
    )
    coarse_size: int = setting(7, "side of a coarse mask", within="[1, 64]", weights=("mask_head",))
    dense_layers: int = setting(
        2, "dense layers of the coarse head", within="[1, 16]", weights=("mask_head",)
    )
    dense_channels: int = setting(
        1024, "channels of these", within=POSITIVE, weights=("mask_head",)
    )
    point_layers: int = setting(
        3, "layers of the head of points", within="[1, 16]", weights=("mask_head",)
    )
    point_channels: int = setting(256, "channels of these", within=POSITIVE, weights=("mask_head",))
    train_on_predicted_boxes: bool = setting(
        True,
        "train the masks in the boxes that the box head makes of the RoIs, not in the RoIs",
        weights=(),
    )
    train_points: int = setting(196, "points in the loss of a RoI", within=POSITIVE, weights=())
    oversampling: float = setting(
        3.0, "random points that these are chosen from, times as many", within="[1, 100]",
        weights=(),
    )  # fmt: skip
    importance: float = setting(
        0.75,
        "fraction of them that are the most uncertain of the random points; the rest are any",
        within="[0, 1]",
        weights=(),
    )
    subdivisions: int = setting(
        5, "times that a mask's side is doubled, from the coarse one's", within="[0, 10]",
        weights=("mask_head",),
    )  # fmt: skip
    subdivision_points: int = setting(
        784,
        "points of a mask that are predicted after each doubling, the most uncertain ones",
        within=POSITIVE,
        weights=("mask_head",),
    )

    @property
    def mask_size(self) -> int:
        """Side of a predicted mask."""
        return self.coarse_size * 2**self.subdivisions

    def validate(
        self, masks: bool, class_agnostic: bool, cascade: bool, key: str = "config.model.point_rend"
    ) -> None:
        """Checks what has to go together; raises ValueError as `checks.check`."""
        if self.enabled:
            # Imported here: a detector without PointRend needs none of it.
            from maskrcnn_jax.models.point_rend.checks import check

            check(self, masks, class_agnostic, cascade, key)
