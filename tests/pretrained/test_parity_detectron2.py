"""The whole detector against what Detectron2 computed, stage by stage, with the same weights.

The fixture is `mrcnn_d2.npz` of the folder given as --parity; its README describes the arrays. It
samples 2 x 2 points per bin in RoIAlign, as we do; Detectron2's own adaptive sampling comes last.
"""

import json
from functools import cached_property, partial

import jax
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

from maskrcnn_jax.config import get_config
from maskrcnn_jax.models.build import abstract_variables, make_model
from maskrcnn_jax.ops.anchors import cell_anchors, pyramid_anchors
from maskrcnn_jax.ops.boxes import iou
from maskrcnn_jax.pretrained import sources
from maskrcnn_jax.pretrained.tables.mapping import export_arrays, import_arrays
from tests.pretrained.parity import load_module, matching_order

LEVELS = ("p2", "p3", "p4", "p5", "p6")


@pytest.fixture(scope="module")
def case(parity_dir):
    path = parity_dir / "mrcnn_d2.npz"
    if not path.is_file():
        pytest.skip(f"{path} not found; it holds what Detectron2 computed")
    with jax.default_matmul_precision("float32"):
        yield Case(parity_dir, np.load(path))


class Case:
    """The fixture, and what our detector computes for it, once."""

    def __init__(self, folder, arrays):
        self.z, self.meta = arrays, json.loads(str(arrays["meta"]))
        names = json.loads(str(arrays["state.names_and_shapes"]))
        weights = load_module(folder / "detectron2_weights.py")
        self.state = weights.detectron2_state(names, self.meta["seed"], self.meta["classes"])
        checksums = load_module(folder / "deterministic_weights.py").state_checksums
        self.checksums = checksums(self.state)
        self.source = sources.recognised(self.state, path := "the fixture")
        num_classes = self.source.num_classes(self.state)
        config = get_config().model
        config.update_from_flattened_dict({**self.source.model, **self.source.settings})
        config.backbone.depth = self.source.depth(self.state)
        self.config = FrozenConfigDict(config)
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
        return matching_order(self.z["eval.proposals"], ours, tolerance=0.01)

    @cached_property
    def detection_order(self):
        """Which of our detections is Detectron2's i-th; boxes of different classes never match."""
        detections = self.predicted[0]
        ours = np.column_stack([detections.boxes, 1e4 * detections.classes])[detections.valid]
        theirs = np.column_stack([self.z["eval.boxes"], 1e4 * (self.z["eval.classes"] + 1)])
        return matching_order(theirs, ours, tolerance=0.01)


def test_weights_are_those_of_the_fixture(case):
    np.testing.assert_allclose(case.checksums, case.z["state.checksums"], rtol=1e-5, atol=1e-5)


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
    levels = pyramid_anchors(shapes, case.z["image"].shape[:2], **anchors)
    for (height, width), cell, level, stride in zip(
        shapes, case.z["anchors.cell"], levels, (4, 8, 16, 32, 64), strict=True
    ):
        last = cell + stride * np.array([width - 1, height - 1] * 2)
        np.testing.assert_allclose(level[-len(cell) :], last, rtol=1e-6)


@pytest.mark.parametrize("key", ["input", "res2", "res3", "res4", "res5", *LEVELS])
def test_features(case, key):
    ours = case.stages["image" if key == "input" else key.replace("res", "c")].transpose(2, 0, 1)
    channel, row, column = case.meta["strides"].get(key, (1, 8, 8))
    ours = ours[None, ::channel, ::row, ::column]
    np.testing.assert_allclose(ours, case.z[f"eval.{key}"], atol=5e-5)


def test_rpn_outputs(case):
    ends = np.cumsum([case.z[f"eval.rpn_logits.{level}"].size for level in LEVELS])[:-1]
    logits = np.split(case.stages["rpn_logits"], ends)
    deltas = np.split(case.stages["rpn_deltas"], ends)
    for level, our_logits, our_deltas in zip(LEVELS, logits, deltas, strict=True):
        reference = case.z[f"eval.rpn_logits.{level}"].transpose(0, 2, 3, 1)
        np.testing.assert_allclose(our_logits, reference.reshape(our_logits.shape), atol=1e-4)
        reference = case.z[f"eval.rpn_deltas.{level}"].transpose(0, 2, 3, 1)
        np.testing.assert_allclose(our_deltas, reference.reshape(our_deltas.shape), atol=1e-5)


def test_proposals(case):
    reference = jax.nn.sigmoid(case.z["eval.proposal_logits"])
    scores = case.stages["proposal_scores"][: len(reference)]
    np.testing.assert_allclose(scores[case.proposal_order], reference, atol=1e-5)
    np.testing.assert_allclose(scores, reference, atol=1e-5)  # best first, but for near ties


def test_box_head(case):
    order = case.proposal_order
    reference = case.z["eval.box_features"]
    features = case.stages["box_features"][order[: len(reference)]].transpose(0, 3, 1, 2)[:, ::4]
    np.testing.assert_allclose(features, reference, atol=5e-4)
    reference = np.roll(case.z["eval.class_logits"], 1, axis=1)  # theirs has the background last
    np.testing.assert_allclose(case.stages["class_logits"][order], reference, atol=5e-3)
    reference = case.z["eval.box_deltas"]
    deltas = case.stages["box_deltas"][order[: len(reference)]]
    assert not deltas[:, 0].any()  # theirs has none for the background
    np.testing.assert_allclose(deltas[:, 1:].reshape(reference.shape), reference, atol=2e-3)


def test_detections(case):
    order, reference = case.detection_order, case.z["eval.scores"]
    assert (np.sort(order) == np.arange(len(order))).all()  # valid slots come first
    scores = case.predicted[0].scores
    np.testing.assert_allclose(scores[order], reference, atol=1e-4)
    np.testing.assert_allclose(scores[: len(order)], reference, atol=1e-4)
    assert not scores[len(order) :].any()


def test_masks(case):
    logits, reference = case.stages["mask_logits"][case.detection_order], case.z["eval.mask_logits"]
    np.testing.assert_allclose(logits, reference, atol=5e-3)
    masks = case.predicted[0].masks[case.detection_order]
    np.testing.assert_allclose(masks, jax.nn.sigmoid(reference), atol=1e-3)


def test_distance_to_adaptive_sampling(case):
    """What two samples per bin and axis cost, against as many as a bin has cells (-rP shows it)."""
    detections, z = case.predicted[0], case.z
    overlap = np.array(iou(z["adaptive.boxes"], detections.boxes))
    same_class = (z["adaptive.classes"] + 1)[:, None] == detections.classes[None]
    overlap = np.where(same_class & detections.valid, overlap, 0)
    theirs, ours = [], []
    for i in range(len(overlap)):  # best first, each of ours once
        j = overlap[i].argmax()
        if overlap[i, j] > 0.5:
            overlap[:, j] = 0
            theirs.append(i)
            ours.append(j)
    corners = np.abs(z["adaptive.boxes"][theirs] - detections.boxes[ours])
    scores = np.abs(z["adaptive.scores"][theirs] - detections.scores[ours])
    print(f"matched {len(ours)} of {len(overlap)} detections (IoU > 0.5, same class)")
    print(f"corners differ by {corners.mean():.3f} pixels, at most {corners.max():.3f}")
    print(f"scores differ by {scores.mean():.4f}, at most {scores.max():.4f}")
    assert len(ours) >= 0.9 * len(overlap)
    assert corners.mean() < 0.5
    assert scores.mean() < 0.03
