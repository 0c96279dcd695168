"""PennFudan's pedestrians: 170 photographs, 345 people, the data of torchvision's tutorial.

    python train.py --config=configs/penn_fudan.py

`PennFudanPed` is the folder, as PennFudanPed.zip unpacks. A fifth of the images, chosen by a hash
of their names, is evaluated on.

It starts from a detector trained on COCO, which knows people. Cost: 500 steps of 2 images, some
minutes of a GPU. It has not been run. torchvision's tutorial ("TorchVision Object Detection
Finetuning Tutorial") starts likewise, trains 10 epochs, evaluates on 50 images, and prints a box AP
of 79.9.
"""

from ml_collections import ConfigDict

from maskrcnn_jax.config import Config


def get_config() -> Config:
    config = Config()
    config.name = "penn_fudan"
    config.init = "coco_torchvision_v1"
    config.data.format = "penn_fudan"
    config.data.train = ConfigDict(dict(folder="PennFudanPed", split="train"))
    config.data.val = ConfigDict(dict(folder="PennFudanPed", split="val"))
    config.data.max_instances = 32
    config.data.resize = "square"
    config.data.buckets = ((800, 800),)

    train = config.train
    train.batch_size = 2
    train.steps = 500
    train.warmup_steps = 50
    train.learning_rate = 0.0025  # 0.02 for 16 images, in proportion
    train.schedule = "cosine"
    train.clip_norm = 10.0
    train.checkpoint_every = 250
    train.eval_every = 0
    config.eval.batch_size = 2
    return config
