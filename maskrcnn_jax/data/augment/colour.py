"""Random changes of an image's colours; boxes and masks know nothing of them.

Brightness, contrast, saturation, hue and grey are each an affine map of (red, green, blue), so all
of them together are one: applied once, rounded once, clipped once. Images of other channels have
the first two alone, and each channel its own mean for the contrast.
"""

import cv2
import numpy as np

from maskrcnn_jax.data.augment.random_streams import Streams
from maskrcnn_jax.data.config import AugmentConfig
from maskrcnn_jax.images.channels import in_fours

_LUMA = np.array([0.299, 0.587, 0.114])  # of red, green and blue in brightness, ITU-R BT.601
# From RGB to YIQ, brightness and two axes of colour (NTSC): hue is the angle in that plane.
_YIQ = np.array([_LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


def change_colours(streams: Streams, image: np.ndarray, augment: AugmentConfig) -> np.ndarray:
    """Returns the image with its colours changed at random.

    Args:
        streams: the image's random numbers.
        image: [h, w, C] uint8 or uint16; it is not changed.
        augment: the configuration's `data.augment` section.

    Returns:
        [h, w, C] of the same dtype; the image itself where nothing is switched on.
    """

    def factor(kind: str) -> float:
        """Returns what is drawn from 1 - value to 1 + value."""
        value = getattr(augment, kind)
        return float(streams.of(kind).uniform(1 - value, 1 + value)) if value else 1.0

    turn = float(streams.of("hue").uniform(-augment.hue, augment.hue)) if augment.hue else 0.0
    is_grey = streams.of("grey").random() < augment.grey
    saturation = 0.0 if is_grey else factor("saturation")
    image = map_colours(image, factor("brightness"), factor("contrast"), saturation, turn)
    rng = streams.of("blur")
    if rng.random() < augment.blur:
        low, high = augment.blur_range
        sigma = float(rng.uniform(low, high))
        image = in_fours(lambda part: cv2.GaussianBlur(part, (0, 0), sigma), image)
    if augment.noise:
        image = add_noise(streams.of("noise"), image, augment.noise)
    return image


def map_colours(
    image: np.ndarray,
    brightness: float = 1.0,
    contrast: float = 1.0,
    saturation: float = 1.0,
    turn: float = 0.0,
) -> np.ndarray:
    """Returns an image with other colours.

    Args:
        image: [h, w, C] uint8 or uint16; the last two changes are of RGB alone.
        brightness: factor of all values.
        contrast: factor of their distance from the image's mean grey, or the channel's mean.
        saturation: factor of their distance from the grey of the same brightness; 0: grey.
        turn: of the hues, from red over yellow to green, as a fraction of the circle; brightness
            stays.

    Returns:
        [h, w, C] of the same dtype; the image itself where it is to stay as it is.
    """
    if (brightness, contrast, saturation, turn) == (1, 1, 1, 0):
        return image
    if image.shape[2] != 3:
        factor, shifts = contrast * brightness, (1 - contrast) * brightness * image.mean((0, 1))
        return in_fours(lambda part, shift: _scaled(part, factor, shift), image, shifts)
    grey = np.tile(_LUMA, (3, 1))
    cos, sin = np.cos(2 * np.pi * turn), np.sin(2 * np.pi * turn)
    turned = np.linalg.inv(_YIQ) @ [[1, 0, 0], [0, cos, sin], [0, -sin, cos]] @ _YIQ
    matrix = turned @ (saturation * np.eye(3) + (1 - saturation) * grey) * (contrast * brightness)
    # A shade of grey stays the same under the matrix, but for its first two factors.
    shift = (1 - contrast) * brightness * float(_LUMA @ cv2.mean(image)[:3])
    return cv2.transform(image, np.column_stack([matrix, np.full(3, shift)]))


def _scaled(image: np.ndarray, factor: float, shift: np.ndarray) -> np.ndarray:
    """Returns an image times a factor, shifted by [C], rounded and clipped."""
    return cv2.transform(image, np.column_stack([factor * np.eye(len(shift)), shift]))


def add_noise(rng: np.random.Generator, image: np.ndarray, most: float) -> np.ndarray:
    """Returns an image with Gaussian noise, independent for each value.

    Args:
        rng: source of the noise.
        image: [h, w, C] uint8 or uint16.
        most: its standard deviation is drawn from 0 to this, in levels of the image.
    """
    deviation = np.float32(rng.uniform(0, most))
    noise = rng.standard_normal(image.shape, np.float32) * deviation
    most_level = np.iinfo(image.dtype).max
    return np.clip(np.rint(image + noise), 0, most_level).astype(image.dtype)
