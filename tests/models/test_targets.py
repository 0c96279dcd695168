"""Targets and samples of one image, worked by hand."""

import jax
import numpy as np
import pytest

from maskrcnn_jax.config import get_config
from maskrcnn_jax.models.rpn import Proposals
from maskrcnn_jax.models.targets import GroundTruth, anchor_targets, ground_truth, sample_rois
from maskrcnn_jax.ops import boxes as box_ops

KEY = jax.random.key(0)
OBJECT, OTHER, CROWD = [10, 10, 30, 30], [50, 10, 90, 50], [0, 60, 100, 100]


@pytest.fixture
def config():
    config = get_config().model
    config.rpn.samples_per_image = 8
    config.roi.samples_per_image = 8
    return config


@pytest.fixture
def gt():
    """Slots: class 2, class 5, crowd, empty."""
    return GroundTruth(
        boxes=np.array([OBJECT, OTHER, CROWD, [0, 0, 0, 0]], np.float32),
        classes=np.array([2, 5, 1, 0], np.int32),
        masks=np.zeros((4, 8, 8), np.uint8),
        is_object=np.array([True, True, False, False]),
        is_crowd=np.array([False, False, True, False]),
        image_valid=np.array(True),
    )


def run(function, *args):
    """anchor_targets or sample_rois as one program, with numpy results."""
    *args, config = args
    program = jax.jit(lambda *args: function(KEY, *args, config))
    return jax.device_get(program(*args))


def proposals(*boxes, valid=None):
    valid = np.ones(len(boxes), bool) if valid is None else np.array(valid)
    return Proposals(np.array(boxes, np.float32), np.ones(len(boxes), np.float32), valid)


def test_anchor_labels(config, gt):
    anchors = np.array(
        [
            [11, 10, 31, 30],  # IoU 0.905 with the object
            [10, 10, 30, 19],  # 0.45: between the thresholds
            [30, 50, 40, 60],  # nothing
            [50, 20, 90, 40],  # 0.5, but the best that the other object has
            [20, 70, 40, 90],  # inside the crowd
        ],
        np.float32,
    )
    targets = run(anchor_targets, anchors, gt, config)
    np.testing.assert_array_equal(targets.label, [1, -1, 0, 1, -1])
    np.testing.assert_array_equal(targets.sampled, [True, False, True, True, False])
    np.testing.assert_allclose(targets.deltas[0], [-0.05, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(targets.deltas[3], [0, 0, 0, np.log(2)], atol=1e-6)
    assert not targets.deltas[[1, 2, 4]].any()


def test_anchors_of_an_invalid_image_are_not_sampled(config, gt):
    gt = gt._replace(image_valid=np.array(False))
    anchors = np.array([OBJECT, [30, 50, 40, 60]], np.float32)
    targets = run(anchor_targets, anchors, gt, config)
    np.testing.assert_array_equal(targets.label, [-1, -1])
    assert not targets.sampled.any()


def test_rois(config, gt):
    given = proposals(
        [10, 10, 30, 24],  # IoU 0.7 with the object
        [0, 0, 8, 8],  # nothing
        [20, 70, 40, 90],  # inside the crowd
        [50, 10, 90, 49],  # the other object, but the slot is empty
        valid=[True, True, True, False],
    )
    config.roi.positive_fraction = 0.5
    rois = run(sample_rois, given, gt, config)
    # Three positives (one proposal and both true boxes) in any order, then one negative.
    np.testing.assert_array_equal(rois.valid, [True] * 4 + [False] * 4)
    found = {
        tuple(box): (label, slot)
        for box, label, slot in zip(rois.boxes, rois.labels, rois.matched, strict=True)
    }
    assert found == {
        (10, 10, 30, 24): (2, 0),
        (10, 10, 30, 30): (2, 0),
        (50, 10, 90, 50): (5, 1),
        (0, 0, 8, 8): (0, 0),
        (0, 0, 0, 0): (0, 0),
    }
    assert (rois.labels[:3] > 0).all()
    decoded = box_ops.decode(rois.deltas, rois.boxes, config.box_head.coder_weights)
    np.testing.assert_allclose(decoded[:3], gt.boxes[rois.matched[:3]], atol=1e-4)
    assert not rois.deltas[3:].any()


def test_positives_fill_at_most_their_share(config, gt):
    boxes = [[10, 10, 30, 28 + k / 10] for k in range(6)] + [[k, 0, k + 5, 5] for k in range(9)]
    config.roi.positive_fraction = 0.25
    rois = run(sample_rois, proposals(*boxes), gt, config)
    np.testing.assert_array_equal(rois.labels > 0, [True] * 2 + [False] * 6)
    assert rois.valid.all()


def test_rois_of_an_invalid_image_are_not_sampled(config, gt):
    gt = gt._replace(image_valid=np.array(False))
    rois = run(sample_rois, proposals(OBJECT, [0, 0, 8, 8]), gt, config)
    assert not rois.valid.any()


def test_ground_truth_clears_empty_slots_and_invalid_images():
    batch = {
        "gt_boxes": np.full((2, 2, 4), np.nan, np.float32),
        "gt_classes": np.full((2, 2), 9, np.int32),
        "gt_masks": np.ones((2, 2, 8, 8), np.uint8),
        "gt_crowd": np.array([[False, True], [True, True]]),
        "gt_valid": np.array([[True, False], [True, True]]),
        "image_valid": np.array([True, False]),
    }
    batch["gt_boxes"][0, 0] = OBJECT
    gt = ground_truth(batch, np.zeros(4, np.float32))
    np.testing.assert_array_equal(gt.boxes, [[OBJECT, [0] * 4], [[0] * 4] * 2])
    np.testing.assert_array_equal(gt.classes, [[9, 0], [0, 0]])
    np.testing.assert_array_equal(gt.is_object, [[True, False], [False, False]])
    assert not gt.is_crowd.any()
    np.testing.assert_array_equal(gt.masks.any((2, 3)), [[True, False], [False, False]])
    inclusive = ground_truth(batch, np.array([0, 0, 1, 1], np.float32))
    np.testing.assert_array_equal(inclusive.boxes, [[[10, 10, 29, 29], [0] * 4], [[0] * 4] * 2])
