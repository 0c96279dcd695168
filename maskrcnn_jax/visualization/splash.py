"""Objects in colour while the rest of an image is grey."""

from collections.abc import Iterable

import cv2
import numpy as np


def color_splash(image: np.ndarray, masks: Iterable[np.ndarray]) -> np.ndarray:
    """Turns all that is outside of the masks grey.

    Args:
        image: `[h, w, 3]` uint8, RGB; it is not changed.
        masks: masks `[h, w]`, bool or 0 and 1; one at a time is enough.

    Returns:
        `[h, w, 3]` uint8, RGB; without any mask all of it is grey.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    picture = np.repeat(grey[..., None], 3, axis=2)
    inside = np.zeros(image.shape[:2], bool)
    for mask in masks:
        inside |= np.asarray(mask, bool)
    picture[inside] = image[inside]
    return picture
