"""The detector in bfloat16 against torchvision's float64 values, stage by stage.

How far a result may be off is not tuned: rounding errors grow with the unit of rounding, which is
2^16 times as large in bfloat16 as in float32, so the limit is 2^16 times the error of torchvision's
own float32 arithmetic. What is chosen, as proposals by their scores and the level of the pyramid by
a box's size, changes where two choices are nearly equal; there the limit is a share of the boxes.
"""

import jax
import numpy as np
import pytest

from maskrcnn_jax.models.mask_rcnn import MaskRCNN
from maskrcnn_jax.ops import boxes as box_ops
from tests.parity.reference import Reference
from tests.pretrained.test_parity_torchvision import LEVELS, LOSSES, Case, strided

UNITS = 2**16  # bfloat16 has 8 bits of precision, float32 has 24


@pytest.fixture(scope="module")
def case(parity_dir):
    made = Case(Reference(parity_dir / "mrcnn_v1.npz"))
    made.config.dtype = "bfloat16"
    made.model = MaskRCNN(made.config, made.model.num_classes)
    return made


def limit(case, key):
    error = case.z.float32_error(key)
    assert error is not None, f"{key} has no error of its own"
    return UNITS * error


def assert_near(case, ours, key):
    assert case.z[key].size
    np.testing.assert_allclose(
        np.asarray(ours, np.float32), case.z.exact(key), rtol=0, atol=limit(case, key), err_msg=key
    )


def test_computes_in_bfloat16(case):
    assert case.stages["p2"].dtype == case.stages["box_features"].dtype == "bfloat16"


@pytest.mark.parametrize("key", ["c2", "c3", "c4", "c5", *LEVELS])
def test_features(case, key):
    assert_near(case, strided(case, key, case.stages[key]), f"eval.{key}")


@pytest.mark.parametrize("name", ["rpn_logits", "rpn_deltas"])
def test_rpn_outputs(case, name):
    ends = np.cumsum(case.z["anchors.level_counts"])[:-1]
    for level, ours in zip(LEVELS, np.split(case.stages[name], ends, axis=1), strict=True):
        key, grid = f"{name}.{level}", case.stages[level].shape[:3]
        assert_near(case, strided(case, key, ours.reshape(*grid, -1)), f"eval.{key}")


def test_proposals_and_detections(case):
    detections = case.predicted[0]
    for i in range(case.num_images):
        valid = case.stages["proposal_valid"][i]
        overlap = box_ops.iou(case.z[f"eval.proposals.{i}"], case.stages["proposals"][i][valid])
        assert (np.asarray(overlap).max(1) > 0.9).mean() >= 0.9
        valid = detections.valid[i]
        overlap = np.asarray(box_ops.iou(case.z[f"eval.boxes.{i}"], detections.boxes[i][valid]))
        same = case.z[f"eval.labels.{i}"][:, None] == detections.classes[i][valid]
        overlap = np.where(same, overlap, 0.0)
        found = overlap.max(1) > 0.9
        assert found.mean() >= 0.9
        scores = detections.scores[i][valid][overlap.argmax(1)]
        difference = np.abs(scores - case.z[f"eval.scores.{i}"])[found]
        assert difference.max() <= 0.02
        logits = case.stages["mask_logits"][i][valid][overlap.argmax(1)]
        expected = case.z[f"eval.mask_logits.{i}"]
        probability = np.abs(jax.nn.sigmoid(logits) - jax.nn.sigmoid(expected))[found]
        assert probability.mean() <= 0.01
        assert (np.quantile(probability, 0.99, axis=(1, 2)) <= 0.1).mean() >= 0.9


@pytest.mark.slow
def test_losses_and_gradients(case):
    trained = case.train
    for name in LOSSES:
        expected = case.z.exact(f"train.{name}")
        np.testing.assert_allclose(trained["losses"][name], expected, rtol=0.02, err_msg=name)
    names = case.meta["gradient_names"]
    norms = np.array([np.linalg.norm(trained["gradients"][name]) for name in names])
    expected = case.z.exact("train.gradient_norms")
    assert np.median(np.abs(norms / expected - 1)) <= 0.02
    np.testing.assert_allclose(norms, expected, rtol=0.2)
