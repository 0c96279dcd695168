"""Whether a mask file of one object shows several, each with a value of its own: a label map."""

import cv2
import numpy as np

from maskrcnn_jax.faults import FaultError, FaultKind

_APART = 0.1  # of the largest value: what differs by less is the noise of compression
_FEW = 32  # values of no more than this are numbers, which are apart by 1


class LabelMap(FaultError):
    """A file that is taken for the mask of one object and shows several."""


def check_one_object(values: np.ndarray) -> None:
    """Raises LabelMap if a file has large areas of two values or colours, neither of them black.

    An area is large where a pixel and its eight neighbours are equal: the soft edge of an object
    has many values, but none of them so.

    Args:
        values: [h, w] or [h, w, C] of the file, C colours.
    """
    pixels = values[..., None] if values.ndim == 2 else values
    top = int(pixels.max(initial=0))
    if top == 0 or min(pixels.shape[:2]) < 3:
        return
    apart = _APART * top if top > _FEW else 0.5
    if pixels.shape[2] == 1 and np.isin(pixels, (0, top)).all():
        return  # black and white, as most are
    flat = np.ones(pixels.shape[:2], bool)
    for channel in np.moveaxis(pixels, -1, 0):
        channel = np.ascontiguousarray(channel).astype(np.float32)
        kernel = np.ones((3, 3), np.uint8)
        flat &= cv2.erode(channel, kernel) == cv2.dilate(channel, kernel)
    flat[[0, -1]] = flat[:, [0, -1]] = False  # where neighbours are missing
    colours = np.unique(pixels[flat], axis=0).astype(np.int64)
    colours = colours[colours.max(1, initial=0) > apart]
    if len(colours) and np.abs(colours - colours[0]).max() > apart:
        raise LabelMap(
            FaultKind.MASK,
            f"it has large areas of {len(colours)} values, as if several objects were numbered in "
            "one file, where one file is one object: keep such files as masks/<image>, and give "
            "config.data.format=label_images",
        )
