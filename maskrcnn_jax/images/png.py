"""PNG files of RGB images."""

import cv2
import numpy as np


def encode_png(image: np.ndarray) -> bytes:
    """Returns an RGB image `[h, w, 3]` uint8 as the content of a PNG file."""
    _, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return data.tobytes()
