"""hotcoco, where it is installed, gives pycocotools' numbers to the last digit."""

import numpy as np
import pytest

from maskrcnn_jax.evaluation.coco_metrics import accumulate, class_numbers, summaries
from tests.evaluation.analysis import made

pytest.importorskip("hotcoco")


def _many():
    """More objects and detections than 100: 300 in one image."""
    rng = np.random.default_rng(0)
    corners = rng.integers(0, made.SIDE - 8, (300, 2)).tolist()
    objects = [made.square(x, y, side=8) for x, y in corners]
    found = [
        made.square(min(x + int(rng.integers(0, 3)), 190), y, 8, score=float(rng.random()))
        for x, y in corners
    ]
    return made.truth(objects), found


def _sizes():
    """Areas at COCO's limits, 32^2 and 96^2, and one beside them."""
    sides = (31, 32, 33, 95, 96, 97)
    objects = [made.square(0, 0, side, image=i + 1) for i, side in enumerate(sides)]
    objects[1]["area"] = 32**2 - 0.5
    found = [made.square(1, 0, side, image=i + 1, score=0.5) for i, side in enumerate(sides)]
    found += [made.square(100, 100, side, image=1, score=0.6) for side in sides]
    return made.truth(objects, images=len(sides)), found


def _equal_scores():
    truth, found = made.random_set(1)
    return truth, [{**entry, "score": round(entry["score"], 1)} for entry in found]


_CASES = {
    "crowds": lambda: made.random_set(0, crowds=3),
    "equal scores": _equal_scores,
    "area limits": _sizes,
    "300 detections": _many,
    "no detections": lambda: (made.truth([made.square(0)]), []),
    "no objects": lambda: (made.truth([]), [made.square(0, score=0.5)]),
    "crowds alone": lambda: (
        made.truth([made.square(0, iscrowd=1)]),
        [made.square(0, score=0.5), made.square(9, score=0.4)],
    ),
    "no images": lambda: (made.truth([], images=0), []),
}


@pytest.mark.parametrize("limits", [(1, 10, 100), (1, 10, 100, 300), (5,)])
@pytest.mark.parametrize("case", _CASES)
def test_equals_pycocotools(case, limits):
    truth, found = _CASES[case]()
    ours = accumulate(truth, found, limits, "hotcoco")
    judge = accumulate(truth, found, limits, "pycocotools")
    assert type(ours["bbox"]).__module__ != type(judge["bbox"]).__module__
    assert summaries(ours) == summaries(judge)
    for kind in ours:
        assert class_numbers(ours[kind]) == class_numbers(judge[kind])
        for key in ("precision", "recall", "scores"):
            np.testing.assert_array_equal(ours[kind].eval[key], judge[kind].eval[key])
