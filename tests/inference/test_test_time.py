"""Test-time augmentation: views by hand, what is joined by hand, and a mirrored image."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.inference.test_time import (
    Views,
    join,
    parse_views,
    predict_views,
    scaled_bucket,
    scaled_inputs,
)
from maskrcnn_jax.models.detections import Detections
from tests.inference.tiny_model import tiny_predictor


def test_views_of_words_and_numbers():
    assert parse_views("flip") == parse_views(["flip"]) == Views(True, ())
    assert (
        parse_views("flip, 0.8,1.25")
        == parse_views(("flip", 0.8, 1.25))
        == Views(True, (0.8, 1.25))
    )
    assert parse_views("1,2,2") == Views(False, (2.0,))
    assert parse_views(2) == Views(False, (2.0,))
    for wrong in ("flop", "", "0.01", "nan", [], "flip,,2"):
        with pytest.raises(ValueError, match=r"expected flip, scales from 0.1 to 10"):
            parse_views(wrong)


def test_a_scaled_input_is_made_of_the_original():
    image = np.random.default_rng(0).integers(0, 256, (128, 96, 3), np.uint8)
    assert scaled_bucket((64, 64), 1.25) == (96, 96)
    assert scaled_bucket((64, 96), 0.5) == (32, 64)
    assert scaled_bucket((32, 32), 0.1) == (32, 32)
    ((padded, size),) = scaled_inputs(image, np.float32([64, 48]), (64, 64), (2.0,))
    assert size.tolist() == [128, 96]
    assert padded.shape == (128, 128, 3)
    np.testing.assert_array_equal(padded[:, :96], image)  # at this scale nothing was lost
    assert not padded[:, 96:].any()


def _config(**settings):
    return SimpleNamespace(detections=SimpleNamespace(**settings))


def test_what_views_have_found_is_suppressed_together():
    boxes = np.float32(
        [[0, 0, 10, 10], [30, 30, 40, 40], [0, 0, 10, 9], [0, 0, 10, 10], [50, 50, 60, 60]]
    )
    scores = np.float32([0.6, 0.5, 0.9, 0.7, 0.95])
    classes, valid = np.int32([1, 1, 1, 2, 1]), np.array([True, True, True, True, False])
    config = _config(nms_threshold=0.5, max_per_image=4)
    found, best, of, is_there = join(*map(jnp.asarray, (boxes, scores, classes, valid)), config)
    # The third hides the first of its class (IoU 0.9); the fifth is an empty slot.
    np.testing.assert_array_equal(found, [*boxes[[2, 3, 1]], [0, 0, 0, 0]])
    np.testing.assert_allclose(best, [0.9, 0.7, 0.5, 0])
    assert of.tolist() == [1, 2, 1, 0]
    assert is_there.tolist() == [True, True, True, False]


class _Detector:
    """Finds the brightest pixel, four pixels wide; its mask is brighter on the left."""

    corner = np.float32([0, 0, 0, 0])
    config = _config(nms_threshold=0.5, max_per_image=1)
    config.masks = True
    scores_masks = False

    def predict(self, image, image_size):
        width = image.shape[2]
        x = image[0, 0, :, 0].argmax().astype(jnp.float32)
        box = jnp.stack([x - 2, jnp.float32(4), x + 2, jnp.float32(8)])[None, None]
        score = jnp.full((1, 1), 0.5 + width / 1000, jnp.float32)
        one = jnp.ones((1, 1), jnp.int32)
        pyramid = dict.fromkeys(("p2", "p3", "p4", "p5"), image)
        return Detections(box, score, one, jnp.zeros((1, 1, 1, 2)), one > 0), pyramid

    def masks(self, pyramid, boxes, classes):
        """Where the box is, and how wide the view."""
        self.seen = [*getattr(self, "seen", []), float(boxes[0, 0, 0])]
        where = boxes[0, 0, 0] / pyramid["p2"].shape[2]
        ious = {"mask_ious": where[None, None]} if self.scores_masks else {}
        return jnp.stack([where, where / 2])[None, None, None], ious

    def on_detections(self, function, valid, *arrays):
        return function(*arrays)


def test_boxes_come_back_from_every_view_and_masks_are_averaged():
    image = np.zeros((1, 32, 64, 3), np.uint8)
    image[..., 10, :] = 255  # in a valid part of 40 pixels
    large = np.zeros((1, 64, 96, 3), np.uint8)
    large[..., 20, :] = 255
    model, sizes = _Detector(), [np.float32([[32, 40]]), np.float32([[64, 80]])]
    found, stages = predict_views(model, [image, large], sizes, flip=True)
    assert stages == {}
    # The larger views have the better scores: 18..22 of 80 is 9..11 of 40. Mirrored the pixel is at
    # 59, so the box at 57..61, which is 19..23 and so not the first of two equals.
    np.testing.assert_allclose(found.boxes, [[[9, 2, 11, 4]]], atol=1e-5)
    np.testing.assert_allclose(found.scores, [[0.5 + 96 / 1000]])
    np.testing.assert_allclose(model.seen, [9, 40 - 11, 18, 80 - 22], atol=1e-5)
    left, right = (
        [1 / (1 + np.exp(-x / w / k)) for x, w in ((9, 64), (29, 64), (18, 96), (58, 96))]
        for k in (1, 2)
    )
    expected = [left[0] + right[1] + left[2] + right[3], right[0] + left[1] + right[2] + left[3]]
    np.testing.assert_allclose(found.masks[0, 0, 0], np.array(expected) / 4, rtol=1e-5)
    assert found.mask_scores is None
    model.scores_masks = True
    found, _ = predict_views(model, [image, large], sizes, flip=True)
    iou = np.mean([x / w for x, w in ((9, 64), (29, 64), (18, 96), (58, 96))])
    np.testing.assert_allclose(found.mask_scores, found.scores * iou, rtol=1e-5)


@pytest.fixture(scope="module")
def scene():
    image = np.zeros((64, 64, 3), np.uint8)
    image[8:30, 5:25] = 200, 60, 40
    image[35:60, 30:62] = 20, 180, 90
    return image


# Each scale is another two detectors in the same program.
_VIEWS = pytest.mark.parametrize(
    "views", ["flip", pytest.param("flip,0.5", marks=pytest.mark.slow)]
)


@_VIEWS
def test_a_mirrored_image_gives_the_mirrored_result(scene, views):
    predictor = tiny_predictor()
    found = predictor(scene, tta=views)
    mirrored = predictor(np.ascontiguousarray(scene[:, ::-1]), tta=views.split(","))
    assert len(mirrored) == len(found) > 3
    once, mirrored_once = (predictor(i) for i in (scene, np.ascontiguousarray(scene[:, ::-1])))
    assert not np.allclose(once.scores[:3], mirrored_once.scores[:3], atol=1e-4)  # else no test
    np.testing.assert_allclose(mirrored.scores, found.scores, atol=1e-4)
    x1, y1, x2, y2 = mirrored.boxes.T
    np.testing.assert_allclose(np.stack([64 - x2, y1, 64 - x1, y2], 1), found.boxes, atol=0.02)
    differ = (mirrored.masks[..., ::-1] != found.masks).sum((1, 2))
    assert (differ <= 2).all()  # pixels at a mask's edge, of a difference in the last digit


@_VIEWS
def test_tta_of_several_images(scene, views):
    several = tiny_predictor()([scene, scene.repeat(2, 0), scene], tta=views)
    np.testing.assert_array_equal(several[0].scores, several[2].scores)
    assert (several[1].height, several[1].width) == (128, 64)
    assert (several[1].boxes[:, 3] <= 128).all()
