"""Mask R-CNN with a ConvNeXt on COCO 2017 (Liu et al. 2022, "A ConvNet for the 2020s").

    python train.py --config=configs/coco_convnext.py --config.data.train.root=DIR \
        --config.data.val.root=DIR
    python train.py --config=configs/coco_convnext.py:s ...

DIR is that of configs/coco.py. `t` (the default) is ConvNeXt-T, `s` ConvNeXt-S. Both begin with
torchvision's weights of ImageNet and train all layers for 36 epochs by AdamW, at rates that fall
from layer to layer towards the image; blocks are left out at random (stochastic depth). The
settings are those of mmdetection's configs/convnext, which has random crops besides.

Expected, by its README: `t` 46.2 box AP and 41.7 mask AP, where Detectron2's ResNet-50 has 41.0
and 37.2 in the 3x schedule. With a cascade and the 4conv+1fc head, `t` has 50.3 and 43.6 there and
`s` 51.8 and 44.8; of `s` with the plain heads no number is published. Not run to its end here.

Cost: the operations of configs/coco.py:3x for `t`, 1.4 times as many for `s`. At the rate of
configs/coco.py on one H200 that would be 8 hours for `t`; how fast the depthwise convolutions are
there has not been measured.

    --config.init=convnext_tiny.safetensors    a file of timm's, such as convnext_tiny.in12k_ft_in1k
    --config.train.remat=backbone              less memory
"""

from maskrcnn_jax import config_flags, recipes
from maskrcnn_jax.config import Config
from maskrcnn_jax.config_json import set_values

# Blocks of each stage, stochastic depth, decay of the learning rate from layer to layer.
SIZES = {"t": ((3, 3, 9, 3), 0.4, 0.95), "s": ((3, 3, 27, 3), 0.6, 0.7)}


def get_config(size: str = "t") -> Config:
    """Returns the recipe.

    Args:
        size: a key of `SIZES`, which comes after the file's name and a colon.

    Raises:
        ValueError: for another one.
    """
    if size not in SIZES:
        raise ValueError(
            f"there is no size {size!r}; give --config=configs/coco_convnext.py:NAME with one of "
            f"{', '.join(SIZES)}"
        )
    config = config_flags.read(f"{recipes.folder() / 'coco.py'}")
    config.name = f"coco_convnext_{size}"
    config.init = f"imagenet_torchvision_convnext_{size}"
    blocks, stochastic_depth, layer_decay = SIZES[size]
    backbone = config.model.backbone
    backbone.kind = "convnext"
    backbone.convnext.blocks = blocks
    backbone.convnext.stochastic_depth = stochastic_depth
    config.data.augment.short_sides = tuple(range(480, 801, 32))
    schedule = dict(
        layers="all",
        optimizer="adamw",
        learning_rate=1e-4,
        weight_decay=0.05,
        decay_norm_and_bias=False,
        layer_decay=layer_decay,
        warmup_steps=1000,
        steps=264_000,
        decay_steps=(198_000, 242_000),
    )
    set_values(config.train, schedule)
    return config
