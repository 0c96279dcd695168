"""ViTDet on COCO 2017: Mask R-CNN with a plain ViT-B or ViT-L (Li et al. 2022).

    python train.py --config=configs/coco_vitdet.py --config.data.train.root=DIR \
        --config.data.val.root=DIR
    python train.py --config=configs/coco_vitdet.py:l ...

DIR is that of configs/coco.py. `b` (the default) is ViT-B, `l` ViT-L. Both begin with the weights
of MAE, which saw ImageNet without labels, and train all layers for 100 epochs of large-scale jitter
by AdamW, 64 images of 1024 x 1024 a step, at rates that fall from block to block towards the image;
blocks are left out at random. The settings are those of Detectron2's mask_rcnn_vitdet_b_100ep and
_l_100ep (projects/ViTDet), but for two: biases have no weight decay here, and RoIAlign takes 2 x 2
samples (docs/deviations.md).

Expected, by its README (`b` 51.6 box AP and 45.9 mask AP, `l` 55.5 and 49.2), where configs/coco.py
has 38.6 and 35.2. Not run to its end here.

Cost: an image has 2.9 times the operations of configs/coco.py's convolutions and dense layers with
`b` and 6.6 times with `l`, and there are 8 times as many images as in its 1x schedule. At the rate
of configs/coco.py on one H200 that would be 62 hours for `b` and 140 for `l`; how fast attention is
there has not been measured.

    --config.init=coco_detectron2_vitdet_b    that model's weights, for data of your own
    --config.train.remat=backbone             less memory: attention to the whole image has 12 x
                                              4096 x 4096 weights in a block of `b`, 0.8 GB an image
    --config.model.dtype=bfloat16             as Detectron2, which trains in float16
"""

from maskrcnn_jax import config_flags, recipes
from maskrcnn_jax.config import Config
from maskrcnn_jax.config_json import set_values

# Of config.model.backbone.vit, and the decay of the learning rate from block to block.
SIZES = {
    "b": (dict(stochastic_depth=0.1), 0.7),
    "l": (
        dict(
            depth=24,
            channels=1024,
            heads=16,
            global_blocks=(5, 11, 17, 23),
            stochastic_depth=0.4,
        ),
        0.8,
    ),
}


def get_config(size: str = "b") -> Config:
    """Returns the recipe.

    Args:
        size: a key of `SIZES`, which comes after the file's name and a colon.

    Raises:
        ValueError: for another one.
    """
    if size not in SIZES:
        raise ValueError(
            f"there is no size {size!r}; give --config=configs/coco_vitdet.py:NAME with one of "
            f"{', '.join(SIZES)}"
        )
    config = config_flags.read(f"{recipes.folder() / 'coco.py'}")
    config.name = f"coco_vitdet_{size}"
    config.init = f"imagenet_mae_vit_{size}"
    vit, layer_decay = SIZES[size]
    model = config.model
    model.backbone.kind = "vit"
    set_values(model.backbone.vit, vit)
    model.rpn.convs = 2
    model.box_head.convs = 4
    for part in (model.fpn, model.box_head, model.mask_head):
        part.norm, part.norm_eps = "ln", 1e-6
    # Boxes by L1, and regions as Detectron2.
    model.box_head.box_loss = model.rpn.box_loss = "l1"
    model.anchors.rounded, model.anchors.strides = False, "nominal"
    model.roi.aligned = True
    model.rpn.post_nms_top_n_train = 1000
    config.data.resize = "square"
    config.data.buckets = ((1024, 1024),)
    config.data.augment.scale_range = (0.1, 2.0)
    schedule = dict(
        layers="all",
        batch_size=64,
        optimizer="adamw",
        learning_rate=1e-4,
        weight_decay=0.1,
        decay_norm_and_bias=False,
        layer_decay=layer_decay,
        warmup_steps=250,
        steps=184_375,
        decay_steps=(163_889, 177_546),
    )
    set_values(config.train, schedule)
    return config
