"""A model that knows more classes than the data set has, in another order."""

import numpy as np
import pytest

from maskrcnn_jax.evaluation.classes import class_table, in_classes_of_data, left_out
from maskrcnn_jax.models.detections import Detections

MODEL = ("Car", "unused_2", "dog", "cat")


def test_the_table_by_hand():
    table = class_table(MODEL, ("cat", "car"))
    assert table.tolist() == [0, 2, 0, 0, 1]
    assert left_out(MODEL, table) == ["unused_2", "dog"]
    same = class_table(("a", "b"), ("a", "b"))
    assert same.tolist() == [0, 1, 2]
    assert left_out(("a", "b"), same) == []


def test_classes_that_the_model_lacks_are_named():
    with pytest.raises(ValueError, match=r"classes cow, CAT of .* trained for Car, unused_2, dog"):
        class_table(MODEL, ("cat", "cow", "CAT", "dog"))


def test_detections_are_renumbered_and_others_left_out():
    given = Detections(
        boxes=np.zeros((1, 5, 4), np.float32),
        scores=np.float32([[0.9, 0.8, 0.7, 0.6, 0.0]]),
        classes=np.int32([[4, 3, 1, 2, 0]]),
        masks=np.zeros((1, 5, 2, 2), np.float32),
        valid=np.array([[True, True, True, True, False]]),
    )
    step = in_classes_of_data(lambda *_: given, class_table(MODEL, ("cat", "car")))
    found = step({}, None, None)
    np.testing.assert_array_equal(found.valid, [[True, False, True, False, False]])
    assert found.classes[0, [0, 2]].tolist() == [1, 2]
    np.testing.assert_array_equal(found.scores, given.scores)
