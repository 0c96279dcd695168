"""Pascal VOC's segmentation of 2012, or of 2007, as its archive unpacks.

    python train.py --config=configs/voc.py
    python train.py --config=configs/voc.py:2007 --config.data.train.folder=DIR/VOC2007 \
        --config.data.val.folder=DIR/VOC2007

`VOCdevkit/VOC2012` is the folder: VOCtrainval_11-May-2012.tar, or VOCtrainval_06-Nov-2007.tar of
2007. Training images are those of `ImageSets/Segmentation/train.txt`, 1,464 or 209; evaluated are
those of `val.txt`, 1,449 or 213.

It starts from a detector trained on COCO, which knows VOC's twenty classes, fourteen of them by the
same name: 1,464 images are few for ImageNet's weights alone. Cost: 4,500 steps of 16 images, 50
epochs, 8 minutes of an H200's steps (151 images/s, benchmarks/RESULTS.md). It has not been run.
Published, trained without COCO, on these images and more of the same kind (SBD): AP of masks at IoU
0.5 on `val`, 63.5 with VGG-16 (Dai et al., "Instance-aware Semantic Segmentation via Multi-task
Network Cascades", CVPR 2016). VOC's own rule is measured besides COCO's: `segm/voc12`.
"""

from ml_collections import ConfigDict

from maskrcnn_jax.config import Config

YEARS = {"2012": "voc12", "2007": "voc07"}  # and the rule of the year


def get_config(year: str = "2012") -> Config:
    """Returns the recipe.

    Args:
        year: "2012" or "2007", after the file's name and a colon.

    Raises:
        ValueError: for another one.
    """
    if year not in YEARS:
        raise ValueError(f"VOC of {year!r} has no recipe; give one of {', '.join(YEARS)}")
    config = Config()
    config.name = f"voc{year}"
    config.init = "coco_torchvision_v1"
    config.data.format = "voc"
    folder = f"VOCdevkit/VOC{year}"
    config.data.train = ConfigDict(dict(folder=folder, image_set="train"))
    config.data.val = ConfigDict(dict(folder=folder, image_set="val"))
    config.data.max_instances = 64
    config.data.resize = "square"  # images of at most 500 pixels
    config.data.buckets = ((800, 800),)
    config.eval.metrics = (YEARS[year],)

    train = config.train
    train.steps = 4_500 if year == "2012" else 1_300
    train.warmup_steps = 200
    train.learning_rate = 0.01
    train.schedule = "cosine"
    train.checkpoint_every = 500
    train.eval_every = 0
    return config
