"""Every configuration key with its default; each recipe of `configs/` is a diff on this file.

The model's defaults are those of torchvision's `maskrcnn_resnet50_fpn`, so that its weights give
its outputs. A key is set on the command line as `--config.train.steps=100`.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the default configuration. It has no dataset: a recipe names one."""
    config = ConfigDict()
    config.name = "base"  # the default work directory is runs/<name>
    config.seed = 0  # order of images, augmentation, initial weights and sampling follow from it
    # none | a work directory | a file of weights | the name of published weights | imagenet:... |
    # coco:... | last; maskrcnn_jax/pretrained/start.py says what each means.
    config.init = "none"
    # What of these weights is taken; the other parts start anew.
    config.init_parts = ("backbone", "fpn", "rpn", "box_head", "mask_head")
    config.data = _data()
    config.model = _model()
    config.train = _train()
    config.eval = _eval()
    config.mesh = _mesh()
    return config


def _data() -> ConfigDict:
    data = ConfigDict()
    # shapes | coco | cst | labelme | labelme_export | mask_folders | penn_fudan | via | voc |
    # yolo | label_images | tfds (prepared) | tfds_coco | union (of several); docs/formats has a
    # page on each.
    data.format = ""
    data.train = ConfigDict()  # keyword arguments of the format's reader, for training images
    data.val = ConfigDict()  # the same for the images that are evaluated on
    # The next five concern training alone; docs/sampling.md.
    data.empty_images = "keep"  # keep | drop, those that show no object, or only crowd regions
    data.images_per_class = 0  # as few images as give each class so many; 0: all images
    data.subset_seed = 0  # which of them; it does not depend on the run's seed
    data.boxes = "annotation"  # annotation | masks: measured on the masks, as matterport does
    # Share of the images below which a class is repeated, as LVIS does (0.001 there); 0: none is.
    data.repeat_threshold = 0.0
    # Of the images; docs/formats/channels.md. model.pixel has one mean and std for each channel.
    data.channels = 3  # 1: grey | 3: RGB | another number: as many as the file has, in its order
    data.depth = 8  # bits of a value: 8 | 16
    data.max_instances = 100  # G: ground-truth slots per image; more are cut, and counted
    data.mask_size = 112  # M: side of the grid on which each true mask is kept, inside its box
    data.resize = "short_side"  # short_side | square (long side to the bucket's, then padding)
    data.short_side = 800  # pixels
    data.long_side = 1333  # pixels; never exceeded
    # Height and width of the padded network input: one compilation and one kind of batch each.
    # Multiples of 32. Each image goes to the smallest bucket that it fits.
    data.buckets = ((800, 1088), (1088, 800), (800, 1344), (1344, 800))
    data.augment = _augment()
    data.workers = 0  # images prepared in parallel; 0: as many as there are cores
    data.prefetch = 2  # batches prepared ahead of the step
    data.on_error = "skip"  # skip (count and name) | raise, for a faulty image or annotation
    data.max_pixels = 100_000_000  # an image of more pixels is refused unread
    return data


def _augment() -> ConfigDict:
    """Random changes of training images; docs/augmentation.md tells how they go together."""
    return ConfigDict(
        dict(
            flip=0.5,  # probability of mirroring left to right
            vertical_flip=0.0,  # probability of mirroring top to bottom
            quarter_turns=0.0,  # probability of a turn by 90, 180 or 270 degrees
            rotate=0.0,  # degrees: rotated by up to so many either way
            # Of the corners that a rotation leaves empty: a value a channel, or one for all.
            fill=(124, 116, 104),
            crop=0.0,  # probability of using a part of the image only
            crop_range=(0.5, 1.0),  # share of each side that the part has
            # One of three ways to draw the size; empty: data.resize alone decides.
            short_sides=(),  # pixels: one of these instead of data.short_side, and no longer
            short_side_range=(),  # pixels: from the first to the second
            # Large-scale jitter: from the first to the second times the size that fills the
            # bucket, then cut or padded to it. Ghiasi et al. (2021) have (0.1, 2.0).
            scale_range=(),
            min_visible=0.1,  # objects of which a smaller share is left are dropped
            brightness=0.0,  # factors from 1 - value to 1 + value
            contrast=0.0,
            saturation=0.0,
            hue=0.0,  # share of the circle of hues, either way
            grey=0.0,  # probability of losing all colour
            blur=0.0,  # probability of a Gaussian blur
            blur_range=(0.1, 2.0),  # its sigma, pixels of the network's input
            noise=0.0,  # levels of the image: Gaussian noise of up to this standard deviation
            copy_paste=0.0,  # probability of objects of another image in front
            tile=0,  # pixels: side of the tiles that images are cut into; 0: none
            tile_overlap=0,  # pixels that neighbouring tiles have in common, at least
            empty_tiles=True,  # whether to train on tiles without objects
        )
    )


def _model() -> ConfigDict:
    model = ConfigDict()
    model.dtype = "float32"  # of convolutions and dense layers: float32 | bfloat16
    # continuous | inclusive: x2 and y2 are one pixel less inside the network, as in matterport's.
    model.corners = "continuous"
    # Of bn: True: statistics of the whole batch | False: of the images of each device (or of each
    # group of devices that share images), whose means become the running ones.
    model.sync_batch_norm = True
    model.pixel = ConfigDict(
        dict(
            order="rgb",  # rgb | bgr, of three channels
            mean=(123.675, 116.28, 103.53),  # in that order, 0 to 255, or 65535 (data.depth = 16)
            std=(58.395, 57.12, 57.375),
            padding="mean",  # around an image: mean | black (pixels of value 0, as matterport)
        )
    )
    model.backbone = ConfigDict(
        dict(
            depth=50,  # 18 | 34 | 50 | 101 | 152
            width=64,  # channels of the stem; every later stage is a multiple
            norm="frozen_bn",  # frozen_bn | bn | gn
            norm_eps=1e-5,
            stride_in_1x1=False,  # True: the original ResNet; False: v1.5, as torchvision
            # Of the stem's max pooling: symmetric | same (TensorFlow's: at the right and bottom).
            pool_padding="symmetric",
        )
    )
    model.fpn = ConfigDict(
        dict(
            channels=256,
            norm="none",  # none | frozen_bn | bn | gn
            norm_eps=1e-5,
        )
    )
    model.anchors = ConfigDict(
        dict(
            sizes=(32.0, 64.0, 128.0, 256.0, 512.0),  # side in pixels, for P2 to P6
            aspect_ratios=(0.5, 1.0, 2.0),  # height / width
            rounded=True,  # corners of the cell anchors rounded to whole pixels, as torchvision
            # Pixels between cells: quotient (of image and level, as torchvision: 61 for 13 rows of
            # 800) | nominal (4, 8, 16, 32, 64, as Detectron2 and matterport).
            strides="quotient",
        )
    )
    model.rpn = ConfigDict(
        dict(
            convs=1,  # 3x3 convolutions before the two predictors
            channels=0,  # of those; 0: as many as the FPN has
            nms="per_level",  # per_level | joint (over all levels at once, as matterport)
            pre_nms_top_n_train=2000,  # proposals before NMS: of each level, or of all (joint)
            pre_nms_top_n_eval=1000,
            post_nms_top_n_train=2000,  # proposals of an image after NMS, over all levels
            post_nms_top_n_eval=1000,
            nms_threshold=0.7,
            clip="image",  # proposals end at the image's border | input: at the padded input's
            min_size=1e-3,  # pixels; smaller proposals are dropped
            coder_weights=(1.0, 1.0, 1.0, 1.0),
            positive_iou=0.7,
            negative_iou=0.3,
            samples_per_image=256,
            positive_fraction=0.5,
            box_loss_beta=1.0 / 9.0,  # where smooth L1 turns from quadratic to linear
        )
    )
    model.roi = ConfigDict(
        dict(
            positive_iou=0.5,
            negative_iou=0.5,
            samples_per_image=512,
            positive_fraction=0.25,
            crowd_overlap=0.5,  # share of a box inside crowd from which it is ignored
            # roi_align | crop_and_resize (TensorFlow's: one sample per bin, the outermost on the
            # box's edges, as matterport; the next two keys are of roi_align alone).
            pooling="roi_align",
            sampling_ratio=2,  # bilinear samples per bin and axis in RoIAlign
            aligned=False,  # True: Detectron2's half-pixel shift
            # The level of a box of the canonical size: fractions are cut off. 4.5 rounds to the
            # nearest level instead, as matterport does.
            canonical_level=4.0,
            canonical_size=224.0,  # pixels
        )
    )
    model.box_head = ConfigDict(
        dict(
            pool_size=7,  # S
            convs=0,  # 0: two dense layers; 4: the 4conv+1fc head
            conv_channels=256,
            dense_channels=1024,
            dense_norm="none",  # none | frozen_bn | bn, of the dense layers but the predictors
            norm="none",  # none | frozen_bn | bn | gn, of the convolutions
            norm_eps=1e-5,  # of both
            coder_weights=(10.0, 10.0, 5.0, 5.0),
            box_loss_beta=1.0 / 9.0,
        )
    )
    model.mask_head = ConfigDict(
        dict(
            pool_size=14,  # masks are twice as large
            convs=4,
            channels=256,
            norm="none",  # none | frozen_bn | bn | gn
            norm_eps=1e-5,
        )
    )
    model.detections = ConfigDict(
        dict(
            classes="all",  # of a RoI, above the threshold | best: its best, unless background
            score_threshold=0.05,
            nms_threshold=0.5,
            max_per_image=100,  # D
            min_size=1e-2,  # pixels; smaller boxes are dropped
            mask_paste="torchvision",  # torchvision (on whole pixels) | exact
        )
    )
    return model


def _train() -> ConfigDict:
    train = ConfigDict()
    train.batch_size = 16  # images per step over all devices and hosts
    train.accumulate = 1  # parts that a step's batch passes through in, one after the other
    # none | backbone | all: where the way back computes anew what it would else have kept.
    train.remat = "none"
    train.steps = 90_000
    # What is trained: heads (all but the backbone) | 5+ (and C5) | 4+ | 3+ | 2+ | all (and the
    # stem); or in stages, each until a step, the last to the end: "heads:2000, 4+:6000, all".
    train.layers = "3+"
    train.log_every = 20  # steps
    train.checkpoint_every = 1_000
    train.eval_every = 10_000  # 0: only at the end
    train.keep_checkpoints = 3  # the newest; the best is kept besides
    train.emergency_seconds = 25.0  # for the last checkpoint, after SIGTERM or Ctrl-C
    # A key of metrics.json; larger is better, of loss_... (eval.loss = True) smaller.
    train.best_metric = "segm/AP"
    # The run ends after so many evaluations without a new best; 0: never before the last step.
    train.early_stop = 0
    # A step that takes so many times the median of those before it, and at least so many seconds,
    # is reported with what every thread is doing; docs/monitoring.md.
    train.watchdog_factor = 10.0
    train.watchdog_seconds = 60.0  # 0: no step is
    train.watchdog_abort_seconds = 0.0  # of a step, after which the process ends; 0: never
    train.optimizer = "sgd"  # sgd | adamw | lamb
    train.learning_rate = 0.02  # of the given batch size, unless a rule is given:
    # none | linear | sqrt: times batch_size / reference_batch_size, or the root of that.
    train.learning_rate_rule = "none"
    train.reference_batch_size = 16
    train.momentum = 0.9
    train.weight_decay = 1e-4
    train.decay_norm_and_bias = True  # False: norms and biases have no weight decay
    train.warmup_steps = 500
    train.warmup_factor = 0.001  # the first step's share of the learning rate
    train.schedule = "steps"  # steps | cosine
    train.decay_steps = (60_000, 80_000)  # for schedule "steps"
    train.decay_factor = 0.1
    train.clip_norm = 0.0  # of the whole gradient; 0: none
    train.ema_decay = 0.0  # of the moving average that is evaluated; 0: none; else 0.999 or so
    return train


def _eval() -> ConfigDict:
    config = ConfigDict()
    config.batch_size = 16
    config.max_images = 0  # 0: all; else the first ones
    config.max_detections = (1, 10, 100)  # the three limits of COCO's recall; the last is for AP
    config.pictures = 8  # images drawn with their predictions after an evaluation
    config.loss = False  # whether the five losses are evaluated, too
    return config


def _mesh() -> ConfigDict:
    """Devices along each axis of the mesh; docs/scaling.md says which to choose."""
    return ConfigDict(
        dict(
            data=-1,  # share the images of a batch; -1: all devices that are left
            fsdp=1,  # share these, too, and the storage of parameters and optimiser state
            space=1,  # share the rows of each image; devices of one process
        )
    )
