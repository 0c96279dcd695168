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
        """Checks what has to go together.

        Args:
            masks: `config.model.masks`.
            class_agnostic: `config.model.mask_head.class_agnostic`.
            cascade: whether `config.model.cascade` has further heads.
            key: of this section.

        Raises:
            ValueError: naming the key, its value and what is expected.
        """
        if not self.enabled:
            return
        if not masks:
            raise ValueError(
                f"{key}.enabled is True, and with config.model.masks = False there are boxes "
                "alone; set one of them the other way"
            )
        if class_agnostic:
            raise ValueError(
                "config.model.mask_head.class_agnostic is True, and PointRend "
                f"({key}.enabled) has a mask for each class; set one of them to False"
            )
        if cascade and self.train_on_predicted_boxes:
            raise ValueError(
                f"{key}.train_on_predicted_boxes is True, and the box heads of "
                "config.model.cascade hand boxes on themselves; set it to False"
            )
        if self.pool_size % 2:
            raise ValueError(f"{key}.pool_size is {self.pool_size}; expected an even number")
        if self.mask_size > 1024:
            raise ValueError(
                f"{key}.coarse_size is {self.coarse_size} and {key}.subdivisions "
                f"{self.subdivisions}, which make masks of {self.mask_size} x {self.mask_size}; "
                "expected 1024 at most"
            )
