"""Which way a training image is changed: its settings, checked, and the geometry drawn from them.

`docs/augmentation.md` tells what each setting does. Whatever is drawn, the result fits the bucket
that the sampler chose for the image by its original size.
"""

from dataclasses import replace

import numpy as np

from maskrcnn_jax.data.augment.geometry import Geometry
from maskrcnn_jax.data.augment.random_streams import Streams
from maskrcnn_jax.data.config import AugmentConfig, DataConfig
from maskrcnn_jax.images.pixels import pixel_format
from maskrcnn_jax.images.sizes import Size, largest_size_inside, resized_size, short_side_size
from maskrcnn_jax.images.tiles import Window


def fill_values(data: DataConfig) -> tuple[float, ...]:
    """Returns the value of each channel where an image does not reach: `data.augment.fill`.

    Only a rotation leaves such places in sight. Without one, numbers that are not the channels' are
    no fault, and black is as good.
    """
    fill, channels = tuple(data.augment.fill), pixel_format(data).channels
    return fill if len(fill) in (1, channels) else (0,)


def plain_geometry(window: Window, bucket: Size, data: DataConfig) -> Geometry:
    """Returns the geometry of a window as predictions see it: resized, and nothing else.

    Args:
        window: the part of the image that is used.
        bucket: height and width of the padded input, as chosen for the window's size.
        data: the configuration's `data` section.
    """
    return _resized(Geometry(window, bucket, bucket), bucket, data)


def _resized(geometry: Geometry, bucket: Size, data: DataConfig, short_side: int = 0) -> Geometry:
    """Returns the geometry with the size by the rule, or as much of it as fits the bucket."""
    if short_side:
        size = short_side_size(*geometry.turned_size, short_side, data.long_side)
    else:
        size = resized_size(*geometry.turned_size, data)
    if size[0] > bucket[0] or size[1] > bucket[1]:
        size = largest_size_inside(*geometry.turned_size, bucket)
    return replace(geometry, size=size, frame=size)


def draw_geometry(streams: Streams, window: Window, bucket: Size, data: DataConfig) -> Geometry:
    """Returns a random geometry for a window of an image, whose frame fits the bucket.

    Args:
        streams: the image's random numbers.
        window: the part of the image that is used.
        bucket: height and width of the padded input, as chosen for the window's size.
        data: the configuration's `data` section.
    """
    augment = data.augment
    geometry = _turned_over(streams, _crop(streams, window, augment), bucket, augment)
    if len(augment.scale_range):
        low, high = augment.scale_range
        geometry = _jittered(streams.of("scale"), geometry, bucket, (low, high))
    else:
        geometry = _resized(geometry, bucket, data, _short_side(streams, augment))
    if augment.rotate:
        angle = streams.of("rotate").uniform(-augment.rotate, augment.rotate)
        geometry = replace(geometry, angle=float(angle))
    return geometry


def _crop(streams: Streams, window: Window, augment: AugmentConfig) -> Window:
    """Returns a random part of the window, or all of it."""
    rng = streams.of("crop")
    if rng.random() >= augment.crop:
        return window
    low = np.array(window[:2])
    size = np.array(window[2:]) - low
    smallest, largest = augment.crop_range
    part = np.maximum(1, np.rint(size * rng.uniform(smallest, largest, 2))).astype(int)
    low += (rng.random(2) * (size - part + 1)).astype(int)
    return (*low.tolist(), *(low + part).tolist())


def _turned_over(
    streams: Streams, window: Window, bucket: Size, augment: AugmentConfig
) -> Geometry:
    """Returns the mirrored and turned window; its size is not settled yet."""
    geometry = Geometry(
        window=window,
        size=bucket,
        frame=bucket,
        flip_x=streams.of("flip").random() < augment.flip,
        flip_y=streams.of("vertical_flip").random() < augment.vertical_flip,
    )
    rng = streams.of("quarter_turns")
    if rng.random() >= augment.quarter_turns:
        return geometry
    return turned_by_quarters(geometry, int(rng.integers(1, 4)))


def turned_by_quarters(geometry: Geometry, quarters: int) -> Geometry:
    """Returns the geometry turned further by quarters of a circle, clockwise; its size is left."""
    for _ in range(quarters):
        geometry = replace(
            geometry,
            transpose=not geometry.transpose,
            flip_x=not geometry.flip_y,
            flip_y=geometry.flip_x,
        )
    return geometry


def _short_side(streams: Streams, augment: AugmentConfig) -> int:
    """Returns the length drawn for the short side; 0 where none is to be drawn."""
    if len(augment.short_sides):
        return int(streams.of("short_side").choice(augment.short_sides))
    if len(augment.short_side_range):
        low, high = augment.short_side_range
        return int(streams.of("short_side").integers(int(low), int(high), endpoint=True))
    return 0


def _jittered(
    rng: np.random.Generator, geometry: Geometry, bucket: Size, scale_range: tuple[float, float]
) -> Geometry:
    """Returns the geometry at a random scale, of which 1 fills the bucket, and a random place.

    What is larger than the bucket is cut to it; what is smaller is padded (Ghiasi et al., Simple
    Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation, CVPR 2021, 3.1).
    """
    height, width = geometry.turned_size
    scale = rng.uniform(*scale_range) * min(bucket[0] / height, bucket[1] / width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    frame = min(size[0], bucket[0]), min(size[1], bucket[1])
    x, y = rng.random(2) * (size[1] - frame[1] + 1, size[0] - frame[0] + 1)
    return replace(geometry, size=size, frame=frame, offset=(int(x), int(y)))
