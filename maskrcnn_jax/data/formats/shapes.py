"""A detection problem that needs no download: generated images of overlapping shapes.

Circles, rectangles and triangles of any size, turn and colour lie over one another on textured
ground. Each image is a function of (seed, index) alone, drawn again whenever it is read.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from maskrcnn_jax.data.masks.segmentation import RLE, box_of
from maskrcnn_jax.data.records import Dataset, Instance, Record, make_record
from maskrcnn_jax.images.channels import Kind, as_wanted, check_kind, fitted
from maskrcnn_jax.images.pixels import RGB8, PixelFormat

CLASS_NAMES = ("circle", "rectangle", "triangle")
_MIN_SHARE_SEEN = 0.6  # of each shape; one that would hide more of another is not placed
_SUBPIXELS = 4  # binary digits of a corner's position within a pixel
_ATTEMPTS = 5  # at placing each shape


@dataclass(frozen=True, slots=True)
class _Scene:
    """What is where: `owner` [size, size] uint8 has each pixel's shape, counted from 1, or 0."""

    owner: np.ndarray
    classes: list[int]


def read(count: int, seed: int, size: int = 128, max_objects: int = 6) -> Dataset:
    """Returns a dataset of generated images; two calls agree on the images they have in common.

    Args:
        count: images.
        seed: of all of them; training and validation images differ by it.
        size: side of the square images, in pixels, from 32.
        max_objects: each image has 1 to this many shapes, at most 50.

    Raises:
        ValueError: an argument is out of range.
    """
    for name, value, low, high in (
        ("count", count, 1, 10_000_000),
        ("seed", seed, 0, 2**32 - 1),
        ("size", size, 32, 4096),
        ("max_objects", max_objects, 1, 50),
    ):
        if not low <= value <= high:
            raise ValueError(f"shapes: {name} is {value}; expected {low} to {high}")

    def draw(record: Record, wanted: PixelFormat = RGB8) -> np.ndarray:
        check_kind(Kind(channels=3, colours=3, depth=8), wanted, "a generated image")
        rng = _rng(seed, int(record.image_id))
        painted = _paint(_place_shapes(rng, size, max_objects), rng)
        return as_wanted(lambda form: fitted(painted, 3, form), 8, wanted)

    return Dataset(
        name=f"shapes-{seed}",
        class_names=CLASS_NAMES,
        category_ids=(1, 2, 3),
        records=[
            _record(index, _place_shapes(_rng(seed, index), size, max_objects), max_objects)
            for index in range(count)
        ],
        read_image=draw,
    )


def _rng(seed: int, index: int) -> np.random.Generator:
    return np.random.default_rng([seed, index])


def _record(index: int, scene: _Scene, max_objects: int) -> Record:
    """Returns the record of a scene: the visible part of each shape and the box tight around it."""
    size = len(scene.owner)
    numbers = np.arange(1, len(scene.classes) + 1)
    masks = np.asfortranarray((scene.owner[..., None] == numbers).astype(np.uint8))
    instances = []
    for number, rle in zip(numbers.tolist(), coco_mask.encode(masks), strict=True):
        mask = RLE((size, size), rle["counts"])
        annotation_id, area = index * max_objects + number, float(coco_mask.area(rle))
        instances.append(
            Instance(box_of(mask), scene.classes[number - 1], False, mask, annotation_id, area)
        )
    return make_record(index, "", size, size, instances)


def _place_shapes(rng: np.random.Generator, size: int, max_objects: int) -> _Scene:
    """Lays shapes one over the other, none of them hiding most of another."""
    owner = np.zeros((size, size), np.uint8)
    classes, areas = [], [0]
    for _ in range(rng.integers(1, max_objects + 1)):
        for _ in range(_ATTEMPTS):
            shape = int(rng.integers(len(CLASS_NAMES)))
            mask = _shape_mask(rng, shape, size)
            trial = np.where(mask, np.uint8(len(areas)), owner)
            seen = np.bincount(trial.ravel(), minlength=len(areas) + 1)
            if all(seen[1:-1] >= _MIN_SHARE_SEEN * np.array(areas[1:])):
                owner = trial
                classes.append(shape + 1)
                areas.append(int(seen[-1]))
                break
    return _Scene(owner, classes)


def _shape_mask(rng: np.random.Generator, shape: int, size: int) -> np.ndarray:
    """Returns one shape of random size, place and turn, [size, size] bool."""
    mask = np.zeros((size, size), np.uint8)
    radius = size * rng.uniform(0.11, 0.24)
    centre = rng.uniform(0.06 * size, 0.94 * size, 2)  # some reach over the border
    one = 1 << _SUBPIXELS
    if shape == 0:
        x, y = (round(float(v) * one) for v in centre)
        cv2.circle(mask, (x, y), round(radius * one), 1, cv2.FILLED, shift=_SUBPIXELS)
        return mask.astype(bool)
    turn = rng.uniform(0, 2 * np.pi)
    if shape == 1:
        half = np.arctan(rng.uniform(0.5, 1.0))  # the angle of the diagonal: sides 1:2 to 1:1
        angles = np.array([half, np.pi - half, np.pi + half, -half])
    else:
        angles = np.arange(3) * 2 * np.pi / 3 + rng.uniform(-0.25, 0.25, 3)
        radius *= 1.2  # of the same area as the others, about
    corners = centre + radius * np.stack([np.cos(angles + turn), np.sin(angles + turn)], 1)
    cv2.fillPoly(mask, [np.rint(corners * one).astype(np.int32)], 1, shift=_SUBPIXELS)
    return mask.astype(bool)


def _paint(scene: _Scene, rng: np.random.Generator) -> np.ndarray:
    """Returns the picture of a scene, [size, size, 3] uint8: dull ground, vivid shapes, noise."""
    size = len(scene.owner)
    coarse = rng.integers(0, 256, (rng.integers(3, 12), rng.integers(3, 12), 3), dtype=np.uint8)
    ground = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    ground = 128 + 0.35 * (ground - 128) + rng.uniform(-50, 50)
    colours = _vivid_colours(rng, len(scene.classes))
    waves = _waves(rng, size)[..., None]  # one pattern for all: it says nothing about the class
    picture = np.where(scene.owner[..., None] > 0, colours[scene.owner] + waves, ground)
    noise = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
    picture += (noise.astype(np.float32) - 127.5) * rng.uniform(0.05, 0.2)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _vivid_colours(rng: np.random.Generator, count: int) -> np.ndarray:
    """Returns [count + 1, 3] float32 RGB, the first black; hues apart, so that edges are seen."""
    hues = (rng.uniform() + rng.permutation(count) / count) * 180 % 180
    hsv = np.stack([hues, rng.uniform(170, 255, count), rng.uniform(110, 235, count)], 1)
    rgb = cv2.cvtColor(hsv[None].astype(np.uint8), cv2.COLOR_HSV2RGB)[0]
    return np.concatenate([np.zeros((1, 3)), rgb]).astype(np.float32)


def _waves(rng: np.random.Generator, size: int) -> np.ndarray:
    """Returns stripes of random direction, width and depth, [size, size] float32."""
    turn, period = rng.uniform(0, np.pi), rng.uniform(4, 24)
    along = np.arange(size, dtype=np.float32) * np.float32(2 * np.pi / period)
    phase = along[:, None] * np.float32(np.sin(turn)) + along * np.float32(np.cos(turn))
    return np.float32(rng.uniform(0, 25)) * np.sin(phase)
