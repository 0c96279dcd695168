"""COCO's run-length masks, read with care.

A mask is the lengths of its runs of 0, 1, 0, ..., column after column. In the compressed text each
length is written as its difference from the length two before (from the fourth on), in groups of
five bits, lowest first, with a flag for "more follow". pycocotools decodes it too, but only whole
masks, and it leaves the rest of the memory as it was where the runs end early: so lengths are
checked here, and only the columns asked for are decoded.
"""

import numpy as np
from pycocotools import mask as coco_mask

from maskrcnn_jax.faults import FaultError, FaultKind


def compress(counts: object, height: int, width: int) -> bytes:
    """Returns the compressed text of a run-length mask.

    Args:
        counts: what an annotation's `counts` holds: a list of run lengths, or compressed text.
        height: of the mask, in pixels.
        width: of the mask, in pixels.

    Raises:
        ValueError: these are no run lengths of a mask of that size.
    """
    if isinstance(counts, str | bytes):
        text = counts.encode() if isinstance(counts, str) else counts
        lengths = run_lengths(text)
    elif isinstance(counts, list) and all(type(c) is int and abs(c) < 2**32 for c in counts):
        text = None
        lengths = np.array(counts, np.int64)
    else:
        raise FaultError(
            FaultKind.MASK, "run lengths are neither text nor a list of whole numbers below 2^32"
        )
    if np.any(lengths < 0):
        raise FaultError(FaultKind.MASK, "a run of the mask has a negative length")
    if lengths.sum() != height * width:
        raise FaultError(
            FaultKind.MASK_SIZE,
            f"the runs of the mask add up to {lengths.sum()} pixels; expected {height} x {width} "
            f"= {height * width}",
        )
    if text is None:
        rle = {"size": [height, width], "counts": counts}
        text = coco_mask.frPyObjects(rle, height, width)["counts"]
    return text


def run_lengths(text: bytes) -> np.ndarray:
    """Returns the run lengths that compressed text stands for, [runs] int64.

    Args:
        text: compressed counts.

    Raises:
        ValueError: the text is not in COCO's code.
    """
    digits = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if len(digits) == 0 or digits.min() < 0 or digits.max() > 63 or digits[-1] & 32:
        raise FaultError(
            FaultKind.MASK, "the compressed run lengths are not in COCO's code, or are cut short"
        )
    last = np.flatnonzero(digits & 32 == 0)  # of each number's digits
    first = np.concatenate([[0], last[:-1] + 1])
    place = np.arange(len(digits)) - np.repeat(first, last - first + 1)
    if place.max() > 6:
        raise FaultError(FaultKind.MASK, "a compressed run length has more than 32 bits")
    numbers = np.add.reduceat((digits & 31) << 5 * place, first)
    numbers -= np.where(digits[last] & 16, 32 << 5 * place[last], 0)  # the sign
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def decode_columns(text: bytes, height: int, first: int, end: int) -> np.ndarray:
    """Returns columns [first, end) of a mask, [height, end - first] uint8, 0 or 1.

    Args:
        text: compressed counts.
        height: of the mask, in pixels.
        first: column.
        end: column after the last.

    Raises:
        ValueError: the runs do not reach that far.
    """
    ends = np.cumsum(run_lengths(text))
    if ends[-1] < end * height:
        raise FaultError(
            FaultKind.MASK_SIZE, f"the runs of the mask end before column {end} of {height} pixels"
        )
    low, high = first * height, end * height
    lengths = np.diff(np.clip(ends, low, high), prepend=low)
    values = (np.arange(len(ends)) & 1).astype(np.uint8)
    return np.repeat(values, lengths).reshape(end - first, height).T
