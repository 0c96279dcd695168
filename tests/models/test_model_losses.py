"""The five losses on numbers that can be followed by hand."""

import jax
import numpy as np
import pytest

from maskrcnn_jax.models.config import BoxHeadConfig, RPNConfig
from maskrcnn_jax.models.losses import box_losses, mask_loss, rpn_losses
from maskrcnn_jax.models.targets import AnchorTargets, RoIs

LOG2 = np.log(2)
ANCHORS = np.zeros((3, 4), np.float32)
BOX, RPN = BoxHeadConfig(box_loss_beta=1.0), RPNConfig(box_loss_beta=1.0)


def test_rpn_losses_are_means_over_the_sampled_anchors_of_the_batch():
    label = np.array([[1, 0, 1], [0, -1, 1]])
    sampled = np.array([[True, True, False], [True, False, False]])  # three in all
    logits = np.where(sampled, 0.0, np.nan).astype(np.float32)
    targets = np.zeros((2, 3, 4), np.float32)
    deltas = np.zeros((2, 3, 4), np.float32)
    deltas[0, 0] = [2, 0, 0, 0.5]  # 2 - 0.5 and 0.5^2 / 2 with beta 1
    deltas[0, 1] = 100  # a negative
    deltas[0, 2] = np.nan  # not sampled
    losses = rpn_losses(logits, deltas, AnchorTargets(label, sampled, targets), ANCHORS, RPN)
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
    losses = box_losses(logits, deltas, rois([[0, 2, 0, 0]], [[True, True, True, False]]), BOX)
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
    losses = rpn_losses(np.zeros((1, 2)), np.zeros((1, 2, 4)), targets, ANCHORS[:2], RPN)
    losses |= box_losses(np.zeros((1, 2, 3)), np.ones((1, 2, 3, 4)), rois([[0, 0]], nothing), BOX)
    losses["loss_mask"] = mask_loss(np.zeros((1, 2, 4, 4)), np.zeros((1, 2, 4, 4)), nothing)
    assert {float(loss) for loss in losses.values()} == {0.0}


# Of two RoIs with an object the first is where it is; the second is twice as wide, so that the IoU
# is 1/2 and the centres lie 5 pixels apart.
OBJECT = np.float32([10, 0, 20, 10])
TWO = np.float32([OBJECT, [10, 0, 30, 10]])
AT_OBJECT = np.array([[0, 0, 0, 0], [-2.5, 0, -5 * LOG2, 0]], np.float32)  # weights 10, 10, 5, 5


def two_rois(beyond=0.0):
    """The RoIs, a background and an empty slot, which hold `beyond`."""
    rest = np.full((2, 4), beyond, np.float32)
    return RoIs(
        boxes=np.concatenate([TWO, rest])[None],
        labels=np.array([[2, 1, 0, 0]]),
        matched=np.zeros((1, 4), int),
        valid=np.array([[True, True, True, False]]),
        deltas=np.concatenate([AT_OBJECT, rest])[None],
    )


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # Untouched, the second box covers the object and as much again.
        ("l1", 2.5 + 5 * LOG2),
        ("giou", 0.5),  # the enclosing box is the wide one: nothing is added
        ("diou", 0.5 + 25 / 500),
        # v = 4 / pi^2 (pi / 4 - atan(2))^2, and counts by v / (1 - IoU + v).
        ("ciou", 0.55 + 0.04196246**2 / (0.5 + 0.04196246)),
    ],
)
@pytest.mark.parametrize("classes", [3, 1], ids=["of each class", "class-agnostic"])
def test_box_losses_by_hand(kind, expected, classes):
    config = BoxHeadConfig(box_loss=kind, class_agnostic=classes == 1)
    deltas = np.zeros((1, 4, classes, 4), np.float32)
    loss = box_losses(np.zeros((1, 4, 3)), deltas, two_rois(), config)["loss_box_reg"]
    np.testing.assert_allclose(loss, expected / 3, rtol=1e-5)
    config.box_loss_weight = 10.0
    loss = box_losses(np.zeros((1, 4, 3)), deltas, two_rois(), config)["loss_box_reg"]
    np.testing.assert_allclose(loss, 10 * expected / 3, rtol=1e-5)


@pytest.mark.parametrize("kind", ["giou", "diou", "ciou"])
def test_box_losses_of_perfect_boxes_are_zero(kind):
    deltas = two_rois().deltas[:, :, None]
    config = BoxHeadConfig(box_loss=kind, class_agnostic=True)
    loss = box_losses(np.zeros((1, 4, 3)), deltas, two_rois(), config)["loss_box_reg"]
    np.testing.assert_allclose(loss, 0, atol=1e-6)


@pytest.mark.parametrize("kind", ["giou", "diou", "ciou"])
@pytest.mark.parametrize("beyond", [np.nan, np.inf, -1e30])
def test_overlap_losses_and_their_gradients_do_not_depend_on_empty_slots(kind, beyond):
    config = BoxHeadConfig(box_loss=kind, class_agnostic=True)

    def loss(deltas, rois):
        return box_losses(np.zeros((1, 4, 3)), deltas, rois, config)["loss_box_reg"]

    deltas = np.full((1, 4, 1, 4), 0.1, np.float32)
    poisoned = np.where(np.arange(4)[:, None, None] < 2, deltas, np.float32(beyond))
    clean = jax.value_and_grad(loss)(deltas, two_rois())
    np.testing.assert_array_equal(jax.value_and_grad(loss)(poisoned, two_rois(beyond))[0], clean[0])
    gradient = jax.grad(loss)(poisoned, two_rois(beyond))
    np.testing.assert_array_equal(gradient, clean[1])
    assert np.abs(gradient[0, :2]).max() > 0
    assert not gradient[0, 2:].any()


@pytest.mark.parametrize("kind", ["l1", "giou", "diou", "ciou"])
def test_rpn_has_the_same_box_losses(kind):
    config = RPNConfig(box_loss=kind)
    deltas = np.stack([AT_OBJECT / [10, 10, 5, 5]] * 2).astype(np.float32)
    label, sampled = np.array([[1, 1], [0, 1]]), np.array([[True, True], [True, False]])
    targets = AnchorTargets(label, sampled, deltas)
    losses = rpn_losses(np.zeros((2, 2)), np.zeros((2, 2, 4), np.float32), targets, TWO, config)
    expected = {"l1": 0.25 + LOG2, "giou": 0.5, "diou": 0.55, "ciou": 0.55324888}[kind]
    np.testing.assert_allclose(losses["loss_rpn_box_reg"], expected / 3, rtol=1e-5)
