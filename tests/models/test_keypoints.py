"""The keypoint head: its layers, its loss, its detections, and what has no influence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.models.build import abstract_variables, make_model
from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.models.keypoints.head import Deconv, _bilinear
from maskrcnn_jax.models.keypoints.persons import PERSONS
from maskrcnn_jax.models.keypoints.stages import _normalizer
from maskrcnn_jax.pretrained.merge import check_fit, merged


@pytest.fixture
def keypoints_batch(batch):
    """The batch with keypoints: those of the first object all in its box, of the second one."""
    points = np.zeros((2, 4, 4, 3), np.float32)
    points[:, 0] = [[24, 8, 2], [10, 20, 1], [38, 20, 2], [24, 36, 2]]
    points[:, 1, 0] = [40, 30, 2]
    points[:, 1, 1] = [5, 5, 2]  # known, and outside of the box
    points[:, 2] = [[10, 45, 2]] * 4  # of a crowd region
    return {**batch, "gt_keypoints": points}


def test_a_transposed_convolution_by_hand():
    """Each input pixel adds its value times the 4x4 kernel around it, less what lies outside."""
    x = np.random.default_rng(0).normal(size=(1, 2, 3, 3, 2)).astype(np.float32)
    layer = Deconv(3)
    variables = layer.init(jax.random.key(0), x)
    kernel = np.asarray(variables["params"]["kernel"])
    expected = np.zeros((1, 2, 8, 8, 3))
    for i in range(3):
        for j in range(3):
            expected[:, :, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += np.einsum(
                "bnc,klcp->bnklp", x[:, :, i, j], kernel
            )
    found = layer.apply(variables, x)
    np.testing.assert_allclose(found, expected[:, :, 1:7, 1:7], atol=1e-5)


def test_bilinear_enlargement_by_hand():
    expected = [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]
    np.testing.assert_array_equal(_bilinear(2), expected)


def test_the_loss_is_that_of_known_keypoints_in_the_boxes(tiny_keypoints, keypoints_batch):
    step = tiny_keypoints.step(keypoints_batch)
    assert "loss_mask" not in step.losses
    parts = sum(loss for name, loss in step.losses.items() if name != "loss_total")
    np.testing.assert_allclose(step.losses["loss_total"], parts, rtol=1e-6)
    stages = step.stages
    valid, targets = stages["keypoint_valid"], stages["keypoint_targets"]
    assert not targets[~valid].any()
    logits = stages["keypoint_logits"].astype(np.float64)
    assert logits.shape == (2, 34, 4, 56, 56)
    logits = logits.reshape(2, 34, 4, -1)
    chosen = np.take_along_axis(logits, targets[..., None], -1)[..., 0]
    entropy = np.log(np.exp(logits).sum(-1)) - chosen
    np.testing.assert_allclose(step.losses["loss_keypoint"], entropy[valid].mean(), rtol=1e-4)
    # The true box of the first object is a RoI: its left keypoint is 2 of 32 pixels from its left
    # edge and 14 from the top, in the cell of row 24 and column 3.
    found = (stages["rois"][0] == keypoints_batch["gt_boxes"][0, 0]).all(-1).argmax()
    assert valid[0, found].all()
    assert targets[0, found, 1] == 24 * 56 + 3
    for leaf in jax.tree.leaves(step.gradients["keypoint_head"]):
        assert np.isfinite(leaf).all()
        assert leaf.any()


def test_empty_slots_crowds_and_unknown_keypoints_have_no_influence(
    tiny_keypoints, keypoints_batch
):
    expected = tiny_keypoints.step(keypoints_batch)
    points = keypoints_batch["gt_keypoints"]
    for poison in (np.nan, 1e30, -np.inf):
        points[:, 3] = poison
        points[:, 2, :, :2] = 3
        points[:, 1, 2:, :2] = 44  # of unknown keypoints, which are in the box
        found = tiny_keypoints.step(keypoints_batch)
        jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_objects_without_keypoints_have_no_loss_of_them(tiny_keypoints, keypoints_batch):
    keypoints_batch["gt_keypoints"][..., 2] = 0
    step = tiny_keypoints.step(keypoints_batch)
    assert step.losses["loss_keypoint"] == 0
    for leaf in jax.tree.leaves(step.gradients):
        assert np.isfinite(leaf).all()


def test_detections_have_keypoints_in_their_boxes(tiny_keypoints, batch):
    found, stages = tiny_keypoints.predict(batch["image"], batch["image_size"])
    assert found.masks is None
    assert found.keypoints.shape == (2, 10, 4, 3)
    assert stages["keypoint_logits"].shape == (2, 10, 4, 56, 56)
    valid = found.valid
    assert valid.any()
    points, boxes = found.keypoints[valid], found.boxes[valid]
    assert (points[..., :2] >= boxes[:, None, :2]).all()
    assert (points[..., :2] <= np.maximum(boxes[:, 2:], boxes[:, :2] + 1)[:, None]).all()
    assert (points[..., 2] > 0).all()
    assert not found.keypoints[~valid].any()


def test_the_plain_model_has_none(tiny_config, batch):
    model = make_model(tiny_config, 3)
    found, stages = jax.eval_shape(
        lambda variables: model.apply(
            variables, batch["image"], batch["image_size"], method="predict"
        ),
        abstract_variables(model),
    )
    assert found.keypoints is None
    assert not [name for name in stages if "keypoint" in name]


def test_weights_of_the_head_are_taken_whole(tiny_keypoints):
    given = jax.tree.map(lambda x: np.full(x.shape, 7, np.float32), tiny_keypoints.variables)
    new = jax.tree.map(np.zeros_like, given)
    check_fit(new, given, ("keypoint_head",), "the weights")
    names = ("a", "b", "c")
    result = merged(new, given, ("keypoint_head",), names, ("x", "y", "z"))
    assert all((leaf == 7).all() for leaf in jax.tree.leaves(result["params"]["keypoint_head"]))
    assert not any(leaf.any() for leaf in jax.tree.leaves(result["params"]["box_head"]))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"names": ("a", "a")}, r"keypoints\.names has 'a' twice"),
        ({"flip_pairs": (("nose", "tail"),)}, r"flip_pairs has 'tail', which is not in .*names"),
        ({"flip_pairs": (("nose", "left_eye"), ("nose", "left_ear"))}, r"has 'nose' twice"),
        ({"skeleton": (("nose", "tail"),)}, r"skeleton has 'tail', which is not in"),
        ({"sigmas": (0.1, 0.2)}, r"sigmas has 2 values and .*names 17; give one for each name"),
        ({"loss_normalizer": "all"}, r"loss_normalizer is 'all'; expected visible \| fixed"),
    ],
)
def test_what_makes_no_keypoints_is_refused(changes, message):
    model = ModelConfig()
    set_values(model.keypoints, PERSONS)
    model.validate()
    set_values(model.keypoints, changes)
    with pytest.raises(ValueError, match=message):
        model.validate()


def test_persons_are_mirrored_by_pairs():
    model = ModelConfig()
    assert model.keypoints.keypoint_set() is None
    set_values(model.keypoints, PERSONS)
    keypoints = model.keypoints.keypoint_set()
    assert len(keypoints.names) == len(keypoints.sigmas) == 17
    assert keypoints.mirrored == (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
    assert np.array(keypoints.mirrored)[list(keypoints.mirrored)].tolist() == list(range(17))
    assert keypoints.skeleton[0] == (15, 13)  # left ankle and knee


def test_a_fixed_normalizer_counts_what_could_be_there():
    model = ModelConfig()
    valid = jnp.zeros((3, 8, 4), bool).at[0, :2].set(True)
    images = jnp.array([True, True, False])
    assert _normalizer(model.keypoints, valid, images) == 8
    model.keypoints.loss_normalizer = "fixed"
    assert _normalizer(model.keypoints, valid, images) == 2 * 8 * 4
