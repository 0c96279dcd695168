"""One training image with its objects, on its way into a batch."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Example:
    """One image with its n objects, in pixels of `image`.

    image: [h, w, C] uint8 or uint16.
    boxes: [n, 4] float32, xyxy.
    classes: [n] int32, 1..K.
    crowd: [n] bool.
    masks: [n, M, M] uint8, coverage 0..255 of each cell of a grid inside the object's box.
    keypoints: [n, P, 3] float32: x, y and how well they are known (0, 1 hidden, 2 seen); None: none
        are wanted.
    """

    image: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    crowd: np.ndarray
    masks: np.ndarray
    keypoints: np.ndarray | None = None
