"""Boxes and scores before suppression, of one head and of a cascade."""

from dataclasses import replace

import jax
import numpy as np

from maskrcnn_jax.inspect.suppression import _answers, _candidates
from maskrcnn_jax.models.config import ModelConfig


def _stages(heads, columns):
    rng = np.random.default_rng(0)
    stages = {"proposal_valid": np.array([[True, True, False]])}
    for head in heads:
        stages[f"class_logits{head}"] = rng.normal(size=(1, 3, 4)).astype(np.float32)
        stages[f"box_deltas{head}"] = np.zeros((1, 3, columns, 4), np.float32)
        boxes = rng.uniform(0, 9, (1, 3, 4)) + [0, 0, 20, 20]
        stages[f"proposals{head}"] = boxes.astype(np.float32)
    return stages


def test_each_class_has_its_box():
    config = ModelConfig()
    stages = _stages([""], 4)
    stages["box_deltas"][0, :, 2, 0] = 10.0  # the second class, moved by one width
    boxes, scores = _candidates(config, stages)
    given = stages["proposals"][0]
    np.testing.assert_allclose(boxes[:, 0], given, atol=1e-5)
    np.testing.assert_allclose(boxes[:, 1, 0], given[:, 2], rtol=1e-5)
    expected = np.asarray(jax.nn.softmax(stages["class_logits"][0]))[:2, 1:]
    np.testing.assert_allclose(scores[:2], np.where(expected > 0.05, expected, 0), rtol=1e-5)
    assert not scores[2].any()  # an empty slot


def test_a_cascade_answers_with_its_last_boxes_and_the_mean_of_all_heads():
    config = ModelConfig()
    config = replace(
        config,
        box_head=replace(config.box_head, class_agnostic=True),
        cascade=replace(config.cascade, ious=(0.6, 0.7)),
    )
    stages = _stages(["", "_2", "_3"], 1)
    logits, _, proposals, weights = _answers(config, stages)
    each = [jax.nn.softmax(stages[f"class_logits{head}"][0]) for head in ("", "_2", "_3")]
    np.testing.assert_allclose(jax.nn.softmax(logits), sum(each) / 3, rtol=1e-5)
    np.testing.assert_array_equal(proposals, stages["proposals_3"][0])
    assert weights == config.cascade.coder_weights[1]
    boxes, scores = _candidates(config, stages)
    assert boxes.shape == (3, 3, 4)
    assert scores.shape == (3, 3)
    np.testing.assert_allclose(boxes[:, 1], stages["proposals_3"][0], atol=1e-5)
