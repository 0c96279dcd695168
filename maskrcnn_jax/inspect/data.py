"""Views of data: as stored, as the network gets them, and what mask grids lose."""

from collections.abc import Iterator

import numpy as np

from maskrcnn_jax.class_names import names_of
from maskrcnn_jax.config import Config
from maskrcnn_jax.data.augment.augmentation import plain_geometry
from maskrcnn_jax.data.augment.placement import pixel_mask, place_objects
from maskrcnn_jax.data.augment.random_streams import Streams
from maskrcnn_jax.data.input.sample import make_example
from maskrcnn_jax.data.input.tiles import training_samples, whole_images
from maskrcnn_jax.data.records import Dataset, Record
from maskrcnn_jax.data.tools.browse import sample_picture
from maskrcnn_jax.data.tools.statistics import statistics
from maskrcnn_jax.data.tools.statistics_report import as_picture
from maskrcnn_jax.images import sizes
from maskrcnn_jax.images.paste import full_mask, paste_crop
from maskrcnn_jax.inspect.page import View
from maskrcnn_jax.visualization.drawing import as_rgb
from maskrcnn_jax.visualization.tiles import crop, table

_STATISTICS = 200  # images whose pixels are read for statistics
_OBJECTS = 8  # whose mask grids are shown, of an image
_LOST, _ADDED, _KEPT = (230, 30, 30), (60, 120, 255), (255, 255, 255)


def data_views(dataset: Dataset, config: Config, is_training: bool, count: int) -> Iterator[View]:
    """Yields the statistics of a dataset and views of some images, evenly spread.

    Args:
        dataset: of one split.
        config: the whole configuration.
        is_training: whether images are augmented.
        count: images.

    Raises:
        ValueError, OSError: an image cannot be read.
    """
    found = statistics(dataset, config, is_training, _STATISTICS)
    yield View("statistics", f"of all {found['images']:,} images", as_picture(found))
    records = dataset.records
    data = config.data
    samples = training_samples(records, data.augment) if is_training else whole_images(records)
    seeds = [None, *((config.seed, epoch) for epoch in range(2) if is_training)]
    for index in evenly(len(samples), count):
        record = samples[index].record
        yield View(
            f"image {record.image_id}",
            "Left as stored, then resized as for a prediction, then as the first epochs of "
            "training get it. Crowd regions are striped; a white line is where the padding begins.",
            sample_picture(index, samples, dataset, data, seeds, True),
        )
        yield mask_grid_view(record, dataset, config)


def first_examples(
    dataset: Dataset, config: Config, count: int
) -> Iterator[tuple[Record, dict[str, np.ndarray]]]:
    """Yields some images, evenly spread, as the first epoch of training gets them.

    Args:
        dataset: of training.
        config: the whole configuration.
        count: images.

    Raises:
        ValueError, OSError: an image cannot be read.
    """
    samples = training_samples(dataset.records, config.data.augment)
    for index in evenly(len(samples), count):
        record, window = samples[index]
        streams = Streams(config.seed, 0, index)
        yield record, make_example(record, dataset, config.data, streams, window, samples)[0]


def evenly(total: int, count: int) -> list[int]:
    """Returns up to `count` indices, evenly spread over `total`."""
    return np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(int)).tolist()


def mask_grid_view(record: Record, dataset: Dataset, config: Config) -> View:
    """Shows what is lost by keeping each mask as a grid of `data.mask_size` cells in its box.

    Args:
        record: the image.
        dataset: whose `read_image` decodes it.
        config: the whole configuration.
    """
    data = config.data
    window = (0, 0, record.width, record.height)
    bucket = data.buckets[sizes.bucket_of_size(record.height, record.width, data)]
    geometry = plain_geometry(window, bucket, data)
    objects = place_objects(record, geometry, data)
    image = as_rgb(make_example(record, dataset, data)[0]["image"])
    rows, words = [], []
    for i in range(min(_OBJECTS, len(objects.boxes))):
        index, box, grid = objects.indices[i], objects.boxes[i], objects.masks[i]
        true = pixel_mask(record.segmentations[index], record, geometry) > 0
        back = full_mask(paste_crop(grid / 255, box, *true.shape), *true.shape)
        union = np.count_nonzero(true | back)
        iou = np.count_nonzero(true & back) / union if union else 1.0
        (name,) = names_of(record.classes[[index]], dataset.class_names)
        pieces = (image, true * np.uint8(255), back * np.uint8(255), _difference(true, back))
        original, whole, pasted, differing = (crop(piece, box) for piece in pieces)
        rows.append([original, whole, grid, pasted, differing])
        sides = f"{box[2] - box[0]:.0f} x {box[3] - box[1]:.0f} pixels"
        words.append(f"{name}, {sides}: IoU {iou:.3f} of the mask with its grid pasted back")
    grid = f"grid of {data.mask_size}"
    return View(
        f"mask grids of image {record.image_id}",
        "Training keeps each mask as a grid of cells inside its box. Red: pixels that are lost by "
        "that; blue: pixels that are added. Sizes are those of the network's input.",
        table(rows, ["image", "mask", grid, "pasted back", "difference"], words),
    )


def _difference(true: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Returns `[h, w, 3]` uint8: what both have white, what is lost red, what is added blue."""
    picture = np.zeros((*true.shape, 3), np.uint8)
    for where, paint in ((true & back, _KEPT), (true & ~back, _LOST), (back & ~true, _ADDED)):
        picture[where] = paint
    return picture
