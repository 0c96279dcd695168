"""The detector with matterport's options, each step from its inputs, against numpy."""

import jax
import jax.numpy as jnp
import numpy as np

from maskrcnn_jax.models.trainable import trainable_mask
from maskrcnn_jax.ops.masks import crop_targets
from tests.models import matterport

SHAPE = (64, 96)
LEVELS = ("p2", "p3", "p4", "p5", "p6")
# Pixels: convolutions compute in float32, so boxes agree to about a ten-thousandth.
PIXELS = dict(atol=2e-3)


def _assert_finite(tree):
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


def _anchors(stages, config):
    shapes = [stages[level].shape[1:3] for level in LEVELS]
    ratios = [1 / ratio for ratio in config.anchors.aspect_ratios]
    boxes = matterport.anchors(shapes, config.anchors.sizes, ratios)
    return matterport.normalised(boxes, SHAPE)


def test_the_image_is_black_around(tiny_matterport, batch):
    _, stages = tiny_matterport.predict(batch["image"], batch["image_size"])
    expected = np.zeros((*SHAPE, 3))
    expected[:53, :70] = batch["image"][1, :53, :70]
    expected = (expected - tiny_matterport.config.pixel.mean) / tiny_matterport.config.pixel.std
    np.testing.assert_allclose(stages["image"][1], expected, atol=1e-5)


def test_anchors(tiny_matterport, batch):
    _, stages = tiny_matterport.predict(batch["image"], batch["image_size"])
    pyramid = {level: stages[level] for level in LEVELS}
    _, anchors, _ = tiny_matterport.model.apply(
        tiny_matterport.variables, pyramid, batch["image_size"], SHAPE, "eval", method="proposals"
    )
    ours = matterport.normalised(anchors + matterport.SHIFT, SHAPE)
    np.testing.assert_allclose(ours, _anchors(stages, tiny_matterport.config), atol=1e-6)


def test_proposals(tiny_matterport, batch):
    _, stages = tiny_matterport.predict(batch["image"], batch["image_size"])
    anchors = _anchors(stages, tiny_matterport.config)
    for i in range(2):
        logits, deltas = (np.float64(stages[f"rpn_{name}"][i]) for name in ("logits", "deltas"))
        expected, index = matterport.proposals(logits, deltas, anchors, 100, 120, 0.7)
        assert (index < 1152).any()  # of P2
        assert (index >= 1152).any()
        valid = stages["proposal_valid"][i]
        assert valid.sum() == len(expected)
        ours = stages["proposals"][i][valid] + matterport.SHIFT
        np.testing.assert_allclose(ours, matterport.pixels(expected, SHAPE), **PIXELS)
        scores = 1 / (1 + np.exp(-logits[index]))
        np.testing.assert_allclose(stages["proposal_scores"][i][valid], scores, rtol=1e-5)


def test_proposals_may_leave_the_image_and_detections_may_not(tiny_matterport, batch):
    detections, stages = tiny_matterport.predict(batch["image"], batch["image_size"])
    farthest = stages["proposals"][1].max(axis=0)
    assert farthest[2] > 70
    assert farthest[3] > 53
    assert stages["proposals"].max() <= 95
    limits = np.tile(batch["image_size"][:, None, ::-1], 2)
    assert (detections.boxes >= 0).all()
    assert (detections.boxes <= limits).all()
    boxes = detections.boxes[detections.valid]
    assert (boxes[:, 2:] - boxes[:, :2] >= 1).all()  # a single pixel's corners are one apart


def test_pooled_features(tiny_matterport, batch):
    _, stages = tiny_matterport.predict(batch["image"], batch["image_size"])
    pyramid = [np.float64(stages[level][0]) for level in LEVELS[:4]]
    boxes = stages["proposals"][0] / np.array([95, 63, 95, 63])
    expected = matterport.pooled(pyramid, boxes, SHAPE, 7, canonical_size=28)
    np.testing.assert_allclose(stages["box_features"][0], expected, atol=1e-4)


def test_detections(tiny_matterport, batch):
    detections, stages = tiny_matterport.predict(batch["image"], batch["image_size"])
    settings = tiny_matterport.config.detections
    for i, (height, width) in enumerate(batch["image_size"]):
        valid = stages["proposal_valid"][i]
        logits = np.float64(stages["class_logits"][i][valid])
        probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        assert set(probabilities.argmax(axis=1)) == {0, 1, 2, 3}
        boxes, classes, scores = matterport.detections(
            probabilities,
            np.float64(stages["box_deltas"][i][valid]),
            np.float64(stages["proposals"][i][valid]) / (95, 63, 95, 63),
            ((width - 1) / 95, (height - 1) / 63),
            settings.nms_threshold,
            settings.score_threshold,
            settings.max_per_image,
        )
        found = detections.valid[i]
        assert found.sum() == len(boxes)
        assert set(classes) == {1, 2, 3}
        np.testing.assert_array_equal(detections.classes[i][found], classes)
        np.testing.assert_allclose(detections.scores[i][found], scores, rtol=1e-4)
        expected = matterport.pixels(boxes, SHAPE)
        np.testing.assert_allclose(detections.boxes[i][found], expected, **PIXELS)
        for values in detections[:4]:
            assert not values[i][~found].any()
    _assert_finite((detections, stages))


def test_masks_are_pooled_in_the_networks_coordinates(tiny_matterport, batch):
    detections, stages = tiny_matterport.predict(batch["image"], batch["image_size"])
    pyramid = [np.float64(stages[level][0]) for level in LEVELS[:4]]
    boxes = matterport.normalised(detections.boxes[0][detections.valid[0]], SHAPE)
    expected = matterport.pooled(pyramid, boxes, SHAPE, 14, canonical_size=28)
    np.testing.assert_allclose(stages["mask_features"][0][detections.valid[0]], expected, atol=2e-3)


def test_a_training_step(tiny_matterport, batch):
    step = tiny_matterport.step(batch)
    _assert_finite((step.losses, step.gradients, step.batch_stats))
    assert all(loss > 0 for loss in step.losses.values())
    stages = jax.tree.map(lambda x: x[0], step.stages)
    for slot in (0, 1):  # true boxes are among the RoIs, in the network's coordinates
        is_own = (stages["rois"] == batch["gt_boxes"][0, slot] - matterport.SHIFT).all(axis=1)
        assert (is_own & stages["roi_valid"]).sum() == 1
    positive = stages["mask_valid"]
    assert positive.sum() > 2
    expected = crop_targets(  # of boxes in pixels
        jnp.asarray(batch["gt_masks"][0]),
        jnp.asarray(batch["gt_boxes"][0]),
        jnp.asarray(stages["rois"][positive] + np.float32(matterport.SHIFT)),
        stages["roi_matched"][positive],
        28,
    )
    np.testing.assert_allclose(stages["mask_targets"][positive], expected, atol=1e-5)


def test_only_what_is_frozen_gets_no_gradient(tiny_matterport, batch):
    gradients = tiny_matterport.step(batch).gradients
    trainable = trainable_mask(tiny_matterport.variables["params"], tiny_matterport.config, "all")

    def check(path, gradient, is_trainable):
        assert gradient.any() == is_trainable, jax.tree_util.keystr(path)

    jax.tree_util.tree_map_with_path(check, gradients, trainable)
    assert not trainable["box_head"]["dense_norm_layer_1"]["scale"]
    assert not trainable["mask_head"]["conv_0"]["norm_layer"]["bias"]
    assert trainable["box_head"]["dense_1"]["kernel"]


def test_empty_slots_and_padding_have_no_influence(tiny_matterport, batch):
    expected = tiny_matterport.step(batch)
    for poison in (np.nan, 1e30, -np.inf):
        batch["gt_boxes"][:, 3] = poison
        batch["gt_classes"][:, 3] = 99
        batch["gt_masks"][:, 3] = 255
        batch["gt_crowd"][:, 3] = True
        batch["image"][1, 53:] = 255
        batch["image"][1, :, 70:] = 255
        jax.tree.map(np.testing.assert_array_equal, tiny_matterport.step(batch), expected)
    batch["image_valid"][0] = False
    expected = tiny_matterport.step(batch)
    batch["image_size"][0] = 0
    batch["gt_boxes"][0] = np.nan
    ours = tiny_matterport.step(batch)
    _assert_finite(ours.stages["proposals"])
    jax.tree.map(np.testing.assert_array_equal, ours.losses, expected.losses)
    jax.tree.map(np.testing.assert_array_equal, ours.gradients, expected.gradients)


def test_number_of_channels_of_the_rpn(tiny, tiny_matterport):
    shape = {
        name: model.variables["params"]["rpn"]["conv_0"]["kernel"].shape
        for name, model in (("fpn's", tiny), ("own", tiny_matterport))
    }
    assert shape == {"fpn's": (3, 3, 16, 16), "own": (3, 3, 16, 24)}
