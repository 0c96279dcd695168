"""How much a detector with rounded weights still finds of what the original finds."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from maskrcnn_jax.export.comparison import Found
from maskrcnn_jax.ops.boxes import iou

# Two detections are the same where the class is, the boxes overlap so much and the scores are near.
_IOU, _SCORE = 0.9, 0.05
# Of the original's detections: fewer found again mean that something is wrong, not rounded.
_LEAST = 0.9


class Resemblance(NamedTuple):
    """What of the original's detections the exported model finds.

    Attributes:
        images: that were looked at.
        detections: of the original.
        again: of these, found by the exported model, too.
        others: of the exported model that the original does not have.
    """

    images: int
    detections: int
    again: int
    others: int

    def __str__(self) -> str:
        return (
            f"{self.again} of {self.detections} detections of {self.images} images are found again "
            f"(same class, IoU {_IOU}, score within {_SCORE}), {self.others} are new"
        )


def resemble(original: Sequence[Found], exported: Sequence[Found]) -> Resemblance:
    """Counts the detections of some images that two detectors have in common.

    Args:
        original: of each image.
        exported: of each image.

    Raises:
        ValueError: less than nine tenths of the original's are found again, or it has none.
    """
    pairs = list(zip(original, exported, strict=True))
    again = sum(_number_in_common(ours, theirs) for ours, theirs in pairs)
    made = Resemblance(
        len(pairs),
        sum(len(ours.scores) for ours, _ in pairs),
        again,
        sum(len(theirs.scores) for _, theirs in pairs) - again,
    )
    if not made.detections or again < _LEAST * made.detections:
        raise ValueError(str(made))
    return made


def _number_in_common(ours: Found, theirs: Found) -> int:
    """Pairs each of ours, best first, with the one of theirs that overlaps it most."""
    if not len(ours.scores) or not len(theirs.scores):
        return 0
    overlap = np.array(iou(jnp.asarray(ours.boxes), jnp.asarray(theirs.boxes)))
    overlap[ours.classes[:, None] != theirs.classes] = 0
    overlap[np.abs(ours.scores[:, None] - theirs.scores) > _SCORE] = 0
    number = 0
    for row in overlap:
        if row[(best := int(row.argmax()))] >= _IOU:
            number += 1
            overlap[:, best] = 0  # it is taken
    return number
