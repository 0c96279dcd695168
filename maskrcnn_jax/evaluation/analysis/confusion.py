"""What each class is taken for."""

from collections.abc import Sequence

import numpy as np

from maskrcnn_jax.evaluation.analysis.matching import MATCHED, ImageMatch


def confusion_matrix(images: Sequence[ImageMatch], num_classes: int) -> np.ndarray:
    """Counts which class the objects of each class were detected as.

    Detections and objects are paired whatever their classes, pairs of the highest IoU first, from
    0.5 on.

    Args:
        images: with the detections that count, see `ImageMatch.above`.
        num_classes: K.

    Returns:
        `[K + 1, K + 1]` int, true classes down, predicted ones across; the last column counts
        objects that nothing was paired with, the last row such detections.
    """
    matrix = np.zeros((num_classes + 1, num_classes + 1), int)
    for image in images:
        pairs = _pairs(image.iou)
        for row, column in pairs:
            matrix[image.true_labels[column], image.labels[row]] += 1
        rows, columns = {row for row, _ in pairs}, {column for _, column in pairs}
        for row in range(len(image.detections)):
            if row not in rows and not image.in_crowd[row]:
                matrix[num_classes, image.labels[row]] += 1
        for column in range(len(image.objects)):
            if column not in columns:
                matrix[image.true_labels[column], num_classes] += 1
    return matrix


def _pairs(iou: np.ndarray) -> list[tuple[int, int]]:
    candidates = np.argwhere(iou >= MATCHED)
    order = np.argsort(-iou[tuple(candidates.T)], kind="stable")
    rows, columns, pairs = set(), set(), []
    for row, column in candidates[order].tolist():
        if row not in rows and column not in columns:
            rows.add(row)
            columns.add(column)
            pairs.append((row, column))
    return pairs
