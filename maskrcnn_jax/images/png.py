"""Pictures as the contents of image files."""

import io

import cv2
import numpy as np

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


def encode_png(image: np.ndarray) -> bytes:
    """Returns an RGB image `[h, w, 3]` uint8 as the content of a PNG file."""
    return encode_picture(image, ".png")


def encode_picture(image: np.ndarray, suffix: str) -> bytes:
    """Returns an RGB image `[h, w, 3]` uint8 as the content of a file.

    Args:
        image: the picture.
        suffix: of the file, one of `SUFFIXES`.
    """
    _, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return data.tobytes()


def to_file(image: np.ndarray) -> tuple[bytes, str]:
    """Returns an image [h, w, C] as the content of a file without loss, and how its name ends.

    It is PNG for RGB of 8 bits, and else numpy's `.npy`.
    """
    if image.shape[2] == 3 and image.dtype == np.uint8:
        return encode_png(image), ".png"
    stream = io.BytesIO()
    np.save(stream, image, allow_pickle=False)
    return stream.getvalue(), ".npy"
