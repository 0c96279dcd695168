"""PointRend's heads on a pyramid of noise: what they are trained on, what has no influence."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.models.build import abstract_variables, make_model
from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.models.point_rend.inference import subdivided_masks
from maskrcnn_jax.models.point_rend.losses import point_rend_losses, predicted_boxes
from maskrcnn_jax.models.targets import GroundTruth, RoIs
from maskrcnn_jax.pretrained.merge import check_fit, merged

CLASSES, CHANNELS = 3, 8
SMALL = {
    "enabled": True,
    "pool_size": 4,
    "coarse_size": 3,
    "dense_channels": 8,
    "point_channels": 8,
    "train_points": 12,
    "subdivisions": 2,
    "subdivision_points": 40,
}
BOXES = np.float32([[8, 6, 40, 38], [30, 20, 62, 50], [0, 0, 0, 0], [2, 40, 30, 52]])
LABELS = np.int32([1, 3, 0, 0])  # an empty slot and a RoI of the background


class Heads:
    """The heads alone, and their two programs."""

    def __init__(self):
        self.config = ModelConfig()
        set_values(self.config.point_rend, SMALL)
        self.config.fpn.channels = CHANNELS
        self.config.validate()
        self.model = make_model(self.config, CLASSES)
        self.shapes = abstract_variables(self.model)["params"]["mask_head"]
        rng = np.random.default_rng(0)
        self.params = jax.tree.map(
            lambda x: np.float32(rng.standard_normal(x.shape) / np.sqrt(x.shape[0])), self.shapes
        )
        self.p2 = np.float32(rng.standard_normal((1, 16, 20, CHANNELS)))
        self._step = jax.jit(jax.value_and_grad(self._total, argnums=(0, 1), has_aux=True))
        self._masks = jax.jit(partial(self._applied, subdivided_masks))

    def _applied(self, method, params, p2, *arguments):
        variables = {"params": {"mask_head": params}}
        return self.model.apply(variables, {"p2": p2}, *arguments, method=method)

    def _total(self, params, p2, *arguments):
        losses, stages = self._applied(point_rend_losses, params, p2, *arguments)
        return sum(losses.values()), (losses, stages)

    def step(self, rois, truth, deltas, key=0):
        given = jax.tree.map(lambda x: jnp.asarray(x)[None], (rois, truth, deltas))
        keys = jax.random.split(jax.random.key(key), 1)
        (_, aux), gradients = jax.device_get(self._step(self.params, self.p2, *given, keys))
        return *aux, gradients

    def masks(self, boxes, classes):
        return jax.device_get(self._masks(self.params, self.p2, boxes[None], classes[None]))


@pytest.fixture(scope="module")
def heads():
    return Heads()


@pytest.fixture
def scene():
    """RoIs, true objects, and the box head's answers."""
    rng = np.random.default_rng(1)
    rois = RoIs(
        BOXES.copy(),
        LABELS,
        np.int32([0, 1, 0, 0]),
        np.array([True, True, False, True]),
        np.zeros((4, 4), np.float32),
    )
    truth = GroundTruth(
        boxes=np.float32([[10, 8, 38, 40], [28, 22, 60, 52], [0, 0, 0, 0]]),
        classes=np.int32([1, 3, 0]),
        masks=np.uint8(255 * (rng.random((3, 8, 8)) > 0.4)),
        is_object=np.array([True, True, False]),
        is_crowd=np.zeros(3, bool),
        image_valid=np.array(True),
    )
    deltas = np.float32(rng.normal(0, 0.5, (4, CLASSES + 1, 4)))
    return rois, truth, deltas


def test_losses_are_the_means_over_the_positive_ones(heads, scene):
    losses, stages, gradients = heads.step(*scene)
    assert stages["mask_points"].shape == (1, 4, 12, 2)
    assert stages["mask_valid"][0].tolist() == [True, True, False, False]
    for name, logits, targets in (
        ("loss_mask", "mask_logits", "mask_targets"),
        ("loss_mask_point", "point_logits", "point_targets"),
    ):
        logits, targets = (np.float64(stages[key][0, :2]) for key in (logits, targets))
        probability = 1 / (1 + np.exp(-logits))
        entropy = targets * np.log(probability) + (1 - targets) * np.log(1 - probability)
        np.testing.assert_allclose(losses[name], -entropy.mean(), rtol=1e-4)
    for leaf in jax.tree.leaves(gradients):
        assert np.isfinite(leaf).all()
        assert leaf.any()


def test_other_keys_draw_other_points(heads, scene):
    points = [heads.step(*scene, key)[1]["mask_points"] for key in (0, 0, 1)]
    np.testing.assert_array_equal(points[0], points[1])
    assert np.abs(points[0] - points[2]).max() > 0.1


@pytest.mark.parametrize("poison", [np.nan, 1e30, -np.inf])
def test_slots_without_an_object_have_no_influence(heads, scene, poison):
    rois, truth, deltas = scene
    expected = heads.step(rois, truth, deltas)
    rois.boxes[2:] = poison
    deltas[2:] = poison
    truth.boxes[2] = poison
    losses, stages, gradients = heads.step(rois, truth, deltas)
    jax.tree.map(np.testing.assert_array_equal, (losses, gradients), (expected[0], expected[2]))
    np.testing.assert_array_equal(stages["mask_points"][0, :2], expected[1]["mask_points"][0, :2])


def test_without_an_object_all_is_zero(heads, scene):
    rois, truth, deltas = scene
    nothing = rois._replace(labels=np.zeros(4, np.int32))
    losses, _, gradients = heads.step(nothing, truth, deltas)
    assert losses == {"loss_mask": 0, "loss_mask_point": 0}
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradients))


def test_boxes_are_those_of_the_box_head_for_the_own_class(scene):
    """A delta of 1 over a weight of 10 moves the first, 32 pixels wide, by 3.2."""
    rois, _, _ = scene
    deltas = np.full((4, CLASSES + 1, 4), 9, np.float32)
    deltas[0, 1], deltas[1, 3] = [1, 0, 0, 0], [0, 0, 0, 5 * np.log(2)]
    rois, deltas = jax.tree.map(lambda x: jnp.asarray(x)[None], (rois, deltas))
    found = predicted_boxes(rois, deltas, ModelConfig())[0]
    np.testing.assert_allclose(found[0], [11.2, 6, 43.2, 38], atol=1e-4)
    np.testing.assert_allclose(found[1], [30, 5, 62, 65], atol=1e-4)


def test_masks_are_those_of_a_loop(heads):
    """Subdivision in NumPy, a point at a time."""
    boxes, classes = BOXES[[0, 1, 3]], np.int32([1, 3, 2])
    logits, stages = heads.masks(boxes, classes)
    assert logits.shape == (1, 3, 12, 12)
    coarse = stages["coarse_logits"][0]
    point = heads.params["point"]

    def sampled(grid, x, y):  # cells
        total = 0
        for row, column in np.ndindex(grid.shape[:2]):
            total = total + grid[row, column] * (
                max(0, 1 - abs(y - 0.5 - row)) * max(0, 1 - abs(x - 0.5 - column))
            )
        return total

    def predicted(n, x, y):
        x1, y1, x2, y2 = boxes[n]
        values = sampled(heads.p2[0], (x1 + x * (x2 - x1)) / 4, (y1 + y * (y2 - y1)) / 4)
        of_classes = sampled(coarse[n], 3 * x, 3 * y)
        for i in range(3):
            layer = point[f"layer_{i}"]
            values = np.append(values, of_classes) @ layer["kernel"] + layer["bias"]
            values = np.maximum(values, 0)
        last = point["point_logits"]
        answers = np.append(values, of_classes) @ last["kernel"] + last["bias"]
        return answers[classes[n] - 1]

    for n in range(3):
        mask = np.array(
            [[predicted(n, (i + 0.5) / 6, (j + 0.5) / 6) for i in range(6)] for j in range(6)]
        )
        np.testing.assert_allclose(stages["mask_logits_6"][0, n], mask, atol=1e-4)
        places = np.clip((np.arange(12) + 0.5) / 2 - 0.5, 0, 5)
        weight = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(6)))
        mask = weight @ mask @ weight.T
        for cell in np.argsort(np.abs(mask).ravel(), kind="stable")[:40]:
            row, column = divmod(int(cell), 12)
            mask[row, column] = predicted(n, (column + 0.5) / 12, (row + 0.5) / 12)
        np.testing.assert_allclose(logits[0, n], mask, atol=1e-4)


def test_the_detector_has_masks_of_that_size():
    """Traced, not compiled: of a whole detector, in both of its ways."""
    config = ModelConfig()
    set_values(config.backbone, {"depth": 18, "width": 8})
    config.point_rend.enabled = True
    model = make_model(config, CLASSES)
    variables = abstract_variables(model)
    image, size = np.zeros((2, 64, 96, 3), np.uint8), np.full((2, 2), 64, np.float32)
    predict = partial(model.apply, method="predict")
    found, stages = jax.eval_shape(predict, variables, image, size)
    assert found.masks.shape == (2, 100, 224, 224)
    sides = sorted(name for name in stages if name.startswith("mask_logits_"))
    assert sides == ["mask_logits_112", "mask_logits_224", "mask_logits_28", "mask_logits_56"]
    assert stages["mask_points_224"].shape == (2, 100, 784, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"masks": False}, r"config\.model\.masks = False there are boxes alone"),
        ({"mask_head.class_agnostic": True}, r"mask_head\.class_agnostic is True"),
        (
            {"box_head.class_agnostic": True, "cascade.ious": (0.6, 0.7)},
            r"train_on_predicted_boxes is True",
        ),
        ({"point_rend.pool_size": 7}, r"pool_size is 7; expected an even number"),
        ({"point_rend.subdivisions": 9}, r"make masks of 3584 x 3584; expected 1024"),
        ({"point_rend.importance": 1.5}, r"importance is 1\.5; expected within \[0, 1\]"),
        ({"point_rend.oversampling": 0.5}, r"oversampling is 0\.5; expected within \[1, 100\]"),
    ],
)
def test_what_makes_no_point_rend_is_refused(changes, message):
    config = ModelConfig()
    config.point_rend.enabled = True
    config.validate()
    set_values(config, changes)
    with pytest.raises(ValueError, match=message):
        config.validate()


def test_a_cascade_may_have_it_on_the_rois_themselves():
    config = ModelConfig()
    set_values(config, {"box_head.class_agnostic": True, "cascade.ious": (0.6, 0.7)})
    config.point_rend.enabled, config.point_rend.train_on_predicted_boxes = True, False
    config.validate()


def test_known_classes_are_kept_in_every_layer(heads):
    """Of classes a, b, c the weights know b alone, as the second of theirs."""
    variables = {"params": {"mask_head": heads.shapes}, "batch_stats": {}}
    two = abstract_variables(make_model(heads.config, 2))["params"]["mask_head"]
    given = {"params": {"mask_head": jax.tree.map(lambda x: np.full(x.shape, 7.0), two)}}
    for name, axis in (("layer_0", 0), ("point_logits", 0), ("point_logits", 1)):
        kernel = given["params"]["mask_head"]["point"][name]["kernel"]
        np.moveaxis(kernel, axis, 0)[-1] = 9  # the second class
    new = jax.tree.map(lambda x: np.zeros(x.shape), variables)
    given = given | {"batch_stats": {}}
    check_fit(new, given, ("mask_head",), "the weights")
    found = merged(new, given, ("mask_head",), ("a", "b", "c"), ("x", "b"))["params"]["mask_head"]
    kernel = found["point"]["layer_0"]["kernel"]
    assert kernel[:, 0].tolist() == [7] * CHANNELS + [0, 9, 0]
    kernel = found["point"]["point_logits"]["kernel"]
    assert kernel[:, 1].tolist() == [9] * 8 + [0, 9, 0]
    assert not kernel[:, [0, 2]].any()
    assert found["point"]["point_logits"]["bias"].tolist() == [0, 7, 0]
    assert found["coarse"]["coarse_logits"]["bias"][4].tolist() == [0, 7, 0]
    assert found["coarse"]["coarse_logits"]["kernel"][0, 0].tolist() == [0, 7, 0]
    assert (found["coarse"]["dense_1"]["kernel"] == 7).all()
