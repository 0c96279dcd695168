"""Post-processing of the box head's answers, worked by hand."""

import jax
import numpy as np
import pytest

from maskrcnn_jax.config import get_config
from maskrcnn_jax.models.detections import detect
from maskrcnn_jax.models.rpn import Proposals

A, A_SHIFTED, B = [10, 10, 30, 30], [10, 10, 30, 31], [40, 40, 60, 60]
SIZE = np.array([50.0, 80.0], np.float32)  # height, width


@pytest.fixture
def config():
    config = get_config().model
    config.detections.max_per_image = 4
    return config


def run(config, boxes, probabilities, deltas=None, valid=None):
    """probabilities: [N, K + 1]. Returns the valid boxes, scores and classes; the others are 0."""
    boxes = np.array(boxes, np.float32)
    number = len(boxes)
    logits = np.log(np.array(probabilities, np.float32))
    deltas = np.zeros((*logits.shape, 4), np.float32) if deltas is None else deltas
    valid = np.ones(number, bool) if valid is None else np.array(valid)
    proposals = Proposals(boxes, np.ones(number), valid)
    program = jax.jit(lambda *args: detect(*args, config))
    boxes, scores, classes, valid = jax.device_get(program(logits, deltas, proposals, SIZE))
    assert not boxes[~valid].any()
    assert not scores[~valid].any()
    assert not classes[~valid].any()
    return boxes[valid].tolist(), scores[valid], classes[valid].tolist()


def test_one_proposal_can_be_several_classes(config):
    boxes, scores, classes = run(config, [A], [[0.2, 0.3, 0.5]])
    assert boxes == [A, A]
    assert classes == [2, 1]
    np.testing.assert_allclose(scores, [0.5, 0.3], rtol=1e-6)


def test_only_the_best_class_and_nothing_for_background(config):
    config.detections.classes = "best"
    probabilities = [[0.2, 0.3, 0.5], [0.45, 0.15, 0.4], [0.3, 0.3, 0.4]]
    boxes, scores, classes = run(config, [A, B, [60, 10, 75, 30]], probabilities)
    assert boxes == [A, [60, 10, 75, 30]]
    assert classes == [2, 2]
    np.testing.assert_allclose(scores, [0.5, 0.4], rtol=1e-6)


def test_suppression_is_within_a_class(config):
    probabilities = [[0.1, 0.8, 0.1], [0.1, 0.7, 0.2]]
    boxes, _, classes = run(config, [A, A_SHIFTED], probabilities)
    assert list(zip(classes, boxes, strict=True)) == [(1, A), (2, A_SHIFTED)]


def test_scores_must_exceed_the_threshold(config):
    config.detections.score_threshold = 0.3
    boxes, _, classes = run(config, [A, B], [[0.69, 0.01, 0.3], [0.68, 0.01, 0.31]])
    assert classes == [2]
    assert boxes == [[40, 40, 60, 50]]  # clipped to the height


def test_empty_proposals_and_small_boxes_are_left_out(config):
    outside = [90, 0, 100, 20]
    probabilities = [[0.1, 0.9, 0.0001]] * 3
    boxes, _, _ = run(config, [outside, A, B], probabilities, valid=[True, False, True])
    assert boxes == [[40, 40, 60, 50]]


def test_deltas_are_those_of_the_class(config):
    deltas = np.zeros((1, 3, 4), np.float32)
    deltas[0, 0] = 100
    deltas[0, 1] = [5, 0, 0, 0]  # half a width to the right: weights are 10, 10, 5, 5
    deltas[0, 2] = [0, 0, 5 * np.log(2), 0]
    boxes, _, classes = run(config, [A], [[0.1, 0.5, 0.4]], deltas)
    assert classes == [1, 2]
    np.testing.assert_allclose(boxes, [[20, 10, 40, 30], [0, 10, 40, 30]], atol=1e-5)


def test_only_the_best_are_kept(config):
    config.detections.max_per_image = 1
    boxes, scores, _ = run(config, [A, [40, 10, 60, 30]], [[0.4, 0.6], [0.3, 0.7]])
    assert boxes == [[40, 10, 60, 30]]
    np.testing.assert_allclose(scores, [0.7], rtol=1e-6)
