"""Three box heads in a row: how RoIs are handed on, what is trained, what has no influence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.models.cascade.heads import relabelled, shared_gradient
from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.models.targets import GroundTruth, RoIs
from maskrcnn_jax.pretrained.merge import check_fit, merged

HEADS = ("stage_0", "stage_1", "stage_2")


def test_losses_are_those_of_all_heads(tiny_cascade, batch):
    step = tiny_cascade.step(batch)
    further = {f"loss_{name}_{k}" for name in ("classifier", "box_reg") for k in (2, 3)}
    assert further < set(step.losses)
    parts = sum(loss for name, loss in step.losses.items() if name != "loss_total")
    np.testing.assert_allclose(step.losses["loss_total"], parts, rtol=1e-6)
    assert all(np.isfinite(loss) and loss > 0 for loss in step.losses.values())
    assert set(step.gradients["box_head"]) == set(HEADS)
    for leaf in jax.tree.leaves(step.gradients["box_head"]):
        assert np.isfinite(leaf).all()
        assert leaf.any()


def test_heads_are_given_what_the_one_before_makes_of_the_rois(tiny_cascade, batch):
    stages = tiny_cascade.step(batch).stages
    for k in (2, 3):
        valid, boxes = stages[f"roi_valid_{k}"], stages[f"rois_{k}"]
        assert valid.any()
        assert not boxes[~valid].any()
        assert not stages[f"roi_labels_{k}"][~valid].any()
        limits = np.tile(batch["image_size"][:, None, ::-1], 2)
        assert ((boxes >= 0) & (boxes <= limits)).all()
    # The true boxes are among the first RoIs, and a new head hardly moves them.
    assert (stages["roi_labels_3"] > 0).any()


def test_empty_slots_and_objects_of_invalid_images_have_no_influence(tiny_cascade, batch):
    expected = tiny_cascade.step(batch)
    for poison in (np.nan, 1e30, -np.inf):
        batch["gt_boxes"][:, 3], batch["gt_classes"][:, 3] = poison, 99
        found = tiny_cascade.step(batch)
        jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_an_image_without_objects_is_finite(tiny_cascade, batch):
    batch["gt_valid"][:] = False
    step = tiny_cascade.step(batch)
    for leaf in jax.tree.leaves((step.losses, step.gradients)):
        assert np.isfinite(leaf).all()
    assert step.losses["loss_box_reg_3"] == 0


def test_prediction_is_the_mean_class_and_the_last_box(tiny_cascade, batch):
    detections, stages = tiny_cascade.predict(batch["image"], batch["image_size"])
    valid = detections.valid
    assert valid.any()
    names = ("class_logits", "class_logits_2", "class_logits_3")
    mean = np.mean([jax.nn.softmax(stages[name]) for name in names], axis=0)
    for i in range(2):
        scores, classes = detections.scores[i][valid[i]], detections.classes[i][valid[i]]
        for score, number in zip(scores, classes, strict=True):
            assert np.abs(mean[i, :, number] - score).min() < 1e-6
    assert stages["box_deltas"].shape == stages["box_deltas_3"].shape == (2, 30, 1, 4)
    assert not np.array_equal(stages["proposals"], stages["proposals_2"])


ANSWERS = np.zeros((4, 1, 4), np.float32)
ANSWERS[1, 0] = [2.0, 0, 0, 0]  # a fifth of the width to the right, by a weight of 10
ANSWERS[2, 0] = [0, 0, -500.0, 0]  # nothing is left of it
LIMITS = np.float32([50, 60])


def relabelled_by_hand(iou, is_crowd=False):
    boxes = np.float32([[10, 10, 30, 30], [10, 10, 30, 30], [10, 10, 30, 30], [40, 40, 58, 48]])
    rois = RoIs(
        boxes, np.array([1, 1, 1, 0]), np.zeros(4, int), np.array([True] * 4), np.zeros((4, 4))
    )
    gt = GroundTruth(
        boxes=jnp.array([[10.0, 10, 30, 30], [0, 0, 0, 0]]),
        classes=jnp.array([2, 0]),
        masks=jnp.zeros((2, 4, 4), jnp.uint8),
        is_object=jnp.array([not is_crowd, False]),
        is_crowd=jnp.array([is_crowd, False]),
        image_valid=jnp.array(True),
    )
    weights = (10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0)
    return relabelled(rois, ANSWERS, gt, LIMITS, iou=iou, weights=weights, config=ModelConfig())


def test_rois_are_moved_and_labelled_by_hand():
    """The second moves by 4 of 20 pixels: 16 x 20 of 24 x 20 are common, an IoU of 2/3."""
    found = relabelled_by_hand(0.6)
    np.testing.assert_allclose(found.boxes[:2], [[10, 10, 30, 30], [14, 10, 34, 30]], atol=1e-5)
    assert found.valid.tolist() == [True, True, False, True]
    assert found.labels.tolist() == [2, 2, 0, 0]
    assert not found.boxes[2].any()
    # The object lies 4 of 20 pixels to the left of the second, times the next weight of 20.
    np.testing.assert_allclose(found.deltas[1], [-4, 0, 0, 0], atol=1e-5)
    assert not found.deltas[2:].any()
    assert relabelled_by_hand(0.7).labels.tolist() == [2, 0, 0, 0]


def test_rois_in_a_crowd_region_are_left_out():
    assert relabelled_by_hand(0.6, is_crowd=True).valid.tolist() == [False, False, False, True]


def test_each_head_gives_the_features_its_part_of_the_gradient():
    config = ModelConfig()
    config.cascade.ious = (0.6, 0.7)
    x = np.float32([0.1, 3e7, -2])
    value, back = jax.vjp(lambda x: shared_gradient(x, config), x)
    np.testing.assert_array_equal(value, x)
    np.testing.assert_allclose(back(jnp.ones(3))[0], np.full(3, 1 / 3), rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"box_head.class_agnostic": False}, r"set config\.model\.box_head\.class_agnostic = True"),
        ({"cascade.ious": (0.6,)}, r"coder_weights has 2 groups of four and .*ious 1 values"),
        ({"cascade.ious": (0.6, 1.5)}, r"cascade\.ious is .*; expected within \[0, 1\]"),
        ({"cascade.coder_weights": ((1.0,) * 4, (0.0,) * 4)}, r"expected values above 0"),
    ],
)
def test_what_makes_no_cascade_is_refused(changes, message):
    model = ModelConfig()
    set_values(model, {"box_head.class_agnostic": True, "cascade.ious": (0.6, 0.7)})
    model.validate()
    set_values(model, changes)
    with pytest.raises(ValueError, match=message):
        model.validate()


def test_rows_of_known_classes_are_kept_in_every_head(tiny_cascade):
    given = jax.tree.map(lambda x: np.full(x.shape, 7, np.float32), tiny_cascade.variables)
    new = jax.tree.map(np.zeros_like, given)
    names = ("a", "b", "c")
    check_fit(new, given, ("box_head",), "the weights")
    result = merged(new, given, ("box_head",), names, ("b", "x", "y"))
    for head in HEADS:
        found = result["params"]["box_head"][head]
        assert found["class_logits"]["bias"].tolist() == [7, 0, 7, 0]
        assert found["box_deltas"]["bias"].tolist() == [7] * 4
