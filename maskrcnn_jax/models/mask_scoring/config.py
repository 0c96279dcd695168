"""The settings of Mask Scoring R-CNN: `config.model.mask_scoring`."""

from dataclasses import dataclass

from maskrcnn_jax.config_fields import setting
from maskrcnn_jax.models.heads_config import POSITIVE

_HEAD = ("mask_iou_head",)


@dataclass(slots=True, unsafe_hash=True)
class MaskScoringConfig:
    """A head that predicts the IoU of each mask with the true one, a factor of the mask's score.

    The defaults are the paper's (models/mask_scoring/).
    """

    enabled: bool = setting(False, "predict the IoU of masks", weights=_HEAD)
    convs: int = setting(4, "3x3 convolutions", within="[1, 64]", weights=_HEAD)
    channels: int = setting(256, "channels of these", within=POSITIVE, weights=_HEAD)
    dense_layers: int = setting(2, "dense layers", within="[1, 16]", weights=_HEAD)
    dense_channels: int = setting(1024, "channels of these", within=POSITIVE, weights=_HEAD)
    loss_weight: float = setting(0.5, "factor of the loss", within="(0, inf)", weights=())

    def validate(self, masks: bool, point_rend: bool, key: str) -> None:
        """Checks what has to go together; raises ValueError as `checks.check`."""
        if self.enabled:
            # Imported here: a detector without this head needs none of it.
            from maskrcnn_jax.models.mask_scoring.checks import check

            check(masks, point_rend, key)
