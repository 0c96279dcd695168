"""Ways to decode a JPEG file and to resize it bilinearly, to compare with ours.

Each takes a path and the wanted height and width, and returns [height, width, 3] uint8.
"""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from maskrcnn_jax.images.read import read_image
from maskrcnn_jax.images.sizes import Size, resize_image

try:
    import tensorflow as tf
except ModuleNotFoundError:
    tf = None


def ours(path: Path, size: Size) -> np.ndarray:
    """Decodes with Pillow and resizes with OpenCV, as the pipeline does."""
    return resize_image(read_image(path), size)


def opencv(path: Path, size: Size) -> np.ndarray:
    return cv2.resize(cv2.imread(str(path))[..., ::-1], size[::-1], interpolation=cv2.INTER_LINEAR)


def pillow(path: Path, size: Size) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR))


def tf_image(path: Path, size: Size) -> np.ndarray:
    image = tf.io.decode_jpeg(tf.io.read_file(str(path)), channels=3)
    return tf.cast(tf.round(tf.image.resize(image, size)), tf.uint8).numpy()


WAYS = {
    "with OpenCV alone": opencv,
    "with Pillow alone": pillow,
} | ({"with tf.image": tf_image} if tf else {})
