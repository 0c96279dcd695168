"""Whether the settings of PointRend go together, and how much memory they ask for."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maskrcnn_jax.models.config import ModelConfig
    from maskrcnn_jax.models.point_rend.config import PointRendConfig


def check(
    config: "PointRendConfig", masks: bool, class_agnostic: bool, cascade: bool, key: str
) -> None:
    """Checks what has to go together.

    Args:
        config: `config.model.point_rend`, enabled.
        masks: `config.model.masks`.
        class_agnostic: `config.model.mask_head.class_agnostic`.
        cascade: whether `config.model.cascade` has further heads.
        key: of this section.

    Raises:
        ValueError: naming the key, its value and what is expected.
    """
    if not masks:
        raise ValueError(
            f"{key}.enabled is True, and with config.model.masks = False there are "
            "boxes alone; set one of them the other way"
        )
    if class_agnostic:
        raise ValueError(
            "config.model.mask_head.class_agnostic is True, and PointRend "
            f"({key}.enabled) has a mask for each class; set one of them to False"
        )
    if cascade and config.train_on_predicted_boxes:
        raise ValueError(
            f"{key}.train_on_predicted_boxes is True, and the box heads of "
            "config.model.cascade hand boxes on themselves; set it to False"
        )
    if config.pool_size % 2:
        raise ValueError(f"{key}.pool_size is {config.pool_size}; expected an even number")
    if config.mask_size > 1024:
        raise ValueError(
            f"{key}.coarse_size is {config.coarse_size} and {key}.subdivisions "
            f"{config.subdivisions}, which make masks of {config.mask_size} x {config.mask_size}; "
            "expected 1024 at most"
        )


def array_sizes(model: "ModelConfig", num_classes: int) -> dict[str, int]:
    """Returns how many numbers the largest arrays have, by the keys that say so.

    Args:
        model: `config.model`, with PointRend.
        num_classes: K.
    """
    points = model.point_rend
    return {
        "model.detections.max_per_image model.point_rend.coarse_size "
        "model.point_rend.subdivisions": model.detections.max_per_image * points.mask_size**2,
        "model.detections.max_per_image model.point_rend.subdivision_points "
        "model.point_rend.point_channels": (
            model.detections.max_per_image
            * min(points.subdivision_points, points.mask_size**2)
            * max(points.point_channels, num_classes)
        ),
        "model.roi.samples_per_image model.point_rend.train_points "
        "model.point_rend.oversampling": int(
            model.roi.samples_per_image * points.train_points * points.oversampling * 2
        ),
        "model.point_rend.dense_channels": points.dense_channels * points.dense_channels,
    }
