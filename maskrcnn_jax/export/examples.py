"""Images on which an exported detector is compared with the original."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from maskrcnn_jax.images.config import ImageConfig
from maskrcnn_jax.images.pixels import pixel_format
from maskrcnn_jax.images.read import read_image
from maskrcnn_jax.images.sizes import prepare_image

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".npy"}

Example = tuple[np.ndarray, np.ndarray]  # image [H, W, C] and its valid size [2] float32


def find(paths: Sequence[str], number: int) -> list[Path]:
    """Returns the first image files of those given and of the folders given.

    Raises:
        ValueError: there are none.
        FileNotFoundError: a path does not exist.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"--images={path} does not exist; give images or a folder")
        if path.is_dir():
            found += sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES)
        else:
            found.append(path)
    if not found:
        raise ValueError(f"--images: no image files in {', '.join(paths)}")
    return found[:number]


def read(paths: Sequence[Path], data: ImageConfig) -> list[Example]:
    """Returns images as the network gets them.

    Args:
        paths: of the files.
        data: `config.data`, of one bucket.

    Raises:
        OSError, ValueError: a file cannot be read as an image.
    """
    wanted = pixel_format(data)
    return [prepare_image(read_image(path, data.max_pixels, wanted=wanted), data) for path in paths]


def generated(number: int, data: ImageConfig, bucket: tuple[int, int]) -> list[Example]:
    """Returns images of ellipses and rectangles on a soft, noisy ground; always the same ones.

    Args:
        number: of images; all but the first have a border of padding.
        data: `config.data`.
        bucket: H and W.
    """
    wanted = pixel_format(data)
    most = np.iinfo(wanted.dtype).max
    examples = []
    for i in range(number):
        rng = np.random.default_rng(i)
        drawn = most * _drawing(rng, bucket, wanted.channels)
        image: np.ndarray = drawn.round().astype(wanted.dtype)
        valid = np.array(bucket) - (i > 0) * rng.integers(0, np.array(bucket) // 4)
        image[valid[0] :], image[:, valid[1] :] = 0, 0
        examples.append((image, valid.astype(np.float32)))
    return examples


def _drawing(rng: np.random.Generator, bucket: tuple[int, int], channels: int) -> np.ndarray:
    """Returns an image [H, W, C] of 0..1."""
    height, width = bucket
    coarse = rng.random((4, 4, channels), np.float32)
    layers = [cv2.resize(layer, (width, height)) for layer in coarse.transpose(2, 0, 1)]
    image = np.stack(layers, axis=-1)
    for k in range(12):
        centre = tuple(int(x) for x in rng.integers(0, (width, height)))
        reach = tuple(int(x) for x in rng.integers(4, max(min(bucket) // 5, 5), 2))
        shape = np.zeros(bucket, np.uint8)
        if k % 2:
            cv2.ellipse(shape, centre, reach, float(rng.uniform(0, 180)), 0, 360, 1, -1)
        else:
            corner = tuple(c + r for c, r in zip(centre, reach, strict=True))
            cv2.rectangle(shape, centre, corner, 1, -1)
        image[shape > 0] = rng.random(channels)
    return np.clip(image + rng.normal(0, 0.03, image.shape), 0, 1)
