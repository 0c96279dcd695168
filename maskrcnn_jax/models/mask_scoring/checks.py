"""Whether a model can have a head that scores masks, and how much memory that takes."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maskrcnn_jax.models.config import ModelConfig


def check(masks: bool, point_rend: bool, key: str) -> None:
    """Checks what has to go together.

    Args:
        masks: `config.model.masks`.
        point_rend: `config.model.point_rend.enabled`.
        key: of this section, which is enabled.

    Raises:
        ValueError: naming the key, its value and what is expected.
    """
    if not masks:
        raise ValueError(
            f"{key}.enabled is True, and with config.model.masks = False there is no mask to be "
            "scored; set one of them the other way"
        )
    if point_rend:
        raise ValueError(
            f"{key}.enabled and config.model.point_rend.enabled are True; the head that scores "
            "masks is given what config.model.mask_head makes: set one of them to False"
        )


def array_sizes(model: "ModelConfig", num_classes: int) -> dict[str, int]:
    """Returns how many numbers the largest arrays have, by the keys that say so.

    Args:
        model: `config.model`, with this head.
        num_classes: K.
    """
    head, start = model.mask_scoring, "model.mask_scoring."
    pooled = (model.mask_head.pool_size + 1) ** 2
    return {
        f"{start}channels": 9 * head.channels**2,
        f"model.roi.samples_per_image model.mask_head.pool_size {start}channels": (
            model.roi.samples_per_image * pooled * head.channels
        ),
        f"model.mask_head.pool_size {start}channels {start}dense_channels": (
            pooled // 4 * head.channels * head.dense_channels
        ),
        f"{start}dense_channels": head.dense_channels * max(head.dense_channels, num_classes),
    }
