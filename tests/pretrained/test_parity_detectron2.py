"""The whole detector against what Detectron2 computed, stage by stage, with the same weights.

The fixture is `mrcnn_d2.npz` of tests/parity/values, or of the folder given as --parity;
tests/parity/README.md describes the arrays. It samples 2 x 2 points per bin in RoIAlign, as we do;
Detectron2's own adaptive sampling comes last.
"""

import json
from dataclasses import asdict
from functools import cached_property, partial
from typing import NamedTuple

import jax
import numpy as np
import pytest

from maskrcnn_jax.config import get_config
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.models.build import abstract_variables, make_model
from maskrcnn_jax.ops.anchors import cell_anchors, pyramid_anchors
from maskrcnn_jax.ops.boxes import iou
from maskrcnn_jax.pretrained import sources
from maskrcnn_jax.pretrained.tables.mapping import export_arrays, import_arrays
from tests.parity import weights
from tests.parity.reference import Reference
from tests.pretrained.parity import KEYS

LEVELS = ("p2", "p3", "p4", "p5", "p6")


@pytest.fixture(scope="module")
def case(parity_dir):
    with jax.default_matmul_precision("float32"):
        yield Case(Reference(parity_dir / "mrcnn_d2.npz"))


class Case:
    """The fixture, and what our detector computes for it, once."""

    def __init__(self, reference):
        self.z, self.meta = reference, reference.meta
        names = json.loads(str(reference["state.names_and_shapes"]))
        self.state = weights.detectron2_state(names, self.meta["seed"], self.meta["classes"])
        self.source = sources.recognised(self.state, path := "the fixture")
        num_classes = self.source.num_classes(self.state)
        config = get_config().model
        set_values(config, {**self.source.model, **self.source.settings})
        config.backbone.depth = self.source.layers(self.state)["backbone.depth"]
        for name, value in self.meta.get("settings", {}).items():
            set_values(config, dict.fromkeys(KEYS[name], value))
        self.config = config
        self.model = make_model(self.config, num_classes)
        self.table = self.source.table(self.config)
        self.variables = import_arrays(
            self.state, self.table, abstract_variables(self.model), what=path
        ).variables

    @cached_property
    def predicted(self):
        """Detections and stages of the only image, without the axis of the batch."""
        predict = jax.jit(partial(self.model.apply, method="predict"))
        image = self.z["image"][None]
        size = np.array([image.shape[1:3]], np.float32)
        return jax.tree.map(lambda x: x[0], jax.device_get(predict(self.variables, image, size)))

    @property
    def stages(self):
        return self.predicted[1]

    @cached_property
    def proposal_order(self):
        """Which of our proposals is Detectron2's i-th."""
        ours = self.stages["proposals"][self.stages["proposal_valid"]]
        return self.z.matching_order("eval.proposals", ours)

    @cached_property
    def detection_order(self):
        """Which of our detections is Detectron2's i-th; boxes of different classes never match."""
        found = self.predicted[0]
        valid = found.valid
        classes = self.z["eval.classes"] + 1
        return self.z.matching_order(
            "eval.boxes", found.boxes[valid], classes, found.classes[valid]
        )


def test_weights_are_those_of_the_fixture(case):
    checksums = weights.checksums(case.state)
    np.testing.assert_allclose(checksums, case.z["state.checksums"], rtol=1e-5, atol=1e-5)


def test_dialect_is_that_of_the_fixture(case):
    pixel = case.config.pixel
    assert pixel.order == case.meta["pixel_order"].lower()
    assert list(pixel.mean) == case.meta["pixel_mean"]
    assert list(pixel.std) == case.meta["pixel_std"]
    assert case.config.backbone.stride_in_1x1 == case.meta["stride_in_1x1"]
    assert case.config.roi.sampling_ratio == case.meta["sampling_ratio"]


def test_import_and_export_are_inverse(case):
    exported = export_arrays(case.variables, case.table)
    assert exported.keys() == case.state.keys()
    for name, array in case.state.items():
        np.testing.assert_array_equal(exported[name], array, err_msg=name)


def test_anchors(case):
    anchors = case.config.anchors
    cells = cell_anchors(anchors.sizes, anchors.aspect_ratios, anchors.rounded)
    np.testing.assert_allclose(cells, case.z["anchors.cell"], rtol=1e-6)
    shapes = [case.stages[level].shape[:2] for level in LEVELS]
    levels = pyramid_anchors(shapes, case.z["image"].shape[:2], **asdict(anchors))
    for (height, width), cell, level, stride in zip(
        shapes, case.z["anchors.cell"], levels, (4, 8, 16, 32, 64), strict=True
    ):
        last = cell + stride * np.array([width - 1, height - 1] * 2)
        np.testing.assert_allclose(level[-len(cell) :], last, rtol=1e-6)


@pytest.mark.parametrize("key", ["input", "res2", "res3", "res4", "res5", *LEVELS])
def test_features(case, key):
    ours = case.stages["image" if key == "input" else key.replace("res", "c")].transpose(2, 0, 1)
    channel, row, column = case.meta["strides"].get(key, (1, 8, 8))
    case.z.assert_close(ours[None, ::channel, ::row, ::column], f"eval.{key}")


def test_rpn_outputs(case):
    ends = np.cumsum([case.z[f"eval.rpn_logits.{level}"].size for level in LEVELS])[:-1]
    logits = np.split(case.stages["rpn_logits"], ends)
    deltas = np.split(case.stages["rpn_deltas"], ends)
    for level, our_logits, our_deltas in zip(LEVELS, logits, deltas, strict=True):
        grid = case.stages[level].shape[:2]
        for name, ours in (("rpn_logits", our_logits), ("rpn_deltas", our_deltas)):
            ours = ours.reshape(1, *grid, -1).transpose(0, 3, 1, 2)
            case.z.assert_close(ours, f"eval.{name}.{level}")


def test_proposals(case):
    key = "eval.proposal_logits"
    # A score moves by at most a quarter of what its logit moves by.
    tolerance = case.z.tolerance(key) / 4 + 1e-6
    reference = jax.nn.sigmoid(case.z[key])
    scores = case.stages["proposal_scores"][: len(reference)]
    np.testing.assert_allclose(scores[case.proposal_order], reference, atol=tolerance)
    np.testing.assert_allclose(scores, reference, atol=tolerance)  # best first, but for near ties


def test_box_head(case):
    order = case.proposal_order
    rows = order[: len(case.z["eval.box_features"])]
    features = case.stages["box_features"][rows].transpose(0, 3, 1, 2)[:, ::4]
    case.z.assert_close(features, "eval.box_features")
    ours = np.roll(case.stages["class_logits"][order], -1, axis=1)  # the background last, as theirs
    case.z.assert_close(ours, "eval.class_logits")
    deltas = case.stages["box_deltas"][order[: len(case.z["eval.box_deltas"])]]
    assert not deltas[:, 0].any()  # theirs has none for the background
    case.z.assert_close(deltas[:, 1:].reshape(len(deltas), -1), "eval.box_deltas")


def test_detections(case):
    order, scores = case.detection_order, case.predicted[0].scores
    assert (np.sort(order) == np.arange(len(order))).all()  # valid slots come first
    case.z.assert_close(scores[order], "eval.scores")
    case.z.assert_close(scores[: len(order)], "eval.scores")
    assert not scores[len(order) :].any()


def test_masks(case):
    key = "eval.mask_logits"
    case.z.assert_close(case.stages["mask_logits"][case.detection_order], key)
    masks = case.predicted[0].masks[case.detection_order]
    tolerance = case.z.tolerance(key) / 4 + 1e-6
    np.testing.assert_allclose(masks, jax.nn.sigmoid(case.z[key]), atol=tolerance)


def test_distance_to_adaptive_sampling(case):
    """What two samples per bin cost against as many as it has cells: what they cost Detectron2."""
    found, z = case.predicted[0], case.z
    theirs = distance_to_adaptive(z, z["eval.boxes"], z["eval.scores"], z["eval.classes"])
    order = case.detection_order
    ours = distance_to_adaptive(
        z, found.boxes[order], found.scores[order], found.classes[order] - 1
    )
    np.testing.assert_array_equal(ours.partner, theirs.partner)
    assert (theirs.partner >= 0).any()
    tolerance = z.tolerance("eval.boxes"), z.tolerance("eval.scores")
    np.testing.assert_allclose(ours.corners, theirs.corners, rtol=0, atol=tolerance[0])
    np.testing.assert_allclose(ours.scores, theirs.scores, rtol=0, atol=tolerance[1])


class Distance(NamedTuple):
    """Between detections and those of adaptive sampling, whose partners have an IoU above 0.5.

    partner: for each adaptive detection, the index of the other one, or -1.
    corners, scores: absolute differences of those that have one.
    """

    partner: np.ndarray
    corners: np.ndarray
    scores: np.ndarray


def distance_to_adaptive(z, boxes, scores, classes) -> Distance:
    overlap = np.array(iou(z["adaptive.boxes"], boxes))
    overlap[z["adaptive.classes"][:, None] != classes[None]] = 0
    partner = np.full(len(overlap), -1)
    for i in range(len(overlap)):  # best first, each of the others once
        j = overlap[i].argmax()
        if overlap[i, j] > 0.5:
            overlap[:, j] = 0
            partner[i] = j
    has = partner >= 0
    return Distance(
        partner,
        np.abs(z["adaptive.boxes"][has] - boxes[partner[has]]),
        np.abs(z["adaptive.scores"][has] - scores[partner[has]]),
    )
