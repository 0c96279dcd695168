"""Whether an exported detector finds what the original finds, and how fast both are."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from maskrcnn_jax.images.paste import paste_mask

# The largest differences that are allowed: of boxes in pixels, of scores, of masks' probabilities.
MAX_BOX, MAX_SCORE, MAX_MASK = 1e-3, 1e-4, 1e-3
# Scores that differ by less may come in another order: rounding decides between them.
_TIE = 1e-6
# Limits of the measurement of time; three rounds are made in any case.
_ROUNDS, _SECONDS = 10, 20.0


class Found(NamedTuple):
    """The detections of one image, best first."""

    boxes: np.ndarray  # [n, 4] float32, xyxy, input pixels
    scores: np.ndarray  # [n] float32
    classes: np.ndarray  # [n] int, 1..K
    masks: np.ndarray  # [n, 2S, 2S] float32, or [n, H, W] uint8; [n, 0, 0] of boxes alone


# From image [B, H, W, C] and image_size [B, 2] to the detections of each image.
Run = Callable[[np.ndarray, np.ndarray], list[Found]]


class Agreement(NamedTuple):
    """How far two detectors agree on some images.

    Attributes:
        images: that were looked at.
        detections: of the original.
        box: largest difference of a corner, pixels.
        score: largest difference of a score.
        mask: largest difference of a probability. For pasted masks: by how much a probability of
            the original lies on the other side of 0.5.
        swapped: detections that stand in another place because their scores are as good as equal.
    """

    images: int
    detections: int
    box: float
    score: float
    mask: float
    swapped: int

    def __str__(self) -> str:
        swapped = f", {self.swapped} of equal scores in another order" if self.swapped else ""
        return (
            f"{self.detections} detections of {self.images} images, same classes and order"
            f"{swapped}; largest differences: boxes {self.box:.1e} px (allowed {MAX_BOX:.0e}), "
            f"scores {self.score:.1e} ({MAX_SCORE:.0e}), masks {self.mask:.1e} ({MAX_MASK:.0e})"
        )


def compare(
    original: Sequence[Found], exported: Sequence[Found], paste_rule: str | None = None
) -> Agreement:
    """Compares the detections of some images.

    Args:
        original: of each image.
        exported: of each image.
        paste_rule: by which the exported masks are pasted into whole images
            (`config.model.detections.mask_paste`); None: they are grids as the original's.

    Raises:
        ValueError: the number, a class, a box, a score or a mask differs by more than is allowed,
            or the original has found nothing, which would prove nothing.
    """
    pairs = list(zip(original, exported, strict=True))
    number = sum(len(ours.scores) for ours, _ in pairs)
    if not number:
        raise ValueError(
            f"the original finds nothing on the {len(pairs)} images, so that nothing can be "
            "compared; give images with objects: --images=FOLDER"
        )
    differences, swapped = np.zeros(3), 0
    for i, (ours, theirs) in enumerate(pairs):
        if len(ours.scores) != len(theirs.scores):
            raise ValueError(
                f"image {i + 1}: the original finds {len(ours.scores)} objects and the exported "
                f"model {len(theirs.scores)}"
            )
        order = _paired(ours, theirs)
        swapped += int((order != np.arange(len(order))).sum())
        theirs = Found(*(part[order] for part in theirs))
        if (wrong := np.flatnonzero(ours.classes != theirs.classes)).size:
            at = wrong[0]
            raise ValueError(
                f"image {i + 1}, detection {at + 1}: the original has class {ours.classes[at]} and "
                f"the exported model class {theirs.classes[at]}"
            )
        differences = np.maximum(differences, _differences(ours, theirs, paste_rule))
    box, score, mask = differences.tolist()
    agreement = Agreement(len(pairs), number, box, score, mask, swapped)
    # Written so that NaN does not pass.
    if not (differences <= (MAX_BOX, MAX_SCORE, MAX_MASK)).all():
        raise ValueError(str(agreement).replace("same classes and order", "same classes"))
    return agreement


def _paired(ours: Found, theirs: Found) -> np.ndarray:
    """Returns the order of theirs in which each stands beside its own.

    Only detections whose scores are as good as equal change places, to where their boxes fit.
    """
    order = np.arange(len(ours.scores))
    ends = np.flatnonzero(-np.diff(ours.scores) > _TIE) + 1
    for group in np.split(order.copy(), ends):
        free = list(group)
        for place in group:
            gaps = [
                np.abs(ours.boxes[place] - theirs.boxes[k]).max()
                + 1e6 * (ours.classes[place] != theirs.classes[k])
                for k in free
            ]
            order[place] = free.pop(int(np.argmin(gaps)))
    return order


def _differences(ours: Found, theirs: Found, paste_rule: str | None) -> tuple[float, float, float]:
    mask = _mask_difference if paste_rule is None else partial(_pasted_difference, rule=paste_rule)
    return (
        _largest(ours.boxes, theirs.boxes),
        _largest(ours.scores, theirs.scores),
        mask(ours, theirs),
    )


def _largest(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(np.float64) - b).max(initial=0.0))


def _mask_difference(ours: Found, theirs: Found) -> float:
    return _largest(ours.masks, theirs.masks)


def _pasted_difference(ours: Found, theirs: Found, rule: str) -> float:
    largest = 0.0
    for grid, box, pasted in zip(ours.masks, ours.boxes, theirs.masks, strict=True):
        height, width = pasted.shape
        margin = paste_mask(grid, box, height, width, rule) - 0.5
        largest = max(largest, float(np.where(pasted > 0, -margin, margin).max(initial=0.0)))
    return largest


class Speed(NamedTuple):
    """Median time of a call, seconds."""

    original: float
    exported: float
    calls: int

    def __str__(self) -> str:
        return (
            f"a batch takes {1e3 * self.exported:.1f} ms, the original {1e3 * self.original:.1f} ms"
            f" (median of {self.calls} calls each, in turn)"
        )


def measure(original: Run, exported: Run, *arguments: np.ndarray) -> Speed:
    """Measures both in turn, so that what else the machine does falls on both.

    Args:
        original: what is called; it has been called with such arguments before.
        exported: likewise.
        arguments: image and image_size.
    """
    times: list[tuple[float, float]] = []
    start = time.monotonic()
    while len(times) < 3 or (len(times) < _ROUNDS and time.monotonic() - start < _SECONDS):
        pair = []
        for run in (original, exported):
            before = time.perf_counter()
            run(*arguments)
            pair.append(time.perf_counter() - before)
        times.append((pair[0], pair[1]))
    first, second = np.median(times, axis=0).tolist()
    return Speed(first, second, len(times))
