"""COCO's compressed run lengths of a mask, and its boxes: what results of inference are written in.

pycocotools writes the same text; it is not needed for predictions.
"""

import numpy as np

from maskrcnn_jax.images.paste import MaskCrop

_DIGITS = 7  # of five bits: enough for a sign and the runs of any image


def box_entry(box: np.ndarray) -> list[float]:
    """Returns a box [4] xyxy as `bbox`: x, y, width, height.

    As Python's floats, of 64 bits: there a corner plus a side is the other corner, rounded.
    """
    x1, y1, x2, y2 = (float(corner) for corner in box)
    return [x1, y1, x2 - x1, y2 - y1]


def crop_to_rle(crop: MaskCrop, height: int, width: int) -> dict[str, object]:
    """Encodes a mask by run lengths from its crop alone, without a bitmap of the whole image.

    Runs go down the columns. Only the crop's own columns are written out at full height; the
    columns left and right of them merely lengthen the first and the last run of zeros.

    Args:
        crop: the mask.
        height: of the image, pixels.
        width: of the image, pixels.

    Returns:
        `{"size": [height, width], "counts": text}`, as `pycocotools.mask.encode` of the whole, the
        counts as text for JSON.
    """
    rows, columns = crop.mask.shape
    strip = np.zeros((columns, height), bool)
    strip[:, crop.y : crop.y + rows] = crop.mask.T
    bordered = np.concatenate([[False], strip.ravel(), [False]])
    changes = np.flatnonzero(bordered[1:] != bordered[:-1]) + crop.x * height
    counts = np.diff(np.concatenate([[0], changes, [height * width]]))
    if counts[-1] == 0:  # the object holds the image's last pixel
        counts = counts[:-1]
    return {"size": [height, width], "counts": _text(counts)}


def _text(counts: np.ndarray) -> str:
    """Writes run lengths in COCO's code, which `data.masks.rle` describes."""
    numbers = counts.astype(np.int64)
    numbers[3:] -= counts[1:-2]
    digits = numbers[:, None] >> 5 * np.arange(_DIGITS)  # the sign fills what is left of a number
    low = digits & 31
    # A digit is the last where only copies of its highest bit, the sign, are left of the number.
    left = np.concatenate([digits[:, 1:], digits[:, -1:] >> 5], 1)
    is_last = left == -(low >> 4)
    last = is_last.argmax(1)
    place = np.arange(_DIGITS)
    codes = (low | 32 * (place < last[:, None])) + 48
    return codes[place <= last[:, None]].astype(np.uint8).tobytes().decode("ascii")
