"""The head that predicts the IoU of masks: what it is trained for, and what it changes."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.inference.coco_results import coco_results
from maskrcnn_jax.inference.result import to_result
from maskrcnn_jax.models.build import abstract_variables, make_model
from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.models.detections import Detections
from maskrcnn_jax.models.mask_scoring.head import MaskIoUHead, max_pooled
from maskrcnn_jax.models.mask_scoring.losses import iou_targets, mask_iou_loss, object_areas
from maskrcnn_jax.models.targets import GroundTruth, RoIs
from maskrcnn_jax.ops.losses import masked_mean
from maskrcnn_jax.pretrained.merge import check_fit, merged
from tests.models.conftest import Tiny, tiny_model_config
from tests.models.mask_scoring import given
from tests.parity.reference import Reference

SMALL = {
    "mask_scoring.enabled": True,
    "mask_scoring.convs": 2,
    "mask_scoring.channels": 8,
    "mask_scoring.dense_channels": 16,
}


@pytest.fixture(scope="module")
def z(parity_dir):
    return Reference(parity_dir / "mask_scoring.npz")


def params_of(state) -> dict:
    """The authors' weights as ours: channels last, no output for the background."""
    found = {}
    for i in range(4):
        kernel = state[f"maskiou_fcn{i + 1}.weight"].transpose(2, 3, 1, 0)
        found[f"conv_{i}"] = {"kernel": kernel, "bias": state[f"maskiou_fcn{i + 1}.bias"]}
    first = state["maskiou_fc1.weight"].reshape(-1, 256, 7, 7).transpose(2, 3, 1, 0)
    found["dense_0"] = {"kernel": first.reshape(256 * 49, -1), "bias": state["maskiou_fc1.bias"]}
    found["dense_1"] = {"kernel": state["maskiou_fc2.weight"].T, "bias": state["maskiou_fc2.bias"]}
    found["iou"] = {"kernel": state["maskiou.weight"][1:].T, "bias": state["maskiou.bias"][1:]}
    return found


def theirs(params, state) -> dict:
    """Ours as the authors' weights: gradients, of which the background's is zero."""
    back = jax.vjp(lambda x: params_of(x), jax.tree.map(jnp.asarray, state))[1]
    return back(params)[0]


def test_ious_targets_loss_and_gradients_are_the_authors(z):
    arrays, state = given.inputs(z.meta["seed"]), given.weights(z.meta["seed"])
    labels, ratios = np.array(z.meta["labels"]), np.float32(z.meta["ratios"])
    masks, head = arrays["masks"], MaskIoUHead(given.CLASSES)
    targets = iou_targets(arrays["logits"], masks, masks.sum((1, 2)) / ratios)
    z.assert_close(targets, "targets")

    def loss(params, features, logits):
        x = features.transpose(0, 2, 3, 1)[None]
        ious = head.apply({"params": params}, x, logits[None], labels[None])[0]
        return 0.5 * masked_mean(jnp.square(ious - targets), targets > 0), ious

    given_arrays = params_of(state), arrays["features"], arrays["logits"]
    step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))
    with jax.default_matmul_precision("float32"):
        (value, ious), (params, features, logits) = jax.device_get(step(*given_arrays))
    z.assert_close(ious, "ious")
    np.testing.assert_allclose(value, z["loss"], rtol=0, atol=z.tolerance("loss"))
    gradients = theirs(params, state) | {"features": features, "logits": logits}
    every = z.meta["every"]
    assert len(list(z.keys("gradient."))) == len(gradients) == 16
    for name, ours in gradients.items():
        key = f"gradient.{name}"
        few = np.ravel(ours)[::every][: len(z[key])]
        np.testing.assert_allclose(few, z[key], rtol=0, atol=z.gradient_tolerance(key), err_msg=key)


def test_targets_by_hand():
    """Of 4 x 4 cells the RoI holds the object's left half, 8 cells of 16.

    The mask has 6 of these and 2 others: 6 common of 8 + 16 - 6. Without the rest of the object it
    would be 6 of 10. A mask that is nowhere, or on nothing, has an IoU of 0.
    """
    target = np.zeros((4, 4, 4), np.float32)
    target[:3, :, :2] = 1
    logits = np.full((4, 4, 4), -1.0, np.float32)
    logits[:2, :3, :2] = 0.2
    logits[:2, :2, 3] = 9.0
    ious = iou_targets(logits, target, np.float32([16, 8, 16, 0]))
    np.testing.assert_allclose(ious, [6 / 18, 6 / 10, 0, 0], rtol=1e-6)
    # A grid may hold a little more than the object's own has.
    assert iou_targets(20 * target[:1] - 10, target[:1], np.float32([7.9])) == 1


def test_areas_of_objects_are_those_of_their_masks():
    masks = np.zeros((1, 2, 4, 4), np.uint8)
    masks[0, 0, :2] = 255
    masks[0, 0, 2] = 51
    boxes = np.float32([[[10, 10, 30, 50], [0, 0, 0, 0]]])
    truth = GroundTruth(boxes, None, masks, None, None, None)
    areas = object_areas(truth, np.zeros(4, np.float32))
    np.testing.assert_allclose(areas, [[800 * (0.5 + 0.2 / 4), 0]], rtol=1e-6)


class Fixed:
    """A detector whose MaskIoU head says what it is told."""

    def __init__(self, ious):
        self.corner, self.config = np.zeros(4, np.float32), ModelConfig()
        self.mask_iou_head = lambda *_: ious


def test_only_positives_whose_mask_overlaps_enter_the_loss():
    """The first RoI is the object's left half, wholly predicted: an IoU of 1/2, told as 0.9."""
    logits = np.full((1, 4, 2, 2), 5.0, np.float32)
    logits[0, 1] = -5.0
    stages = dict(
        mask_features=None,
        mask_logits=logits,
        mask_targets=np.ones((1, 4, 2, 2), np.float32),
        mask_valid=np.array([[True, True, False, False]]),
    )
    stages["mask_targets"][0, 2:] = np.nan
    boxes = np.float32([[[0, 0, 10, 20]] * 3 + [[0, 0, 0, 0]]])
    rois = RoIs(boxes, np.array([[1, 1, 0, 0]]), np.zeros((1, 4), int), None, None)
    truth = GroundTruth(
        np.float32([[[0, 0, 20, 20]]]), None, np.full((1, 1, 2, 2), 255), *[None] * 3
    )

    def loss(ious):
        return mask_iou_loss(Fixed(ious), stages, rois, truth)[0]

    ious = np.float32([[0.9, 3, np.nan, np.nan]])
    value, gradient = jax.value_and_grad(loss)(ious)
    np.testing.assert_allclose(value, 0.5 * 0.4**2, rtol=1e-5)
    np.testing.assert_allclose(gradient, [[0.4, 0, 0, 0]], rtol=1e-5)
    stages["mask_valid"][:] = False
    assert loss(ious) == 0


def test_masks_are_pooled_by_their_largest_value():
    masks = np.arange(16.0).reshape(1, 4, 4)
    np.testing.assert_array_equal(max_pooled(masks), [[[5, 7], [13, 15]]])


def test_boxes_keep_their_score_and_masks_have_their_own():
    found = Detections(
        boxes=np.float32([[[2, 2, 8, 8], [1, 1, 6, 6], [0, 0, 0, 0]]]),
        scores=np.float32([[0.9, 0.6, 0]]),
        classes=np.int32([[1, 1, 0]]),
        masks=np.ones((1, 3, 4, 4), np.float32),
        valid=np.array([[True, True, False]]),
        mask_scores=np.float32([[0.3, 0.5, 0]]),
    )
    size = np.array([10, 10])
    result = to_result(found, 0, size, size, ("a",))
    np.testing.assert_array_equal(result.mask_scores, np.float32([0.3, 0.5]))
    entries = coco_results(result.chosen([1]), 7, (1,))
    assert (entries[0]["score"], entries[0]["mask_score"]) == pytest.approx((0.6, 0.5))
    plain = to_result(found._replace(mask_scores=None), 0, size, size, ("a",))
    assert plain.mask_scores is None
    assert "mask_score" not in coco_results(plain, 7, (1,))[0]


def scoring_config(**changes) -> ModelConfig:
    config = tiny_model_config()
    set_values(config, {**SMALL, **changes})
    return config


def test_the_head_has_its_own_weights_and_stages(batch):
    model = make_model(scoring_config(), 3)
    variables = abstract_variables(model)
    head = variables["params"]["mask_iou_head"]
    assert head["conv_0"]["kernel"].shape == (3, 3, 16 + 1, 8)
    assert head["iou"]["kernel"].shape == (16, 3)
    given_images = batch["image"], batch["image_size"]
    found, stages = jax.eval_shape(partial(model.apply, method="predict"), variables, *given_images)
    assert found.mask_scores.shape == stages["mask_ious"].shape == found.scores.shape
    plain = make_model(tiny_model_config(), 3)
    assert "mask_iou_head" not in abstract_variables(plain)["params"]


@pytest.mark.slow
def test_a_step_trains_the_head_and_a_prediction_has_its_scores(batch):
    model = Tiny(scoring_config())
    step = model.step(batch)
    assert 0 < step.losses["loss_mask_iou"] < 0.5
    np.testing.assert_allclose(
        step.losses["loss_total"],
        sum(loss for name, loss in step.losses.items() if name != "loss_total"),
        rtol=1e-6,
    )
    for leaf in jax.tree.leaves(step.gradients["mask_iou_head"]):
        assert np.isfinite(leaf).all()
        assert leaf.any()
    for poison in (np.nan, 1e30):
        poisoned = {**batch, "gt_boxes": batch["gt_boxes"].copy()}
        poisoned["gt_boxes"][:, 3] = poison
        jax.tree.map(np.testing.assert_array_equal, model.step(poisoned), step)
    found, stages = model.predict(batch["image"], batch["image_size"])
    valid = found.valid
    assert valid.any()
    ious = np.clip(stages["mask_ious"], 0, 1)
    np.testing.assert_allclose(found.mask_scores[valid], (found.scores * ious)[valid], rtol=1e-6)
    assert not found.mask_scores[~valid].any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"masks": False}, r"mask_scoring\.enabled is True, and with config\.model\.masks = False"),
        ({"point_rend.enabled": True}, r"point_rend\.enabled are True.*set one of them to False"),
        ({"mask_scoring.loss_weight": 0.0}, r"loss_weight is 0\.0; expected above 0"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, message):
    config = scoring_config()
    config.validate()
    set_values(config, changes)
    with pytest.raises(ValueError, match=message):
        config.validate()


def test_without_a_head_its_settings_do_not_matter():
    config = replace(ModelConfig(), masks=False)
    config.mask_scoring.channels = 8
    config.validate()


def test_classes_that_both_have_keep_their_output():
    def head(classes, first):
        kernel = first + np.arange(2.0 * classes).reshape(2, classes)
        return {"params": {"mask_iou_head": {"iou": {"kernel": kernel, "bias": kernel[0]}}}}

    new, old, part = head(3, 0), head(2, 100), ("mask_iou_head",)
    check_fit(new, old, part, "the weights")
    iou = merged(new, old, part, ("a", "b", "c"), ("c", "a"))["params"]["mask_iou_head"]["iou"]
    assert iou["kernel"].tolist() == [[101, 1, 100], [103, 4, 102]]
    assert iou["bias"].tolist() == [101, 1, 100]
