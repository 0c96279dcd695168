"""The size at which an image enters the network, its bucket, and how it gets there.

Training and inference share these functions. Masks live on grids inside their own boxes, so
resizing and padding leave them as they are.
"""

import cv2
import numpy as np

from maskrcnn_jax.images.channels import in_fours
from maskrcnn_jax.images.config import ImageConfig

Size = tuple[int, int]  # height, width


def short_side_size(height: int, width: int, short_side: int, long_side: int) -> Size:
    """Returns the size at which the short side is as given, or the long side where that is less.

    Args:
        height: of the image, pixels.
        width: of the image, pixels.
        short_side: its wanted length, pixels.
        long_side: its upper limit, pixels.

    Returns:
        Height and width, rounded down as torchvision 0.28 does; at least 1.
    """
    scale = min(short_side / min(height, width), long_side / max(height, width))
    return max(1, int(height * scale)), max(1, int(width * scale))


def largest_size_inside(height: int, width: int, bucket: Size) -> Size:
    """Returns the largest size with the image's aspect ratio that fits the bucket."""
    if bucket[0] * width <= bucket[1] * height:
        return bucket[0], max(1, width * bucket[0] // height)
    return max(1, height * bucket[1] // width), bucket[1]


def resized_size(height: int, width: int, data: ImageConfig) -> Size:
    """Returns the size that an image is resized to; it always fits one of `data.buckets`.

    With `data.resize` = "short_side" torchvision's rule decides; an image that would then fit no
    bucket is made as large as the buckets allow instead. "square" always does the latter.

    Args:
        height: of the image, pixels.
        width: of the image, pixels.
        data: the configuration's `data` section.

    Returns:
        Height and width, pixels.

    Raises:
        ValueError: the image has no pixels.
    """
    if height < 1 or width < 1:
        raise ValueError(f"an image of {height} x {width} pixels cannot be resized")
    buckets = data.buckets
    if data.resize == "short_side":
        size = short_side_size(height, width, data.short_side, data.long_side)
        if any(_fits(size, bucket) for bucket in buckets):
            return size
    return max(
        (largest_size_inside(height, width, bucket) for bucket in buckets),
        key=lambda size: size[0] * size[1],
    )


def choose_bucket(height: int, width: int, buckets: tuple[Size, ...]) -> int:
    """Returns the index of the bucket of least area that an image of this (resized) size fits.

    Raises:
        ValueError: it fits none; sizes from `resized_size` always fit one.
    """
    fitting = [i for i, bucket in enumerate(buckets) if _fits((height, width), bucket)]
    if not fitting:
        raise ValueError(f"an image of {height} x {width} pixels fits none of {tuple(buckets)}")
    return min(fitting, key=lambda i: buckets[i][0] * buckets[i][1])


def bucket_of_size(height: int, width: int, data: ImageConfig) -> int:
    """Returns the index in `data.buckets` for an image of this original size."""
    return choose_bucket(*resized_size(height, width, data), data.buckets)


def _fits(size: Size, bucket: Size) -> bool:
    return size[0] <= bucket[0] and size[1] <= bucket[1]


def resize_image(image: np.ndarray, size: Size) -> np.ndarray:
    """Resizes bilinearly with half-pixel centres and no antialiasing, as torchvision 0.28.

    Args:
        image: [h, w, C] or [h, w], uint8 or uint16.
        size: height and width wanted, pixels.

    Returns:
        [height, width, C] or [height, width], of the same dtype, rounded.
    """
    if image.shape[:2] == tuple(size):
        return image
    shape = size[1], size[0]
    return in_fours(lambda part: cv2.resize(part, shape, interpolation=cv2.INTER_LINEAR), image)


def pad_image(image: np.ndarray, size: Size) -> np.ndarray:
    """Returns [height, width, C] with the image at the top left and zeros elsewhere."""
    padded = np.zeros((*size, image.shape[2]), image.dtype)
    padded[: image.shape[0], : image.shape[1]] = image
    return padded


def prepare_image(image: np.ndarray, data: ImageConfig) -> tuple[np.ndarray, np.ndarray]:
    """Resizes an image and pads it to its bucket: all that inference does before the network.

    Args:
        image: [h, w, C] uint8 or uint16.
        data: the configuration's `data` section.

    Returns:
        The network input [H, W, C], of the same dtype, and its valid height and width [2] float32.
        Boxes of the network times `original_size / valid_size` are boxes of the original image.
    """
    height, width = image.shape[:2]
    size = resized_size(height, width, data)
    bucket = data.buckets[choose_bucket(*size, data.buckets)]
    return pad_image(resize_image(image, size), bucket), np.array(size, np.float32)


def resize_boxes(boxes: np.ndarray, size: Size, new_size: Size) -> np.ndarray:
    """Scales boxes [n, 4] by the true ratio of two sizes (height, width), as torchvision 0.28."""
    scale_y = np.float32(new_size[0]) / np.float32(size[0])
    scale_x = np.float32(new_size[1]) / np.float32(size[1])
    return boxes * np.array([scale_x, scale_y, scale_x, scale_y], np.float32)
