"""What the recipes for a CPU share: a small network, trained from scratch by AdamW."""

from maskrcnn_jax.config import Config


def get_config() -> Config:
    config = Config()
    model = config.model
    model.backbone.depth = 18
    model.backbone.width = 32
    model.backbone.norm = "gn"
    model.fpn.channels = 64
    model.box_head.dense_channels = 256
    model.mask_head.channels = 64

    train = config.train
    train.layers = "all"
    train.optimizer = "adamw"
    train.learning_rate = 1e-3
    train.schedule = "cosine"
    train.clip_norm = 10.0
    return config
