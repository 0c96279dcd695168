"""Precision, recall and F1 over the score, of one class at IoU 0.5."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from maskrcnn_jax.evaluation.analysis.matching import ImageMatch

RECALLS = np.linspace(0, 1, 101)  # COCO's
SCORES = np.linspace(0, 1, 101)


@dataclass
class Curve:
    """What is reached when detections from a score on are kept, for every score there is.

    Attributes:
        objects: how many true ones the class has.
        scores: `[n]` float64, decreasing, each of them once.
        precision: `[n]`, 0..1.
        recall: `[n]`, 0..1.
    """

    objects: int
    scores: np.ndarray
    precision: np.ndarray
    recall: np.ndarray

    @property
    def f1(self) -> np.ndarray:
        """`[n]`: the harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / np.where(total > 0, total, 1)

    def best(self) -> int | None:
        """Returns where F1 is the highest, None where nothing was found that is there."""
        return int(self.f1.argmax()) if self.f1.any() else None

    def precision_over_recall(self) -> np.ndarray:
        """Returns COCO's interpolated precision `[101]` at `RECALLS`; its mean is the AP."""
        return interpolated(self.precision, self.recall)

    def f1_over_score(self) -> np.ndarray:
        """Returns F1 `[101]` when detections with `SCORES` or more are kept."""
        at = np.searchsorted(-self.scores, -SCORES, side="right") - 1
        return np.where(at >= 0, self.f1[at], 0.0) if len(self.scores) else np.zeros(len(SCORES))


def class_curve(images: Sequence[ImageMatch], label: int) -> Curve:
    """Returns the curve of one class over all images.

    Args:
        images: as `match_images` returns them.
        label: index of the class.
    """
    scores, correct = [np.zeros(0)], [np.zeros(0, bool)]
    for image in images:
        own = (image.labels == label) & ~image.ignored
        scores.append(image.scores[own])
        correct.append(image.match[own] >= 0)
    objects = sum(int(np.count_nonzero(image.true_labels == label)) for image in images)
    return curve_of(np.concatenate(scores), np.concatenate(correct), objects)


def curve_of(scores: np.ndarray, correct: np.ndarray, objects: int) -> Curve:
    """Returns the curve of detections.

    Args:
        scores: `[D]`.
        correct: `[D]` bool.
        objects: how many there are to be found.
    """
    order = np.argsort(-scores, kind="stable")
    scores, correct = scores[order], np.cumsum(correct[order])
    last = np.append(scores[1:] != scores[:-1], True)[: len(scores)]  # of equal scores
    taken = np.flatnonzero(last)
    return Curve(
        objects=objects,
        scores=scores[taken],
        precision=correct[taken] / (taken + 1),
        recall=correct[taken] / max(objects, 1),
    )


def interpolated(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """Returns at each of `RECALLS` the highest precision that is reached there or beyond.

    Args:
        precision: `[n]`.
        recall: `[n]`, not decreasing.
    """
    highest = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, RECALLS, side="left")
    return np.append(highest, 0.0)[at]


def mean_of(rows: Iterable[np.ndarray]) -> np.ndarray:
    """Returns the mean of the classes' values; zeros where there is no class."""
    rows = list(rows)
    return np.mean(rows, axis=0) if rows else np.zeros(len(RECALLS))
