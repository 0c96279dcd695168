"""LVIS v1: 1,203 classes on COCO's photographs.

    python train.py --config=configs/lvis.py --config.data.train.root=DIR --config.data.val.root=DIR

DIR has `lvis_v1_train.json` and `lvis_v1_val.json`, and COCO's `train2017/` and `val2017/`, of
which LVIS's validation images are taken. As Detectron2's mask_rcnn_R_50_FPN_1x of
LVISv1-InstanceSegmentation: 180,000 steps of 16 images, images of rare classes repeated (0.001),
short sides of 640 to 800, 300 detections an image. Classes are trained by the federated loss, as in
its projects/ViTDet (50 classes of an image; scores from 0.02 on).

Cost: 2.9 million images, 5.3 hours of an H200's steps (151 images/s, benchmarks/RESULTS.md). It has
not been run. Published on v1 with this loss: a box AP of 28.3 by CenterNet2 with ResNet-50 (26.5
without; MODEL_ZOO.md of xingyizhou/CenterNet2), 40.2 and a mask AP of 38.2 by Detectron2's
ViTDet-B. By Mask R-CNN with a softmax, which `--config.model.box_head.class_loss=softmax
--config.model.detections.score_threshold=0.0001` trains, Detectron2 has 23.6 and 24.4 on v0.5 in
half of the steps (its MODEL_ZOO.md). Measured are LVIS's numbers, which needs
`pip install hotcoco`; without it, give `--config.eval.metrics="()"
--config.train.best_metric=segm/AP`.
"""

from ml_collections import ConfigDict

from maskrcnn_jax.config import Config


def get_config() -> Config:
    config = Config()
    config.name = "lvis"
    config.init = "imagenet_torchvision_r50"
    config.data.format = "coco"
    config.data.train = ConfigDict(dict(root="lvis", images=".", annotations="lvis_v1_train.json"))
    config.data.val = ConfigDict(dict(root="lvis", images=".", annotations="lvis_v1_val.json"))
    config.data.max_instances = 300
    config.data.mask_size = 56
    config.data.repeat_threshold = 0.001
    config.data.augment.short_sides = (640, 672, 704, 736, 768, 800)

    config.model.box_head.class_loss = "federated"
    config.model.detections.score_threshold = 0.02
    config.model.detections.max_per_image = 300
    config.eval.metrics = ("lvis",)
    config.eval.max_detections = (1, 100, 300)

    train = config.train
    train.steps = 180_000
    train.decay_steps = (120_000, 160_000)
    train.eval_every = 60_000
    train.best_metric = "lvis/segm/AP"
    return config
