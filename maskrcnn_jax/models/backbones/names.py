"""What a backbone is, in words."""

from maskrcnn_jax.models.backbones.config import BackboneConfig, ConvNeXtConfig

# Blocks, and channels of C2.
_LETTERS = {
    ((3, 3, 9, 3), 96): "T",
    ((3, 3, 27, 3), 96): "S",
    ((3, 3, 27, 3), 128): "B",
    ((3, 3, 27, 3), 192): "L",
}


def backbone_name(config: BackboneConfig) -> str:
    """Returns the usual name of `config.model.backbone`, such as ResNet-50."""
    if config.kind == "convnext":
        return _convnext(config.convnext)
    if config.groups > 1:
        return f"ResNeXt-{config.depth} {config.groups}x{config.width_per_group}d"
    return f"{'Wide ' * (config.width_per_group > 64)}ResNet-{config.depth}"


def _convnext(config: ConvNeXtConfig) -> str:
    of_letter = config.channels == tuple(config.channels[0] * 2**i for i in range(4))
    if of_letter and (config.blocks, config.channels[0]) in _LETTERS:
        return f"ConvNeXt-{_LETTERS[config.blocks, config.channels[0]]}"
    return f"ConvNeXt of {sum(config.blocks)} blocks"
