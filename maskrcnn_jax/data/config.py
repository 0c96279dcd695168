"""The settings of the data: `config.data`."""

from dataclasses import dataclass, field

from ml_collections import ConfigDict

from maskrcnn_jax.config_fields import setting
from maskrcnn_jax.images.config import ImageConfig

PROBABILITY = "[0, 1]"
Range = tuple[float, ...]  # empty, or from the first value to the second

# Low and high that a range may have, and whether it may be empty: ().
_RANGES = {
    "short_side_range": (1, 100_000, True),
    "scale_range": (0.01, 10, True),
    "crop_range": (0.01, 1, False),
    "blur_range": (0.01, 100, False),
}


@dataclass(slots=True)
class AugmentConfig:
    """Random changes of training images; docs/augmentation.md says how they go together."""

    flip: float = setting(0.5, "probability of mirroring left to right", within=PROBABILITY)
    vertical_flip: float = setting(
        0.0, "probability of mirroring top to bottom", within=PROBABILITY
    )
    quarter_turns: float = setting(
        0.0, "probability of a rotation by 90, 180 or 270 degrees", within=PROBABILITY
    )
    rotate: float = setting(
        0.0,
        "maximum rotation in degrees, drawn from [-rotate, rotate]",
        within="[0, 180]",
    )
    fill: tuple[float, ...] = setting(
        (124, 116, 104),
        "value of the corners that a rotation leaves empty, one per channel, or one for all",
    )
    crop: float = setting(0.0, "probability of using a part of the image", within=PROBABILITY)
    crop_range: Range = setting((0.5, 1.0), "fraction of each side that the part has")
    short_sides: tuple[int, ...] = setting(
        (),
        "short sides to draw from instead of config.data.short_side, which is the largest, pixels",
        within="[1, 100000]",
    )
    short_side_range: Range = setting((), "range to draw the short side from, pixels")
    scale_range: Range = setting(
        (),
        "large-scale jitter: range of the factor on the size that fills the bucket, before cutting "
        "or padding to it; (0.1, 2.0) in Ghiasi et al. 2021",
    )
    min_visible: float = setting(
        0.1, "objects of which a smaller fraction is left are dropped", within=PROBABILITY
    )
    brightness: float = setting(
        0.0, "maximum change: a factor from [1 - value, 1 + value]", within=PROBABILITY
    )
    contrast: float = setting(0.0, "maximum change, likewise", within=PROBABILITY)
    saturation: float = setting(0.0, "maximum change, likewise", within=PROBABILITY)
    hue: float = setting(
        0.0, "maximum change, as a fraction of the circle of hues", within="[0, 0.5]"
    )
    grey: float = setting(0.0, "probability of losing all colour", within=PROBABILITY)
    blur: float = setting(0.0, "probability of a Gaussian blur", within=PROBABILITY)
    blur_range: Range = setting((0.1, 2.0), "range of its sigma, pixels of the network's input")
    noise: float = setting(
        0.0, "maximum standard deviation of Gaussian noise, levels of the image", within="[0, inf)"
    )
    copy_paste: float = setting(
        0.0, "probability of pasting objects of another image in front", within=PROBABILITY
    )
    tile: int = setting(
        0, "side of the tiles that images are cut into, pixels; 0: none", within="[0, inf)"
    )
    tile_overlap: int = setting(
        0, "minimum overlap of neighbouring tiles, pixels", within="[0, inf)"
    )
    empty_tiles: bool = setting(True, "train on tiles without objects, too")


@dataclass(slots=True)
class DataConfig(ImageConfig):
    """The data sets, and how their images become batches."""

    format: str = setting(
        "",
        "shapes | coco | cst | labelme | labelme_export | label_images | mask_folders | penn_fudan "
        "| via | voc | yolo | tfds (prepared) | tfds_coco | union (of several); docs/formats",
    )
    train: ConfigDict = setting(
        ConfigDict(), "arguments of the format's reader, for training images"
    )
    val: ConfigDict = setting(
        ConfigDict(), "arguments of the reader, for the images that are evaluated on"
    )
    empty_images: str = setting(
        "keep",
        "training images without objects, or with crowd regions alone",
        choices=("keep", "drop"),
    )
    min_keypoints: int = setting(
        0,
        "training images with fewer known keypoints, over all objects, are dropped (Detectron2: 1, "
        "torchvision: 10); only with config.model.keypoints",
        within="[0, inf)",
    )
    images_per_class: int = setting(
        0,
        "train on a subset: the fewest images that give each class this number; 0: all images",
        within="[0, inf)",
    )
    subset_seed: int = setting(0, "which subset; independent of config.seed")
    boxes: str = setting(
        "annotation",
        "boxes to train on: as annotated, or measured on the masks, as matterport",
        choices=("annotation", "masks"),
    )
    repeat_threshold: float = setting(
        0.0,
        "fraction of the images below which a class is repeated, as LVIS (0.001 there); 0: off",
        within="[0, 1]",
    )
    max_instances: int = setting(
        100, "G, ground-truth slots per image; more are cut, and counted", within="[1, inf)"
    )
    mask_size: int = setting(
        112,
        "M, side of the grid on which each true mask is kept, inside its box",
        within="[1, inf)",
    )
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    workers: int = setting(
        0, "images prepared in parallel; 0: as many as there are cores", within="[0, inf)"
    )
    prefetch: int = setting(2, "batches prepared ahead of the step", within="[0, inf)")
    engine: str = setting(
        "auto",
        "what prepares the same batches in parallel; auto: tfdata where TensorFlow is installed",
        choices=("auto", "tfdata", "threads"),
    )
    on_error: str = setting(
        "skip",
        "a faulty image or annotation is skipped, counted and named, or raises",
        choices=("skip", "raise"),
    )

    def validate(self, key: str = "config.data") -> None:
        """Checks every value, and those that have to go together.

        Raises:
            ValueError: naming the key, its value and what is expected.
        """
        ImageConfig.validate(self, key)
        _check_augment(self, f"{key}.augment")
        _check_drawn_sizes(self, key)


def _check_augment(data: DataConfig, key: str) -> None:
    """Checks what the intervals of single values do not say."""
    augment, brightest = data.augment, 2**data.depth - 1
    if augment.noise > brightest:
        raise ValueError(f"{key}.noise is {augment.noise}; expected 0 to {brightest}")
    for name, (least, most, may_be_empty) in _RANGES.items():
        value = getattr(augment, name)
        is_range = _numbers(value, 2, least, most) and value[0] <= value[1]
        if not is_range and not (may_be_empty and value == ()):
            empty = ", or ()" if may_be_empty else ""
            raise ValueError(
                f"{key}.{name} is {value}; expected two numbers, (low, high), from {least} to "
                f"{most}{empty}"
            )
    for name in ("saturation", "hue", "grey"):
        if getattr(augment, name) and data.channels != 3:
            raise ValueError(
                f"{key}.{name} is {getattr(augment, name)}, of red, green and blue, but "
                f"config.data.channels is {data.channels}; set it to 0"
            )
    _check_fill(data, key)
    if augment.tile_overlap >= max(augment.tile, 1):
        raise ValueError(
            f"{key}.tile_overlap is {augment.tile_overlap}; expected from 0 to less than "
            f"{key}.tile = {augment.tile}"
        )


def _check_fill(data: DataConfig, key: str) -> None:
    """Checks the colour of what a rotation leaves empty; without one it is not used."""
    fill, channels, brightest = data.augment.fill, data.channels, 2**data.depth - 1
    if not data.augment.rotate or any(_numbers(fill, n, 0, brightest) for n in (1, channels)):
        return
    wanted = f"one number, 0 to {brightest}"
    if channels > 1:
        wanted = f"{channels} numbers, one for each channel, 0 to {brightest}; or one for all"
    raise ValueError(f"{key}.fill is {fill}; expected {wanted}")


def _check_drawn_sizes(data: DataConfig, key: str) -> None:
    """Checks the three ways to draw an image's size against each other and against `data`."""
    names = ("short_sides", "short_side_range", "scale_range")
    chosen = [f"{key}.augment.{name}" for name in names if getattr(data.augment, name)]
    if len(chosen) > 1:
        raise ValueError(f"{' and '.join(chosen)} are set; each draws the size: choose one of them")
    if not chosen or data.augment.scale_range:
        return
    if data.resize != "short_side":
        raise ValueError(
            f"{chosen[0]} is set, but {key}.resize is {data.resize!r}; draw the size by "
            f"{key}.augment.scale_range, or set {key}.resize to 'short_side'"
        )
    longest = max(data.augment.short_sides or data.augment.short_side_range)
    if longest > data.short_side:
        raise ValueError(
            f"{chosen[0]} goes up to {longest}, above {key}.short_side = {data.short_side}, for "
            f"which the buckets are chosen; raise that one, and {key}.long_side and "
            f"{key}.buckets with it"
        )


def _numbers(values: tuple, count: int, least: float, most: float) -> bool:
    return len(values) == count and all(least <= value <= most for value in values)
