"""One image becomes one slot of a batch: read, augment, resize, pad."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from maskrcnn_jax.data.augment.augmentation import draw_geometry, fill_values, plain_geometry
from maskrcnn_jax.data.augment.colour import change_colours
from maskrcnn_jax.data.augment.copy_paste import chosen, paste
from maskrcnn_jax.data.augment.geometry import Geometry, map_pixels
from maskrcnn_jax.data.augment.placement import (
    largest,
    pixel_mask,
    place_keypoints,
    place_objects,
)
from maskrcnn_jax.data.augment.random_streams import Streams
from maskrcnn_jax.data.config import DataConfig
from maskrcnn_jax.data.input.example import Example
from maskrcnn_jax.data.input.tiles import Sample
from maskrcnn_jax.data.records import Dataset, Record
from maskrcnn_jax.images import sizes
from maskrcnn_jax.images.pixels import RGB8, PixelFormat
from maskrcnn_jax.images.tiles import Window

_PASTED = 0.5  # probability of each object of the image that is pasted from


def make_example(
    record: Record,
    dataset: Dataset,
    data: DataConfig,
    streams: Streams | None = None,
    window: Window | None = None,
    others: Sequence[Sample] = (),
) -> tuple[dict[str, np.ndarray], int]:
    """Makes one image's part of a batch.

    Args:
        record: the image and its annotations.
        dataset: whose `read_image` decodes the image.
        data: the configuration's `data` section.
        streams: random numbers of the augmentation; None: no augmentation.
        window: (x1, y1, x2, y2), the part of the image that is used; None: all of it.
        others: what objects may be pasted from.

    Returns:
        The arrays of a batch without their leading axis (see `example_spec`), and the number of
        objects that were cut because the image has more than `data.max_instances`.

    Raises:
        ValueError, OSError: the image or one of its masks cannot be read, or the image does not
            have the size that its record says.
    """
    sample = Sample(record, window or (0, 0, record.width, record.height))
    bucket = data.buckets[sizes.bucket_of_size(*sample.size, data)]
    if streams is None:
        view = _view(record, dataset, data, plain_geometry(sample.window, bucket, data))
        return pad_example(view.example, bucket, data.max_instances), view.num_cut
    view = _view(record, dataset, data, draw_geometry(streams, sample.window, bucket, data))
    example, num_cut = _with_pasted(view, dataset, data, streams, others)
    image = change_colours(streams, example.image, data.augment)
    return pad_example(replace(example, image=image), bucket, data.max_instances), num_cut


class _View(NamedTuple):
    """An image as a geometry shows it.

    record, geometry: what it was made from.
    example: image and objects in the frame.
    indices: [n] int64, which of the record's objects these are.
    num_cut: how many more the frame shows.
    """

    record: Record
    geometry: Geometry
    example: Example
    indices: np.ndarray
    num_cut: int

    def mask(self, i: int) -> np.ndarray:
        """Returns which pixels of the frame object i covers, [h, w] uint8, 0 or 1."""
        return pixel_mask(self.record.segmentations[self.indices[i]], self.record, self.geometry)


def _view(record: Record, dataset: Dataset, data: DataConfig, geometry: Geometry) -> _View:
    """Reads an image and its objects."""
    image = dataset.read_image(record)
    if image.shape[:2] != (record.height, record.width):
        raise ValueError(
            f"{record.path} has {image.shape[0]} x {image.shape[1]} pixels (height x width), its "
            f"annotation says {record.height} x {record.width}; correct the annotation"
        )
    x1, y1, x2, y2 = geometry.window
    objects = place_objects(record, geometry, data)
    keypoints = None
    if dataset.keypoints is not None:
        keypoints = place_keypoints(record, objects.indices, geometry, dataset.keypoints)
    example = Example(
        image=map_pixels(image[y1:y2, x1:x2], geometry, fill_values(data)),
        boxes=objects.boxes,
        classes=record.classes[objects.indices],
        crowd=record.crowd[objects.indices],
        masks=objects.masks,
        keypoints=keypoints,
    )
    return _View(record, geometry, example, objects.indices, objects.num_cut)


def _with_pasted(
    view: _View, dataset: Dataset, data: DataConfig, streams: Streams, others: Sequence[Sample]
) -> tuple[Example, int]:
    """Returns the image with objects of another one, if so drawn, and how many objects were cut."""
    rng = streams.of("copy_paste")
    if not others or rng.random() >= data.augment.copy_paste:
        return view.example, view.num_cut
    other = others[int(rng.integers(len(others)))]
    try:
        source = _source(other, view.geometry.frame, dataset, data, replace(streams, pasted=True))
    except (ValueError, OSError) as error:
        what = f"{other.record.image_id} ({other.record.path})"
        raise ValueError(f"objects of image {what} cannot be pasted: {error}") from error
    example = paste(view.example, view.mask, source.example, source.mask, data.augment.min_visible)
    kept = largest(example.boxes, data.max_instances)
    return chosen(example, kept), view.num_cut + len(example.boxes) - len(kept)


def _source(
    other: Sample, frame: sizes.Size, dataset: Dataset, data: DataConfig, streams: Streams
) -> _View:
    """Returns an image somewhere in a frame, with those of its objects that are to be pasted."""
    geometry = draw_geometry(streams, other.window, frame, data)
    rng = streams.of("copy_paste")
    (x, y), (height, width) = geometry.offset, geometry.frame
    shift = (rng.random(2) * (frame[1] - width + 1, frame[0] - height + 1)).astype(int)
    offset = (x - int(shift[0]), y - int(shift[1]))
    view = _view(other.record, dataset, data, replace(geometry, frame=frame, offset=offset))
    drawn = rng.random(len(other.record.boxes)) < _PASTED
    which = drawn[view.indices] & ~view.example.crowd
    return view._replace(example=chosen(view.example, which), indices=view.indices[which])


def pad_example(example: Example, bucket: sizes.Size, max_instances: int) -> dict[str, np.ndarray]:
    """Pads image and objects to the static shapes of a batch."""
    count = len(example.boxes)
    pixels = PixelFormat(example.image.shape[2], 8 * example.image.itemsize)
    keypoints = 0 if example.keypoints is None else example.keypoints.shape[1]
    padded = empty_example(bucket, max_instances, example.masks.shape[-1], pixels, keypoints)
    height, width = example.image.shape[:2]
    padded["image"][:height, :width] = example.image
    padded["image_size"][:] = height, width
    padded["gt_boxes"][:count] = example.boxes
    padded["gt_classes"][:count] = example.classes
    padded["gt_masks"][:count] = example.masks
    padded["gt_crowd"][:count] = example.crowd
    padded["gt_valid"][:count] = True
    if example.keypoints is not None:
        padded["gt_keypoints"][:count] = example.keypoints
    padded["image_valid"][...] = True
    return padded


def empty_example(
    bucket: sizes.Size,
    max_instances: int,
    mask_size: int,
    pixels: PixelFormat = RGB8,
    keypoints: int = 0,
) -> dict[str, np.ndarray]:
    """Returns a slot that holds no image: black, without objects, `image_valid` false.

    Its `image_size` is the whole bucket, so that nothing downstream meets an image of no size.
    """
    spec = example_spec(bucket, max_instances, mask_size, pixels, keypoints)
    example = {name: np.zeros(shape, dtype) for name, (shape, dtype) in spec.items()}
    example["image_size"][:] = bucket
    return example


def example_spec(
    bucket: tuple[int | None, int | None],
    max_instances: int,
    mask_size: int,
    pixels: PixelFormat = RGB8,
    keypoints: int = 0,
) -> dict[str, tuple[tuple[Any, ...], type]]:
    """Returns shape and dtype of every array of an example; a batch has one axis more in front.

    Args:
        bucket: height and width of the padded image.
        max_instances: G, ground-truth slots.
        mask_size: M, side of the grid of a mask.
        pixels: channels and depth of the image.
        keypoints: P of each object; 0: none.
    """
    slots = max_instances
    points = {"gt_keypoints": ((slots, keypoints, 3), np.float32)} if keypoints else {}
    return {
        "image": ((*bucket, pixels.channels), pixels.dtype),
        "image_size": ((2,), np.float32),
        "gt_boxes": ((slots, 4), np.float32),
        "gt_classes": ((slots,), np.int32),
        "gt_masks": ((slots, mask_size, mask_size), np.uint8),
        "gt_crowd": ((slots,), np.bool_),
        "gt_valid": ((slots,), np.bool_),
        "image_valid": ((), np.bool_),
        **points,
    }
