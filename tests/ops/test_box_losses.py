"""Losses by the overlap of boxes."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.ops import box_losses

LOSSES = {
    "giou": box_losses.generalized_iou_loss,
    "diou": box_losses.distance_iou_loss,
    "ciou": box_losses.complete_iou_loss,
}
BOX = np.array([0, 0, 4, 4], np.float32)


@pytest.mark.parametrize(
    ("other", "giou", "diou", "ciou"),
    [
        ([0, 0, 4, 4], 0, 0, 0),
        # Half of it: IoU 1/2; centres 1 apart, a diagonal of sqrt(32).
        ([0, 0, 2, 4], 0.5, 0.5 + 1 / 32, None),
        # Beside it, as large: nothing in common, enclosed by 12 x 4, of which a third is empty.
        ([8, 0, 12, 4], 1 + 1 / 3, 1 + 64 / 160, 1 + 64 / 160),
        # Inside, of the same shape: only the overlap is wrong.
        ([1, 1, 3, 3], 0.75, 0.75, 0.75),
    ],
)
def test_by_hand(other, giou, diou, ciou):
    for order in ((BOX, np.float32(other)), (np.float32(other), BOX)):
        np.testing.assert_allclose(LOSSES["giou"](*order), giou, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(LOSSES["diou"](*order), diou, rtol=1e-6, atol=1e-6)
        if ciou is not None:
            np.testing.assert_allclose(LOSSES["ciou"](*order), ciou, rtol=1e-6, atol=1e-6)


def test_ciou_by_hand():
    """Half of the box: v = 4 / pi^2 (pi / 4 - atan(1 / 2))^2, weighted by v / (1 - IoU + v)."""
    v = 4 / math.pi**2 * (math.pi / 4 - math.atan(0.5)) ** 2
    loss = LOSSES["ciou"](np.float32([0, 0, 2, 4]), BOX)
    np.testing.assert_allclose(loss, 0.5 + 1 / 32 + v * v / (0.5 + v), rtol=1e-6)


def in_numpy(kind, pred, target):
    """The textbook's formulas in float64, one pair at a time."""
    pred, target = pred.astype(float), target.astype(float)
    sides = np.minimum(pred[2:], target[2:]) - np.maximum(pred[:2], target[:2])
    common = max(sides[0], 0) * max(sides[1], 0)
    union = np.prod(pred[2:] - pred[:2]) + np.prod(target[2:] - target[:2]) - common
    hull = np.maximum(pred[2:], target[2:]) - np.minimum(pred[:2], target[:2])
    iou = common / union
    if kind == "giou":
        return 1 - iou + (np.prod(hull) - union) / np.prod(hull)
    centres = (pred[:2] + pred[2:] - target[:2] - target[2:]) / 2
    loss = 1 - iou + centres @ centres / (hull @ hull)
    if kind == "diou":
        return loss
    angles = [math.atan((b[2] - b[0]) / (b[3] - b[1])) for b in (pred, target)]
    v = 4 / math.pi**2 * (angles[1] - angles[0]) ** 2
    return loss + (v * v / (1 - iou + v) if v else 0)


@pytest.mark.parametrize("kind", LOSSES)
def test_against_numpy(kind, random_boxes):
    pred, target = random_boxes(np.random.default_rng(0), 2, 200)
    expected = [in_numpy(kind, *pair) for pair in zip(pred, target, strict=True)]
    np.testing.assert_allclose(LOSSES[kind](pred, target), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", LOSSES)
def test_values_and_gradients_are_torchvisions(kind, ops_reference):
    pred, target = ops_reference["box_loss.pred"], ops_reference["box_loss.target"]
    ops_reference.assert_close(LOSSES[kind](pred, target), f"box_loss.{kind}")
    gradient = jax.grad(lambda pred: LOSSES[kind](pred, target).sum())(pred)
    ops_reference.assert_close(gradient, f"box_loss.grad.{kind}")


@pytest.mark.parametrize("kind", LOSSES)
def test_gradient_stays_finite_where_a_side_has_vanished(kind):
    flat = jnp.array([[1.0, 1, 3, 1], [1, 1, 1, 3], [2, 2, 2, 2]])
    value, gradient = jax.value_and_grad(lambda pred: LOSSES[kind](pred, BOX).sum())(flat)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
