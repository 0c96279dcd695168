"""Settings of the backbone that make no sense together."""

from typing import TYPE_CHECKING

from maskrcnn_jax.config_fields import fields

if TYPE_CHECKING:
    from maskrcnn_jax.models.backbones.config import BackboneConfig, ViTConfig


def check_kind(config: "BackboneConfig", key: str) -> None:
    """Checks that nothing is set that only another kind of backbone has.

    Args:
        config: `config.model.backbone`.
        key: of that section.

    Raises:
        ValueError: naming the key, its value and the kind.
    """
    for name, field, value in fields(config, key):
        section, _, inner = name.removeprefix(f"{key}.").partition(".")
        kind = section if inner else "resnet"
        if section != "kind" and kind != config.kind and value != field.default:
            raise ValueError(
                f"{name} is {value!r}, which is for the kind {kind!r}, and {key}.kind is "
                f"{config.kind!r}; leave it at {field.default!r}, or set {key}.kind"
            )


def check_groups(config: "BackboneConfig", key: str) -> None:
    """Checks that a ResNet has the groups of channels that are asked for.

    Args:
        config: `config.model.backbone`.
        key: of that section.

    Raises:
        ValueError: naming the key and its value.
    """
    given = (("groups", config.groups, 1), ("width_per_group", config.width_per_group, 64))
    for name, value, usual in given:
        if value != usual and config.depth < 50:
            raise ValueError(
                f"{key}.{name} is {value}, which needs the bottlenecks of 50 layers or more; "
                f"{key}.depth is {config.depth}: raise it, or leave {name} at {usual}"
            )
    if config.width * config.width_per_group < 64:
        raise ValueError(
            f"{key}.width = {config.width} and {key}.width_per_group = {config.width_per_group} "
            "leave a group without channels (their product is below 64); raise one of them"
        )


def check_vit(config: "ViTConfig", key: str) -> None:
    """Checks that a ViT has channels for its heads and pyramid, and the blocks that are named.

    Args:
        config: `config.model.backbone.vit`.
        key: of that section.

    Raises:
        ValueError: naming the key and its value.
    """
    for what, divisor in ((f"{key}.heads", config.heads), ("the up-sampling of the pyramid", 4)):
        if config.channels % divisor:
            raise ValueError(
                f"{key}.channels is {config.channels}, which {what} divides by {divisor}; make it "
                "a multiple"
            )
    if far := [i for i in config.global_blocks if i >= config.depth]:
        raise ValueError(
            f"{key}.global_blocks names block {far[0]}, but with {key}.depth = {config.depth} the "
            f"last one is {config.depth - 1}"
        )
