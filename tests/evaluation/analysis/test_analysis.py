"""Matching, curves, confusions and kinds of errors, on sets made for them."""

import numpy as np
import pytest

from maskrcnn_jax.evaluation.analysis.confusion import confusion_matrix
from maskrcnn_jax.evaluation.analysis.curves import class_curve, curve_of
from maskrcnn_jax.evaluation.analysis.errors import KINDS, error_table, image_errors
from maskrcnn_jax.evaluation.analysis.matching import match_images
from maskrcnn_jax.evaluation.analysis.summary import analyse
from maskrcnn_jax.evaluation.coco_metrics import IOU_TYPES, accumulate, coco_metrics
from tests.evaluation.analysis import made


def _set_of_errors():
    """Known errors, at places that do not touch: (truth, detections, counts by kind)."""
    true, found = [], []

    def place(number):  # 20 x 20 squares, 20 apart
        return {"x": number % 5 * 40, "y": number // 5 * 40}

    def moved(number, by, **others):
        x, y = place(number).values()
        return made.square(x + by, y, **others)

    for number in range(9):
        true.append(made.square(**place(number)))
    found.append(made.square(**place(0), score=0.9))  # right
    found.append(made.square(**place(0), score=0.8))  # duplicate
    found.append(made.square(**place(1), score=0.7, category=2))  # classification
    found.append(made.square(**place(2), score=0.7, category=2))  # classification
    found.append(moved(3, 10, score=0.6))  # IoU 1/3: localisation
    found.append(moved(4, 10, score=0.6))
    found.append(moved(5, 10, score=0.6))
    found.append(moved(6, 10, score=0.5, category=2))  # both; and object 6 is missed
    for number in range(15, 19):  # background
        found.append(made.square(**place(number), score=0.4))
    counts = dict(zip(KINDS, (2, 3, 1, 1, 4, 3), strict=True))  # missed: 6, 7, 8
    return made.truth(true), found, counts


@pytest.mark.parametrize("iou_type", IOU_TYPES)
def test_fractions_of_errors_are_those_constructed(iou_type):
    truth, found, counts = _set_of_errors()
    images = match_images(truth, found, iou_type, 100)
    table = error_table(images, 2)
    assert {kind: row["count"] for kind, row in table.items()} == counts
    for kind, row in table.items():
        assert row["fraction"] == pytest.approx(counts[kind] / sum(counts.values()))
    # Recall is 1/9 now, at precision 1; the detections that would become right are the surest.
    assert table["background"]["gain"] == table["duplicate"]["gain"] == 0  # they come later
    assert table["classification"]["gain"] == pytest.approx(
        np.mean([1.0] * 12 + [0.75] * 22 + [0] * 67) - 12 / 101
    )
    assert table["missed"]["gain"] == pytest.approx((17 - 12) / 101)  # recall 1/6 instead of 1/9


def test_what_belongs_to_a_found_object_is_removed_when_fixed():
    """The second of two badly placed detections of an object does not become right as well."""
    truth = made.truth([made.square(0), made.square(100)])
    found = [made.square(10, score=0.9), made.square(10, score=0.8), made.square(100, score=0.5)]
    table = error_table(match_images(truth, found, "bbox", 100), 2)
    assert table["localisation"]["count"] == 2
    assert table["localisation"]["gain"] == pytest.approx(1 - 51 / 101 / 3)
    assert table["missed"]["count"] == 0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("iou_type", IOU_TYPES)
def test_curves_give_the_ap_of_coco(seed, iou_type):
    truth, found = made.random_set(seed)
    metrics = coco_metrics(truth, found)
    curves = [class_curve(match_images(truth, found, iou_type, 100), k) for k in range(2)]
    ap50 = np.mean([curve.precision_over_recall().mean() for curve in curves])
    assert ap50 == pytest.approx(metrics[f"{iou_type}/AP50"], abs=1e-12)
    assert 0.1 < ap50 < 0.9


def test_the_limit_is_for_an_image_and_class():
    truth = made.truth([made.square(0), made.square(40), made.square(80, category=2)])
    found = [made.square(x, score=s) for x, s in ((0, 0.9), (40, 0.8))]
    found.append(made.square(80, category=2, score=0.1))
    (image,) = match_images(truth, found, "bbox", 1)
    assert image.scores.tolist() == [0.9, 0.1]


def test_a_threshold_keeps_all_of_a_score_and_has_the_best_f1():
    scores = np.array([0.9, 0.8, 0.8, 0.3])
    curve = curve_of(scores, np.array([True, True, False, True]), 4)
    np.testing.assert_array_equal(curve.scores, [0.9, 0.8, 0.3])
    np.testing.assert_allclose(curve.precision, [1, 2 / 3, 3 / 4])
    np.testing.assert_allclose(curve.recall, [1 / 4, 1 / 2, 3 / 4])
    assert curve.scores[curve.best()] == 0.3
    over_score = curve.f1_over_score()
    assert over_score[[0, 30]] == pytest.approx([0.75, 0.75])
    assert over_score[[31, 80]] == pytest.approx([4 / 7, 4 / 7])
    assert over_score[[81, 91]] == pytest.approx([0.4, 0])


def test_confusions_are_those_constructed():
    truth = made.truth([made.square(0), made.square(40), made.square(80, category=2)])
    crowd = made.rectangle(0, 100, 100, 60, iscrowd=1)
    truth["annotations"].append({**crowd, "id": 9})
    found = [
        made.square(0, score=0.9),
        made.square(40, category=2, score=0.8),
        made.square(150, score=0.7),  # on nothing
        made.square(10, 110, score=0.6),  # in the crowd
        made.square(80, category=2, score=0.1),  # below the threshold
    ]
    (image,) = match_images(truth, found, "segm", 100)
    matrix = confusion_matrix([image.above(np.array([0.5, 0.5]))], 2)
    np.testing.assert_array_equal(matrix, [[1, 1, 0], [0, 0, 1], [1, 0, 0]])
    assert image_errors(image).kinds == ["", "classification", "background", "", ""]


def test_nothing_found_and_nothing_there():
    for truth, found in (
        (made.truth([made.square(0)]), []),
        (made.truth([]), [made.square(0, score=0.5)]),
        (made.truth([], images=0), []),
    ):
        evaluated = accumulate(truth, found)
        numbers = analyse(truth, found, evaluated["segm"], "segm").numbers
        assert numbers["classes"][0]["threshold"] is None
        assert sum(row["count"] for row in numbers["errors"].values()) == len(
            truth["annotations"] + found
        )
        assert numbers["classes"][1]["AP"] == -1
