"""Pictures of the stages, from the tiny detector's own."""

import numpy as np
import pytest

from maskrcnn_jax.visualization.stages import (
    inference_pictures,
    masks_picture,
    objectness_picture,
    refinement_picture,
)
from tests.end_to_end.tiny import get_config
from tests.inference.tiny_model import tiny_predictor


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def stages(image):
    return tiny_predictor().stages(image)[1]


def test_every_stage_of_a_prediction_has_a_picture(image, stages):
    pictures = inference_pictures(stages["input"][0], stages, get_config().model)
    names = ["1_features", "2_objectness", "3_anchors", "4_proposals", "5_masks"]
    assert sorted(pictures) == names
    for picture in pictures.values():
        assert picture.dtype == np.uint8
        assert picture.ndim == 3
        assert picture.std() > 0
    assert pictures["4_proposals"].shape == (832, 832, 3)
    proposal = stages["proposals"][0][0] * 13
    changed = (pictures["4_proposals"] != image.repeat(13, 0).repeat(13, 1)).any(axis=-1)
    assert changed[round(proposal[1]), round((proposal[0] + proposal[2]) / 2)]


def test_objectness_shows_the_best_anchor_where_it_is(stages):
    logits = np.full(stages["rpn_logits"].shape, -20.0, np.float32)
    logits[0, (5 * 16 + 9) * 3 + 1] = 20.0  # P2, row 5, column 9, second of the three anchors
    black = np.zeros((64, 64, 3), np.uint8)
    picture = objectness_picture(black, {**stages, "rpn_logits": logits})[-64:, :64]
    bright = np.argwhere(picture.sum(axis=-1) > picture.sum(axis=-1).max() / 2)
    assert bright.min(axis=0).tolist() == [20, 36]
    assert bright.max(axis=0).tolist() == [23, 39]


def test_masks_are_shown_in_order():
    logits = np.full((3, 28, 28), -50.0)
    logits[1] = 50.0
    picture = masks_picture(logits, columns=2, cell=56)
    assert picture.shape == (120, 120, 3)
    assert picture[30, 90].tolist() == [255, 255, 255]
    assert picture[30, 30].tolist() == picture[90, 30].tolist() == [0, 0, 0]


def test_points_of_a_mask_are_drawn_where_they_lie():
    logits, points = np.full((1, 4, 4), -50.0), np.array([[[0.5, 0.25], [0.999, 0.999]]])
    picture = masks_picture(logits, points, columns=1, cell=56)
    reds = np.argwhere(picture.any(axis=-1))
    assert reds.tolist() == [[2 + 14, 2 + 28], [2 + 55, 2 + 55]]


def test_refined_boxes_are_dashed_before_and_solid_after():
    black = np.zeros((100, 100, 3), np.uint8)
    before, after = np.array([[10.0, 10, 50, 50]]), np.array([[20.0, 30, 80, 90]])
    lit = refinement_picture(black, before, after).any(axis=-1)
    assert lit[30, 21:79].all()
    assert 0.3 < lit[10, 11:49].mean() < 0.8
    assert lit[20, 15]  # between the corners
    assert not refinement_picture(black, before[:0], after[:0]).any()
