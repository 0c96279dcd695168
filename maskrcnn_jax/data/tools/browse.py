"""Pictures of what the network will be given: images with their annotations after augmentation."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from maskrcnn_jax.class_names import names_of
from maskrcnn_jax.console import counted
from maskrcnn_jax.data.augment.random_streams import Streams
from maskrcnn_jax.data.config import DataConfig
from maskrcnn_jax.data.input.sample import make_example
from maskrcnn_jax.data.input.tiles import Sample, training_samples, whole_images
from maskrcnn_jax.data.masks.segmentation import to_mask
from maskrcnn_jax.data.records import Dataset, Record
from maskrcnn_jax.files import write_atomically
from maskrcnn_jax.images.png import encode_png
from maskrcnn_jax.visualization.drawing import enlarged, side_by_side
from maskrcnn_jax.visualization.examples import draw_example, draw_objects

if TYPE_CHECKING:
    from maskrcnn_jax.config import Config


def browse(
    dataset: Dataset,
    config: "Config",
    out: str | Path,
    is_training: bool = True,
    most: int = 20,
    epochs: int = 1,
    raw: bool = False,
) -> list[str]:
    """Writes a PNG for each of some samples, evenly spread over the dataset.

    Samples of training are shown as they will be in the first epochs, to the bit, if `dataset` is
    what training uses: without the images that the check before it leaves out.

    Args:
        dataset: the images.
        config: the whole configuration; its `data` section and `seed` are used.
        out: folder of the pictures, `<index of the sample>_<image id>.png`.
        is_training: whether images are augmented, and cut into tiles where that is configured.
        most: samples; 0: all.
        epochs: pictures beside each other, of an image's first epochs of training; evaluation has
            one.
        raw: whether the image as it is stored, with its annotations, stands to their left.

    Returns:
        Why images were left out, one line each.

    Raises:
        ValueError: the settings do not fit, or an image cannot be read and `data.on_error` is
            "raise".
        OSError: a picture cannot be written.
    """
    data = config.data
    for name, value, least in (("max", most, 0), ("epochs", epochs, 1)):
        if value < least:
            raise ValueError(f"--{name} is {value}; at least {least} is needed")
    data.validate()
    records = dataset.records
    samples = training_samples(records, data.augment) if is_training else whole_images(records)
    chosen = np.unique(np.linspace(0, len(samples) - 1, most or len(samples)).round().astype(int))
    seeds = [(config.seed, epoch) for epoch in range(epochs)] if is_training else [None]
    skipped = []
    for index in counted(chosen.tolist(), len(chosen), "pictures"):
        record = samples[index].record
        try:
            picture = sample_picture(index, samples, dataset, data, seeds, raw)
        except (ValueError, OSError, cv2.error) as error:
            fault = f"image {record.image_id} ({record.path}): {error}"
            if data.on_error == "raise":
                raise ValueError(fault) from error
            skipped.append(fault)
            continue
        name = re.sub(r"[^A-Za-z0-9.-]+", "_", str(record.image_id))
        write_atomically(Path(out, f"{index:06d}_{name}.png"), encode_png(picture))
    return skipped


def sample_picture(
    index: int,
    samples: Sequence[Sample],
    dataset: Dataset,
    data: DataConfig,
    seeds: Sequence[tuple[int, int] | None],
    raw: bool,
) -> np.ndarray:
    """Draws versions of one sample beside each other.

    Args:
        index: of the sample.
        samples: all of them; objects may be pasted from the others.
        dataset: whose `read_image` decodes the image.
        data: the configuration's `data` section.
        seeds: (`config.seed`, epoch) of each version; None: resized, not augmented.
        raw: whether the image as it is stored, with its annotations, stands to their left.

    Returns:
        `[h, w, 3]` uint8, RGB.
    """
    record, window = samples[index]
    pictures, titles = [], []
    if raw:
        pictures.append(_draw_record(dataset.read_image(record), record, dataset))
        titles.append(f"as stored: {record.height} x {record.width}, {len(record.boxes)} objects")
    for seed in seeds:
        streams = None if seed is None else Streams(*seed, index)
        example, num_cut = make_example(record, dataset, data, streams, window, samples)
        pictures.append(draw_example(example, dataset.class_names, dataset.keypoints))
        height, width = example["image"].shape[:2]
        objects = f"{height} x {width}, {example['gt_valid'].sum()} objects"
        cut = f" ({num_cut} more cut)" if num_cut else ""
        titles.append((f"epoch {seed[1]}: " if seed else "") + objects + cut)
    height = max(len(picture) for picture in pictures)
    pictures = [_padded(picture, height) for picture in pictures]
    return side_by_side(pictures, titles)


def _draw_record(image: np.ndarray, record: Record, dataset: Dataset) -> np.ndarray:
    """Draws an image's annotations as they are stored."""
    picture, scale = enlarged(image)
    masks = (to_mask(s, record.height, record.width) for s in record.segmentations)
    return draw_objects(
        picture,
        record.boxes * scale,
        (enlarged(mask, scale)[0] for mask in masks),
        names_of(record.classes, dataset.class_names),
        record.crowd,
        None if record.keypoints is None else record.keypoints * (scale, scale, 1),
        dataset.keypoints,
    )


def _padded(picture: np.ndarray, height: int) -> np.ndarray:
    """Returns the picture with white below it, up to a height."""
    return np.pad(picture, ((0, height - len(picture)), (0, 0), (0, 0)), constant_values=255)
