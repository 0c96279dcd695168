"""Whether the settings of a cascade go together."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maskrcnn_jax.models.cascade.config import CascadeConfig


def check(config: "CascadeConfig", class_agnostic: bool, key: str) -> None:
    """Checks what has to go together.

    Args:
        config: `config.model.cascade`, with further heads.
        class_agnostic: `config.model.box_head.class_agnostic`.
        key: of this section.

    Raises:
        ValueError: naming the key, its value and what is expected.
    """
    if not class_agnostic:
        raise ValueError(
            f"{key}.ious is {config.ious}, whose heads hand one box for all classes on; set "
            "config.model.box_head.class_agnostic = True, or leave config.model.cascade.ious "
            "empty"
        )
    if len(config.coder_weights) != len(config.ious):
        raise ValueError(
            f"{key}.coder_weights has {len(config.coder_weights)} groups of four and {key}.ious "
            f"{len(config.ious)} values; each further head needs one of both"
        )
    if min(min(weights) for weights in config.coder_weights) <= 0:
        raise ValueError(f"{key}.coder_weights is {config.coder_weights}; expected values above 0")
