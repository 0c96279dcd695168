"""Losses and scores of classes by sigmoids, and the federated loss."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.models.box_head import class_scores
from maskrcnn_jax.models.cascade.heads import mean_logits
from maskrcnn_jax.models.class_losses import federated_classes
from maskrcnn_jax.models.config import BoxHeadConfig, ModelConfig
from maskrcnn_jax.models.detections import detect
from maskrcnn_jax.models.losses import box_losses
from maskrcnn_jax.models.rpn import Proposals
from maskrcnn_jax.models.targets import RoIs
from tests.parity.reference import Reference

LOG2 = np.log(2)
SIGMOID = BoxHeadConfig(class_loss="sigmoid")
FEDERATED = BoxHeadConfig(class_loss="federated", federated_classes=3)
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def z(parity_dir: Path) -> Reference:
    return Reference(parity_dir / "class_losses_d2.npz")


def rois_of(labels, valid=None) -> RoIs:
    labels = np.array(labels)
    shape = labels.shape
    valid = np.ones(shape, bool) if valid is None else np.array(valid)
    return RoIs(np.zeros((*shape, 4)), labels, np.zeros(shape, int), valid, np.zeros((*shape, 4)))


@partial(jax.jit, static_argnums=2)
def loss_of(logits, rois, config, key=KEY):
    deltas = np.zeros((*logits.shape, 4), np.float32)
    return box_losses(logits, deltas, rois, config, key)["loss_classifier"]


gradient_of = jax.jit(jax.value_and_grad(loss_of), static_argnums=2)


def ours(z) -> tuple[np.ndarray, RoIs]:
    """The reference's logits and RoIs with the background first."""
    labels = (np.array(z.meta["labels"]) + 1) % 8
    return np.roll(z["logits"], 1, axis=1)[None], rois_of(labels[None])


@pytest.mark.parametrize("number", ["all", 3, 7])
def test_loss_and_gradient_are_detectron2s(z, number):
    """With 3 the RoIs' own classes fill the room; with 7 all others but the class without images.

    So no random number matters.
    """
    logits, rois = ours(z)
    counts = tuple(z.meta["image_counts"])
    config = SIGMOID
    if number != "all":
        config = replace(FEDERATED, federated_classes=number, class_image_counts=counts)
    loss, gradient = gradient_of(logits, rois, config)
    name = f"loss.{number}"
    np.testing.assert_allclose(loss, z[name], rtol=0, atol=z.tolerance(name))
    z.assert_close(np.roll(gradient[0], -1, axis=1), f"gradient.{number}")


def test_classes_are_drawn_as_often_as_detectron2_draws_them(z):
    _, rois = ours(z)
    weights = np.sqrt(np.float32(z.meta["image_counts"]))

    def draw(key):
        return federated_classes(key, rois.labels[0], rois.valid[0], weights, z.meta["drawn"])

    number = 20_000
    drawn = jax.vmap(draw)(jax.random.split(KEY, number))
    assert (drawn.sum(1) == z.meta["drawn"] - 1).all()  # the background is one of them
    expected = z["frequencies"]
    deviation = np.sqrt(expected * (1 - expected) * (1 / number + 1 / z.meta["draws"]))
    assert (np.abs(drawn.mean(0) - expected) <= 4 * deviation).all()


def test_detections_are_detectron2s(z):
    logits, _ = ours(z)
    config = ModelConfig()
    config.box_head.class_loss = "federated"
    config.detections.score_threshold = z.meta["score_threshold"]
    deltas = np.concatenate([np.zeros((14, 1, 4)), z["deltas"].reshape(14, 7, 4)], axis=1)
    proposals = Proposals(z["proposals"], np.ones(14), np.ones(14, bool))
    boxes, scores, classes, valid = jax.jit(detect, static_argnums=4)(
        logits[0], deltas.astype(np.float32), proposals, np.float32(z.meta["size"]), config
    )
    assert valid.sum() == len(z["scores"]) > 20
    np.testing.assert_array_equal(classes[valid] - 1, z["classes"])
    z.assert_close(scores[valid], "scores")
    z.assert_close(boxes[valid], "boxes")


def test_sigmoid_loss_by_hand_leaves_out_background_and_empty_slots():
    """Two RoIs of 2 classes: 4 outputs, three of which cost log 2; one, at 50, is right."""
    logits = np.zeros((1, 3, 3), np.float32)
    logits[..., 0] = 1e4
    logits[0, 1, 2] = 50
    logits[0, 2] = np.nan
    rois = rois_of([[0, 2, 0]], [[True, True, False]])
    loss, gradient = gradient_of(logits, rois, SIGMOID)
    np.testing.assert_allclose(loss, 3 * LOG2 / 2, rtol=1e-6)
    np.testing.assert_allclose(gradient[0, :2, 1:], [[0.25, 0.25], [0.25, 0]], atol=1e-7)
    assert not gradient[..., 0].any()
    assert not gradient[0, 2].any()


def test_each_image_has_the_classes_that_it_shows_and_no_others_get_a_gradient():
    """Image 0 shows class 5 and the background, image 1 classes 1, 2 and 3: no room for others."""
    config = replace(FEDERATED, class_image_counts=(9, 9, 1, 9, 9, 0))
    logits = np.zeros((2, 4, 7), np.float32)
    rois = rois_of([[5, 0, 3, 0], [1, 2, 3, 4]], [[True, True, False, True], [True] * 3 + [False]])
    drawn = set()
    for seed in range(8):
        _, gradient = gradient_of(logits, rois, config, jax.random.key(seed))
        of_class = np.abs(gradient).max(axis=1) > 0
        assert of_class[0].sum() == 2
        assert of_class[0, 5]
        assert not of_class[0, [0, 6]].any()
        assert of_class[1].tolist() == [False, True, True, True, False, False, False]
        assert not gradient[0, 2].any()
        assert not gradient[1, 3].any()
        drawn |= set(np.flatnonzero(of_class[0]).tolist())
    assert len(drawn) > 2


def test_without_counts_all_classes_are_drawn_alike_and_with_too_few_none():
    rois = rois_of([[0, 0]])
    keys = jax.random.split(KEY, 300)
    weights = np.ones(4, np.float32)
    draw = jax.vmap(lambda key: federated_classes(key, rois.labels[0], rois.valid[0], weights, 2))
    drawn = np.asarray(draw(keys))
    np.testing.assert_allclose(drawn.mean(0), 0.25, atol=0.1)
    assert drawn.sum(1).tolist() == [1] * 300
    logits = jnp.zeros((1, 2, 5))
    np.testing.assert_allclose(loss_of(logits, rois, FEDERATED), 2 * LOG2, rtol=1e-6)
    with pytest.raises(ValueError, match=r"class_image_counts has 2 values, the model 4 classes"):
        loss_of(logits, rois, replace(FEDERATED, class_image_counts=(1, 2)))


def test_scores_of_a_cascade_are_the_mean_of_its_heads():
    logits = [np.float32([[-3, 0, 200]]), np.float32([[1, 0, 200]])]
    for kind in ("softmax", "sigmoid"):
        config = BoxHeadConfig(class_loss=kind)
        expected = sum(class_scores(x, config) for x in logits) / 2
        found = class_scores(mean_logits(logits, config), config)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(class_scores(logits[1], SIGMOID), [[0.7310586, 0.5, 1]], rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"detections.classes": "best"}, r"set config\.model\.detections\.classes to 'all', or"),
        ({"box_head.class_loss": "focal"}, r"expected softmax \| sigmoid \| federated"),
        (
            {"box_head.class_image_counts": (3, -1)},
            r"class_image_counts is .*; expected at least 0",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(changes, message):
    model = ModelConfig()
    set_values(model, {"box_head.class_loss": "federated"})
    model.validate()
    set_values(model, changes)
    with pytest.raises(ValueError, match=message):
        model.validate()
