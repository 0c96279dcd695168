"""The whole detector: shapes, what must not have any influence, images with nothing to learn."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.config import get_config
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.models.build import initial_variables
from maskrcnn_jax.models.config import PixelConfig
from maskrcnn_jax.models.mask_rcnn import MaskRCNN, normalized
from maskrcnn_jax.models.trainable import trainable_mask
from maskrcnn_jax.pretrained.tables.torchvision import MODEL_OVERRIDES

LOSSES = {
    "loss_objectness",
    "loss_rpn_box_reg",
    "loss_classifier",
    "loss_box_reg",
    "loss_mask",
    "loss_total",
}


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def assert_finite(tree):
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


def test_prediction_has_static_shapes_and_clean_slots(tiny, batch):
    detections, stages = tiny.predict(batch["image"], batch["image_size"])
    assert detections.boxes.shape == (2, 10, 4)
    assert detections.masks.shape == (2, 10, 28, 28)
    assert detections.classes.dtype == np.int32
    assert stages["c2"].shape == (2, 16, 24, 8)
    assert stages["p6"].shape == (2, 1, 2, 16)
    assert stages["rpn_logits"].shape == (2, 3 * (16 * 24 + 8 * 12 + 4 * 6 + 2 * 3 + 1 * 2))
    assert stages["proposals"].shape == (2, 30, 4)
    assert stages["box_deltas"].shape == (2, 30, 4, 4)

    valid = detections.valid
    assert valid.any()
    assert (np.sort(valid, axis=1)[:, ::-1] == valid).all()  # valid slots come first
    assert (np.diff(detections.scores, axis=1) <= 0).all()
    assert set(np.unique(detections.classes[valid])) <= {1, 2, 3}
    for values in detections[:4]:
        assert not values[~valid].any()
    limits = np.tile(batch["image_size"][:, None, ::-1], 2)
    assert (detections.boxes >= 0).all()
    assert (detections.boxes <= limits).all()


def test_fewer_proposals_than_slots_leave_the_others_empty(tiny, batch):
    batch["image_size"][1] = (1, 1)  # clipped to this, most proposals are too small or alike
    detections, stages = tiny.predict(batch["image"], batch["image_size"])
    valid = stages["proposal_valid"][1]
    assert 0 < valid.sum() < valid.size
    assert not stages["proposals"][1][~valid].any()
    assert_finite((detections, stages))


def test_losses_are_named_and_summed(tiny, batch):
    losses = tiny.step(batch).losses
    assert set(losses) == LOSSES
    assert all(loss > 0 for loss in losses.values())
    parts = sum(losses[name] for name in LOSSES - {"loss_total"})
    np.testing.assert_allclose(losses["loss_total"], parts, rtol=1e-6)


def test_empty_slots_have_no_influence(tiny, batch):
    expected = tiny.step(batch)
    for poison in (np.nan, 1e30, -np.inf):
        batch["gt_boxes"][:, 3] = poison
        batch["gt_classes"][:, 3] = 99
        batch["gt_masks"][:, 3] = 255
        batch["gt_crowd"][:, 3] = True
        assert_equal(tiny.step(batch), expected)


def test_pixels_outside_the_image_have_no_influence(tiny, batch):
    expected = tiny.step(batch), tiny.predict(batch["image"], batch["image_size"])
    batch["image"][1, 53:] = 255
    batch["image"][1, :, 70:] = 255
    assert_equal((tiny.step(batch), tiny.predict(batch["image"], batch["image_size"])), expected)


def test_invalid_images_have_no_influence(tiny, batch):
    batch["image_valid"][1] = False
    expected = tiny.step(batch)
    batch["image"][1] = 255
    batch["image_size"][1] = 0
    batch["gt_boxes"][1] = np.nan
    batch["gt_classes"][1] = 3
    batch["gt_valid"][1] = True
    ours = tiny.step(batch)
    assert_equal(ours.losses, expected.losses)
    assert_equal(ours.gradients, expected.gradients)
    assert_equal(ours.batch_stats, expected.batch_stats)


def test_invalid_images_do_not_count_in_any_mean(tiny, batch):
    batch["image_valid"][1] = False
    alone = tiny.step(batch)
    twice = tiny.step({key: np.stack([value[0], value[0]]) for key, value in batch.items()})
    for name in LOSSES:
        np.testing.assert_allclose(alone.losses[name], twice.losses[name], rtol=1e-4)


@pytest.mark.parametrize("content", ["empty", "crowd only", "invalid"])
def test_nothing_to_learn_gives_finite_losses(tiny, batch, content):
    if content == "empty":
        batch["gt_valid"][:] = False
    if content == "crowd only":
        batch["gt_crowd"][:] = True
    if content == "invalid":
        batch["image_valid"][:] = False
    step = tiny.step(batch)
    assert_finite((step.losses, step.gradients, step.batch_stats))
    for name in ("loss_rpn_box_reg", "loss_box_reg", "loss_mask"):
        assert step.losses[name] == 0
    assert (step.losses["loss_objectness"] > 0) == (content != "invalid")
    assert not step.stages["mask_valid"].any()


def test_crowd_regions_are_no_proposals_and_no_matches(tiny, batch):
    stages = tiny.step(batch).stages
    crowd = batch["gt_boxes"][0, 2]
    assert not (stages["rois"] == crowd).all(-1).any()
    assert (stages["rois"] == batch["gt_boxes"][0, 0]).all(-1).any()
    assert not (stages["roi_matched"] == 2).any()
    background = stages["roi_valid"][0] & (stages["roi_labels"][0] == 0)
    inside = stages["rois"][0][background]
    assert len(inside)
    width = np.minimum(inside[:, 2], crowd[2]) - np.maximum(inside[:, 0], crowd[0])
    height = np.minimum(inside[:, 3], crowd[3]) - np.maximum(inside[:, 1], crowd[1])
    area = (inside[:, 2] - inside[:, 0]) * (inside[:, 3] - inside[:, 1])
    assert (np.maximum(width, 0) * np.maximum(height, 0) < 0.5 * area).all()


def test_every_parameter_gets_a_gradient(tiny, batch):
    for path, gradient in jax.tree_util.tree_leaves_with_path(tiny.step(batch).gradients):
        assert gradient.any(), jax.tree_util.keystr(path)


def test_running_statistics_follow_the_batch(tiny, batch):
    updated = tiny.step(batch).batch_stats
    before = tiny.variables["batch_stats"]
    for part in ("backbone", "box_head", "mask_head"):
        for a, b in zip(jax.tree.leaves(before[part]), jax.tree.leaves(updated[part]), strict=True):
            assert (a != b).any()


def test_bfloat16_is_for_layers_and_float32_for_the_rest(tiny, tiny_config, batch):
    tiny_config.dtype = "bfloat16"
    model = MaskRCNN(tiny_config, 3)
    types = jax.eval_shape(lambda key: initial_variables(model, key), jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(types)} == {jnp.dtype("float32")}
    detections, stages = jax.jit(lambda *args: model.apply(*args, method="predict"))(
        tiny.variables, batch["image"], batch["image_size"]
    )
    for name in ("c2", "c5", "p2", "p6", "box_features", "mask_features"):
        assert stages[name].dtype == jnp.bfloat16, name
    for name in ("image", "rpn_logits", "rpn_deltas", "proposals", "class_logits", "mask_logits"):
        assert stages[name].dtype == jnp.float32, name
    assert detections.boxes.dtype == detections.scores.dtype == jnp.float32
    _, expected = tiny.predict(batch["image"], batch["image_size"])
    scale = np.abs(expected["c5"]).max()
    np.testing.assert_allclose(stages["c5"].astype(np.float32), expected["c5"], atol=0.1 * scale)


def test_every_part_gets_its_own_epsilon(tiny_config):
    tiny_config.fpn.norm = "bn"
    tiny_config.box_head.dense_norm = "bn"
    for i, part in enumerate(("backbone", "fpn", "box_head", "mask_head"), start=1):
        getattr(tiny_config, part).norm_eps = i / 1000
    model = MaskRCNN(tiny_config, 3).bind({})
    assert model.backbone.stem.norm_layer.norm_eps == 0.001
    for layers in (model.fpn.lateral, model.fpn.output):
        assert {layer.norm_layer.norm_eps for layer in layers.values()} == {0.002}
    assert model.box_head.conv[0].norm_layer.norm_eps == 0.003
    assert model.box_head.dense_norm_layer[0].norm_eps == 0.003
    assert model.mask_head.conv[0].norm_layer.norm_eps == 0.004


def test_normalized_by_hand():
    image = np.zeros((1, 32, 32, 3), np.uint8)
    image[..., 0], image[..., 1], image[..., 2] = 10, 20, 30
    pixel = PixelConfig(mean=(1.0, 2.0, 3.0), std=(1.0, 2.0, 3.0), padding="mean")
    size = np.array([[2, 3]], np.float32)
    ours = normalized(jnp.asarray(image), size, pixel)
    np.testing.assert_allclose(ours[0, 1, 2], [9.0, 9.0, 9.0])
    assert not ours[0, 2:].any()
    assert not ours[0, :, 3:].any()
    ours = normalized(jnp.asarray(image), size, replace(pixel, order="bgr"))
    np.testing.assert_allclose(ours[0, 0, 0], [29.0, 9.0, 7 / 3], rtol=1e-6)


def test_black_padding_is_a_pixel_of_value_zero():
    image = np.full((1, 32, 32, 3), 255, np.uint8)
    pixel = PixelConfig(mean=(1.0, 2.0, 6.0), std=(1.0, 2.0, 3.0), padding="black")
    ours = normalized(jnp.asarray(image), np.array([[2, 3]], np.float32), pixel)
    np.testing.assert_allclose(ours[0, 1, 2], [254.0, 253 / 2, 249 / 3], rtol=1e-6)
    outside = np.ones((32, 32), bool)
    outside[:2, :3] = False
    np.testing.assert_array_equal(ours[0][outside], [[-1, -1, -2]] * outside.sum())


def test_normalized_refuses_what_does_not_fit():
    size, pixel = jnp.ones((1, 2)), PixelConfig(mean=(0.0,) * 3, std=(1.0,) * 3)
    with pytest.raises(ValueError, match=r"40x64.*multiples of 32"):
        normalized(jnp.zeros((1, 40, 64, 3), jnp.uint8), size, pixel)


@pytest.mark.parametrize(("arch", "number"), [("v1", 44_401_393), ("v2", 46_359_409)])
def test_number_of_parameters_is_torchvisions(arch, number):
    config = get_config().model
    set_values(config, MODEL_OVERRIDES[arch])
    model = MaskRCNN(config, 90)
    variables = jax.eval_shape(lambda key: initial_variables(model, key), jax.random.key(0))
    # torchvision counts the scales and biases of frozen norms as buffers.
    trainable = trainable_mask(variables["params"], config, "all")
    sizes = jax.tree.map(lambda leaf, count: leaf.size * count, variables["params"], trainable)
    assert sum(jax.tree.leaves(sizes)) == number
