"""What kind every error is of, and what it costs: TIDE (Bolya et al., ECCV 2020).

A detection that is no true positive at IoU 0.5 is one of

- localisation: it overlaps an object of its class by 0.1 to 0.5;
- classification: it overlaps an object of another class by 0.5 or more;
- duplicate: the object of its class that it overlaps was taken by a surer detection;
- background: it overlaps no object by more than 0.1;
- both: of another class and badly localised;

by the first of these rules that applies. An object is missed if no detection has found it and no
localisation or classification error belongs to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from maskrcnn_jax.evaluation.analysis.curves import curve_of
from maskrcnn_jax.evaluation.analysis.matching import MATCHED, ImageMatch

KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
_BACKGROUND = 0.1  # IoU


@dataclass
class ImageErrors:
    """The errors of one image.

    Attributes:
        kinds: D strings, of `KINDS`, or "" of a detection that is right or ignored.
        targets: `[D]` int, the object of a localisation or classification error, or -1.
        missed: `[G]` bool.
    """

    kinds: list[str]
    targets: np.ndarray
    missed: np.ndarray

    def count(self, kind: str) -> int:
        """Returns how many errors of one of `KINDS` there are."""
        return int(self.missed.sum()) if kind == "missed" else self.kinds.count(kind)


def image_errors(image: ImageMatch) -> ImageErrors:
    """Names the error of every detection, and the objects that are missed."""
    wrong = (image.match < 0) & ~image.in_crowd
    named = [_kind(image, row) if wrong[row] else ("", -1) for row in range(len(wrong))]
    targets = np.array([target for _, target in named], int)
    reached = np.zeros(len(image.objects), bool)
    reached[image.match[image.match >= 0]] = True
    reached[targets[targets >= 0]] = True
    return ImageErrors([kind for kind, _ in named], targets, ~reached)


def _kind(image: ImageMatch, row: int) -> tuple[str, int]:
    if not image.objects:
        return "background", -1
    same = image.labels[row] == image.true_labels
    own, other = image.iou[row] * same, image.iou[row] * ~same
    if _BACKGROUND <= own.max() <= MATCHED:
        return "localisation", int(own.argmax())
    if other.max() >= MATCHED:
        return "classification", int(other.argmax())
    if own.max() >= MATCHED:
        return "duplicate", -1
    return ("background" if other.max() <= _BACKGROUND else "both"), -1


def error_table(images: Sequence[ImageMatch], num_classes: int) -> dict[str, dict[str, float]]:
    """Counts the errors, and measures the AP at IoU 0.5 that fixing each kind alone would bring.

    Of the localisation and classification errors that belong to an object the surest one is made
    right, unless the object was found, and the others are removed. Errors of the other kinds
    are removed; missed objects are no longer asked for. As in TIDE, the gains do not add up.

    Args:
        images: as `match_images` returns them.
        num_classes: K.

    Returns:
        For each of `KINDS`: `count`, `fraction` of all errors and `gain` in AP50, 0..1.
    """
    errors = [image_errors(image) for image in images]
    counts = {kind: sum(e.count(kind) for e in errors) for kind in KINDS}
    total = max(sum(counts.values()), 1)
    now = _ap50(images, errors, num_classes, "")
    return {
        kind: {
            "count": counts[kind],
            "fraction": counts[kind] / total,
            "gain": _ap50(images, errors, num_classes, kind) - now,
        }
        for kind in KINDS
    }


def _ap50(images, errors, num_classes, fixed: str) -> float:
    """Mean over the classes that have objects, with one kind of error fixed."""
    scores: list[list[float]] = [[] for _ in range(num_classes)]
    correct: list[list[bool]] = [[] for _ in range(num_classes)]
    objects = np.zeros(num_classes, int)
    for image, found in zip(images, errors, strict=True):
        asked = ~found.missed if fixed == "missed" else np.ones(len(image.objects), bool)
        objects += np.bincount(image.true_labels[asked], minlength=num_classes)
        made_right = _made_right(image, found)
        for row in np.flatnonzero(~image.ignored):
            label, right = image.labels[row], bool(image.match[row] >= 0)
            if found.kinds[row] == fixed and not right:
                if row not in made_right:
                    continue
                label, right = image.true_labels[found.targets[row]], True
            scores[label].append(image.scores[row])
            correct[label].append(right)
    values = [
        curve_of(np.array(scores[k], float), np.array(correct[k], bool), int(objects[k]))
        .precision_over_recall()
        .mean()
        for k in np.flatnonzero(objects)
    ]
    return float(np.mean(values)) if values else 0.0


def _made_right(image: ImageMatch, found: ImageErrors) -> set[int]:
    """The surest error of each object that was not found, of both kinds together."""
    taken = {int(target) for target in image.match if target >= 0}
    rows = set()
    for row, target in enumerate(found.targets.tolist()):
        if target >= 0 and target not in taken:
            taken.add(target)
            rows.add(row)
    return rows
