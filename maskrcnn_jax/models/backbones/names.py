"""What a backbone is, in words."""

from maskrcnn_jax.models.backbones.config import BackboneConfig, ConvNeXtConfig, ViTConfig

# Blocks, and channels of C2.
_LETTERS = {
    ((3, 3, 9, 3), 96): "T",
    ((3, 3, 27, 3), 96): "S",
    ((3, 3, 27, 3), 128): "B",
    ((3, 3, 27, 3), 192): "L",
}
# Blocks and channels.
_LETTERS_OF_VIT = {(12, 384): "S", (12, 768): "B", (24, 1024): "L", (32, 1280): "H"}


def backbone_name(config: BackboneConfig) -> str:
    """Returns the usual name of `config.model.backbone`, such as ResNet-50."""
    if config.kind == "convnext":
        return _convnext(config.convnext)
    if config.kind == "vit":
        return _vit(config.vit)
    if config.groups > 1:
        return f"ResNeXt-{config.depth} {config.groups}x{config.width_per_group}d"
    return f"{'Wide ' * (config.width_per_group > 64)}ResNet-{config.depth}"


def _convnext(config: ConvNeXtConfig) -> str:
    of_letter = config.channels == tuple(config.channels[0] * 2**i for i in range(4))
    if of_letter and (config.blocks, config.channels[0]) in _LETTERS:
        return f"ConvNeXt-{_LETTERS[config.blocks, config.channels[0]]}"
    return f"ConvNeXt of {sum(config.blocks)} blocks"


def _vit(config: ViTConfig) -> str:
    letter = _LETTERS_OF_VIT.get((config.depth, config.channels))
    return f"ViT-{letter}" if letter else f"ViT of {config.depth} blocks"
