"""The five losses on numbers that can be followed by hand."""

import numpy as np

from maskrcnn_jax.models.losses import box_losses, mask_loss, rpn_losses
from maskrcnn_jax.models.targets import AnchorTargets, RoIs

LOG2 = np.log(2)


def test_rpn_losses_are_means_over_the_sampled_anchors_of_the_batch():
    label = np.array([[1, 0, 1], [0, -1, 1]])
    sampled = np.array([[True, True, False], [True, False, False]])  # three in all
    logits = np.where(sampled, 0.0, np.nan).astype(np.float32)
    targets = np.zeros((2, 3, 4), np.float32)
    deltas = np.zeros((2, 3, 4), np.float32)
    deltas[0, 0] = [2, 0, 0, 0.5]  # 2 - 0.5 and 0.5^2 / 2 with beta 1
    deltas[0, 1] = 100  # a negative
    deltas[0, 2] = np.nan  # not sampled
    losses = rpn_losses(logits, deltas, AnchorTargets(label, sampled, targets), beta=1.0)
    np.testing.assert_allclose(losses["loss_objectness"], LOG2, rtol=1e-6)
    np.testing.assert_allclose(losses["loss_rpn_box_reg"], (1.5 + 0.125) / 3, rtol=1e-6)


def rois(labels, valid):
    labels, valid = np.array(labels), np.array(valid)
    shape = labels.shape
    return RoIs(np.zeros((*shape, 4)), labels, np.zeros(shape, int), valid, np.zeros((*shape, 4)))


def test_box_losses_count_the_true_class_alone():
    logits = np.zeros((1, 4, 3), np.float32)
    logits[0, 3] = np.nan
    deltas = np.full((1, 4, 3, 4), 100, np.float32)
    deltas[0, 1, 2] = [0, 3, 0, 0]  # of the second RoI's class
    losses = box_losses(logits, deltas, rois([[0, 2, 0, 0]], [[True, True, True, False]]), beta=1.0)
    np.testing.assert_allclose(losses["loss_classifier"], np.log(3), rtol=1e-6)
    np.testing.assert_allclose(losses["loss_box_reg"], 2.5 / 3, rtol=1e-6)


def test_mask_loss_is_the_mean_over_the_pixels_of_positives():
    logits = np.zeros((2, 2, 2, 2), np.float32)
    targets = np.full((2, 2, 2, 2), 0.3, np.float32)
    positive = np.array([[True, False], [True, False]])
    logits[:, 1] = np.nan
    np.testing.assert_allclose(mask_loss(logits, targets, positive), LOG2, rtol=1e-6)
    logits[0, 0] = 50  # right everywhere: 0
    targets[0, 0] = 1
    np.testing.assert_allclose(mask_loss(logits, targets, positive), LOG2 / 2, rtol=1e-6)


def test_without_samples_every_loss_is_zero():
    nothing = np.zeros((1, 2), bool)
    targets = AnchorTargets(np.full((1, 2), -1), nothing, np.zeros((1, 2, 4)))
    losses = rpn_losses(np.zeros((1, 2)), np.zeros((1, 2, 4)), targets, 1.0)
    losses |= box_losses(np.zeros((1, 2, 3)), np.ones((1, 2, 3, 4)), rois([[0, 0]], nothing), 1.0)
    losses["loss_mask"] = mask_loss(np.zeros((1, 2, 4, 4)), np.zeros((1, 2, 4, 4)), nothing)
    assert {float(loss) for loss in losses.values()} == {0.0}
