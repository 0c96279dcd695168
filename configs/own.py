"""Images of your own: a folder of labelme files, another tool's export, or label images.

    python -m maskrcnn_jax.data check --config=own:photos
    python train.py --config=own:photos --workdir=runs/own
    python predict.py --workdir=runs/own new.jpg

`photos` is the folder: of labelme files; a COCO export of Roboflow, CVAT or Label Studio, or YOLO's
files with `data.yaml`, as it was unpacked; or label images of Cellpose or StarDist. A fifth of the
images, chosen by a hash of their names, is kept apart for evaluation, where the layout does not say
which. Any argument of a reader can be added on the command line,
`--config.data.train.crowd_as_objects=True`. `own:photos:small` is a small network from
scratch, to try things on a CPU; otherwise training starts from a detector that was trained on COCO,
which is what makes a hundred images enough, and wants a GPU. docs/own_data.md says what to change
for which data, what a run costs and what to expect.
"""

from maskrcnn_jax.config import Config
from maskrcnn_jax.data.own_folder import arguments, found_in
from maskrcnn_jax.small_config import get_config as small_config


def get_config(given: str = "photos") -> Config:
    """Returns the recipe.

    Args:
        given: what follows the file's name and a colon: the folder, which may have colons too
            (C:\\photos), and `:small` if wanted.
    """
    folder, _, size = given.rpartition(":") if given.endswith((":small", ":")) else (given, "", "")
    config = _small() if size else _from_coco()
    config.name = "own"
    found = found_in(folder)
    config.data.format = found.format
    options = arguments(found)
    config.data.train, config.data.val = options["train"], options["val"]
    config.data.resize = "square"  # the long side becomes the bucket's: one compilation for all
    config.data.augment.brightness = 0.2
    config.data.augment.contrast = 0.2

    train = config.train
    train.batch_size = 2
    train.schedule = "cosine"
    train.clip_norm = 10.0
    train.checkpoint_every = 250
    train.eval_every = 500
    config.eval.batch_size = 2
    return config


def _from_coco() -> Config:
    """Returns ResNet-50 with weights of COCO, at 768 pixels."""
    config = Config()
    config.init = "coco_torchvision_v1"
    config.data.buckets = ((768, 768),)
    config.train.steps = 3_000
    config.train.warmup_steps = 200
    config.train.learning_rate = 0.0025  # 0.02 for 16 images, in proportion
    return config


def _small() -> Config:
    """Returns a small ResNet-18 from scratch, at 320 pixels."""
    config = small_config()
    config.data.buckets = ((320, 320),)
    model = config.model
    model.anchors.sizes = (16.0, 32.0, 64.0, 128.0, 256.0)
    model.roi.canonical_size = 112.0
    model.roi.samples_per_image = 128
    model.rpn.pre_nms_top_n_train = model.rpn.pre_nms_top_n_eval = 500
    model.rpn.post_nms_top_n_train = model.rpn.post_nms_top_n_eval = 500
    config.train.steps = 2_000
    config.train.warmup_steps = 100
    return config
