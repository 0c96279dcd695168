"""The whole detector against what torchvision computed, stage by stage, with the same weights.

Every `mrcnn_v*.npz` of tests/parity/values, or of the folder given as --parity, is a case;
tests/parity/README.md describes the arrays and where the tolerances come from.
"""

import json
from dataclasses import asdict
from functools import cache, cached_property, partial
from pathlib import Path

import jax
import numpy as np
import pytest

from maskrcnn_jax.config import get_config
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.models.losses import mask_loss
from maskrcnn_jax.models.mask_rcnn import MaskRCNN
from maskrcnn_jax.models.trainable import trainable_mask
from maskrcnn_jax.ops.anchors import pyramid_anchors
from maskrcnn_jax.pretrained.tables import torchvision
from tests.parity import weights
from tests.parity.reference import Reference
from tests.pretrained.parity import KEYS

LEVELS = ("p2", "p3", "p4", "p5", "p6")
LOSSES = (
    "loss_objectness",
    "loss_rpn_box_reg",
    "loss_classifier",
    "loss_box_reg",
    "loss_mask",
    "loss_total",
)
MASK_SLOTS = 64  # RoIs of an image that the mask head is run on; more than there are positives


def pytest_generate_tests(metafunc):
    """A case for each file; and those of training for each `part` that the file has of that.

    A program for gradients takes ten seconds to compile. That with the stored statistics is slow
    where there is one with the batch's: then the other file has it.
    """
    if "case" not in metafunc.fixturenames:
        return
    paths = sorted(Path(metafunc.config.getoption("--parity")).glob("mrcnn_v*.npz"))
    if "part" not in metafunc.fixturenames:
        metafunc.parametrize("case", paths, indirect=True, ids=lambda path: path.stem)
        return
    cases = []
    for path in paths:
        stored = pytest.param(path, "train", id=f"{path.stem}-train")
        if "train_bn.loss_total" in np.load(path).files:
            cases.append(pytest.param(path, "train_bn", id=f"{path.stem}-train_bn"))
            stored = pytest.param(*stored.values, id=stored.id, marks=pytest.mark.slow)
        cases.append(stored)
    metafunc.parametrize(("case", "part"), cases, indirect=["case"])


@pytest.fixture(scope="module")
def case(request):
    with jax.default_matmul_precision("float32"):
        yield _case_of(request.param)


@cache  # for pytest the same path beside another `part` is another case
def _case_of(path):
    return Case(Reference(path))


class Case:
    """One fixture, and what our detector computes for it; both parts are computed once."""

    def __init__(self, reference):
        self.z, meta = reference, reference.meta
        self.meta, self.num_images = meta, len(meta["sizes"])
        names = json.loads(str(reference["state.names_and_shapes"]))
        self.state = weights.torchvision_state(names, meta["seed"])
        config = get_config().model
        config.masks = "gt_mask_bits.0" in reference
        set_values(config, torchvision.MODEL_OVERRIDES[meta["arch"]])
        config.pixel.mean = tuple(255 * x for x in meta["image_mean"])
        config.pixel.std = tuple(255 * x for x in meta["image_std"])
        for name, value in meta.get("settings", {}).items():
            set_values(config, dict.fromkeys(KEYS[name], value))
        # Nothing is sampled away, as in the fixture.
        num_rois = int(reference["train.roi_counts"][:, 0].max()) + 3
        config.rpn.samples_per_image = 2 * int(reference["anchors.level_counts"].sum())
        config.roi.samples_per_image = num_rois
        config.roi.positive_fraction = (MASK_SLOTS + 0.5) / num_rois
        self.config = config
        self.model = MaskRCNN(self.config, meta["num_classes"] - 1)
        self.variables = torchvision.import_state(self.state, self.config, self.model.num_classes)

    @cached_property
    def batch(self):
        """The images on their common canvas, with their targets in one slot more than needed."""
        height, width = self.z["eval.batch_shape"][2:]
        image = np.full((self.num_images, height, width, 3), 77, np.uint8)  # 77: must not be seen
        for i in range(self.num_images):
            h, w = self.z[f"image.{i}"].shape[:2]
            image[i, :h, :w] = self.z[f"image.{i}"]
        boxes = np.stack([self.z[f"gt_boxes.{i}"] for i in range(self.num_images)])
        classes = np.stack([self.z[f"gt_labels.{i}"] for i in range(self.num_images)])
        slots = boxes.shape[1] + 1
        valid = np.broadcast_to(np.arange(slots) < boxes.shape[1], (self.num_images, slots))
        return {
            "image": image,
            "image_size": self.z["eval.image_sizes"].astype(np.float32),
            "gt_boxes": np.pad(boxes, ((0, 0), (0, 1), (0, 0)), constant_values=np.nan),
            "gt_classes": np.pad(classes, ((0, 0), (0, 1))).astype(np.int32),
            # Not used: `mask_targets` cuts targets from the full masks.
            "gt_masks": np.zeros((self.num_images, slots, 8, 8), np.uint8),
            "gt_crowd": np.zeros((self.num_images, slots), bool),
            "gt_valid": valid,
            "image_valid": np.ones(self.num_images, bool),
        }

    @cached_property
    def predicted(self):
        predict = jax.jit(partial(self.model.apply, method="predict"))
        return jax.device_get(
            predict(self.variables, self.batch["image"], self.batch["image_size"])
        )

    @property
    def stages(self):
        return self.predicted[1]

    @cached_property
    def proposal_order(self):
        """For each image, which of our proposals is torchvision's i-th."""
        return [
            self.z.matching_order(
                f"eval.proposals.{i}",
                self.stages["proposals"][i][self.stages["proposal_valid"][i]],
            )
            for i in range(self.num_images)
        ]

    def _train(self, batch_statistics):
        """Losses, stages, gradients by torch name and norm statistics after a training step."""

        def total(params):
            (losses, stages), updated = self.model.apply(
                {**self.variables, "params": params},
                self.batch,
                jax.random.key(0),
                batch_statistics,
                method="losses",
                mutable=["batch_stats"],
            )
            if self.config.masks:
                # torchvision cuts its targets from full masks; ours are kept inside their boxes.
                logits, positive = stages["mask_logits"], stages["mask_valid"]
                targets = jax.pure_callback(
                    self.mask_targets,
                    jax.ShapeDtypeStruct(logits.shape, np.float32),
                    *jax.lax.stop_gradient((stages["rois"], stages["roi_matched"], positive)),
                )
                losses["loss_mask"] = mask_loss(logits, targets, positive)
                losses["loss_total"] = sum(losses[name] for name in LOSSES[:-1])
            keep = ("roi_labels", "roi_matched", "roi_valid", "rois")
            stages = {k: v for k, v in stages.items() if k in keep or k.endswith("_counts")}
            return losses["loss_total"], (losses, stages, updated)

        step = jax.jit(jax.value_and_grad(total, has_aux=True))
        (_, (losses, stages, updated)), gradients = jax.device_get(step(self.variables["params"]))
        updated = {"params": self.variables["params"], **updated}
        gradients = {"params": gradients, "batch_stats": self.variables["batch_stats"]}
        return {
            "losses": losses,
            "stages": stages,
            "gradients": torchvision.export_state(gradients, self.config),
            "after": torchvision.export_state(updated, self.config),
        }

    def mask_targets(self, rois, matched, positive):
        """The targets of the first P RoIs of each image, from the fixture's full masks."""
        targets = np.zeros((*positive.shape, 28, 28), np.float32)
        for i, slot in zip(*np.nonzero(np.asarray(positive)), strict=True):
            width = self.z[f"image.{i}"].shape[1]
            bits = self.z[f"gt_mask_bits.{i}"][np.asarray(matched)[i, slot]]
            mask = np.unpackbits(bits, axis=-1, count=width)
            targets[i, slot] = roi_align(mask, np.asarray(rois)[i, slot], 28)
        return targets

    @cached_property
    def train(self):
        return self._train(batch_statistics=False)

    @cached_property
    def train_bn(self):
        return self._train(batch_statistics=True)


def roi_align(mask, box, size):
    """torchvision's `roi_align(aligned=False)` of one mask with as many samples as pixels."""
    height, width = mask.shape
    x1, y1, x2, y2 = box.astype(np.float64)

    def axis(low, high, length):
        extent = max(high - low, 1.0)
        samples = int(np.ceil(extent / size))
        position = low + (np.arange(size * samples) + 0.5) * extent / (size * samples)
        inside = (position >= -1) & (position <= length)
        position = np.clip(position, 0, length - 1)
        weights = np.maximum(1 - np.abs(position[:, None] - np.arange(length)), 0) * inside[:, None]
        return weights.reshape(size, samples, length).mean(1)

    return axis(y1, y2, height) @ mask.astype(np.float64) @ axis(x1, x2, width).T


def test_weights_are_those_of_the_fixture(case):
    checksums = weights.checksums(case.state)
    np.testing.assert_allclose(checksums, case.z["state.checksums"], rtol=1e-5, atol=1e-5)


def test_import_and_export_are_inverse(case):
    exported = torchvision.export_state(case.variables, case.config)
    state = {k: v for k, v in case.state.items() if not k.endswith("num_batches_tracked")}
    assert exported.keys() == state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(exported[name], array, err_msg=name)


def test_anchors(case):
    shapes = [case.stages[level].shape[1:3] for level in LEVELS]
    anchors = pyramid_anchors(shapes, case.batch["image"].shape[1:3], **asdict(case.config.anchors))
    assert [len(level) for level in anchors] == case.z["anchors.level_counts"].tolist()
    sample = np.concatenate(anchors)[case.z["anchors.index"]]
    np.testing.assert_array_equal(sample, case.z["anchors.sample"])


def strided(case, key, ours):
    """The part of our [B, H, W, C] that the fixture has, as [B, C, H, W]."""
    channel, row, column = case.meta["strides"].get(key, (1, 1, 1))
    return ours[:, ::row, ::column, ::channel].transpose(0, 3, 1, 2)


@pytest.mark.parametrize("key", ["input", "c2", "c3", "c4", "c5", *LEVELS])
def test_features(case, key):
    ours = case.stages["image" if key == "input" else key]
    case.z.assert_close(strided(case, key, ours), f"eval.{key}")


def test_rpn_outputs(case):
    ends = np.cumsum(case.z["anchors.level_counts"])[:-1]
    logits = np.split(case.stages["rpn_logits"], ends, axis=1)
    deltas = np.split(case.stages["rpn_deltas"], ends, axis=1)
    for level, our_logits, our_deltas in zip(LEVELS, logits, deltas, strict=True):
        grid = case.stages[level].shape[:3]
        for name, ours in (("rpn_logits", our_logits), ("rpn_deltas", our_deltas)):
            key = f"{name}.{level}"
            case.z.assert_close(strided(case, key, ours.reshape(*grid, -1)), f"eval.{key}")


def test_proposals(case):
    for i, order in enumerate(case.proposal_order):
        key = f"eval.proposal_scores.{i}"
        scores = case.stages["proposal_scores"][i][: len(order)]
        case.z.assert_close(scores[order], key)
        case.z.assert_close(scores, key)  # best first, but for near ties


def test_box_head(case):
    stride = case.meta["box_feature_channel_stride"]
    rows = case.proposal_order[0][: len(case.z["eval.box_features"])]
    features = case.stages["box_features"][0][rows].transpose(0, 3, 1, 2)[:, ::stride]
    case.z.assert_close(features, "eval.box_features")
    for i, order in enumerate(case.proposal_order):
        case.z.assert_close(case.stages["class_logits"][i][order], f"eval.class_logits.{i}")
        key = f"eval.box_regression.{i}"
        rows = order[: len(case.z[key])]
        case.z.assert_close(case.stages["box_deltas"][i][rows].reshape(len(rows), -1), key)


def test_number_of_candidates(case):
    for i, order in enumerate(case.proposal_order):
        scores = jax.nn.softmax(case.stages["class_logits"][i][order])[:, 1:]
        assert (scores > 0.05).sum() == case.z[f"eval.n_candidates.{i}"]


def detection_order(case, i):
    """Which of our detections is torchvision's i-th; boxes of different labels never match."""
    detections = case.predicted[0]
    valid = detections.valid[i]
    return case.z.matching_order(
        f"eval.boxes.{i}",
        detections.boxes[i][valid],
        case.z[f"eval.labels.{i}"],
        detections.classes[i][valid],
    )


def test_detections(case):
    for i in range(case.num_images):
        order = detection_order(case, i)
        assert (np.sort(order) == np.arange(len(order))).all()  # valid slots come first
        scores = case.predicted[0].scores[i]
        case.z.assert_close(scores[order], f"eval.scores.{i}")
        case.z.assert_close(scores[: len(order)], f"eval.scores.{i}")
        assert not scores[len(order) :].any()


def test_masks(case):
    for i in range(case.num_images):
        order, key = detection_order(case, i), f"eval.mask_logits.{i}"
        case.z.assert_close(case.stages["mask_logits"][i][order], key)
        masks = case.predicted[0].masks[i][order]
        # A probability moves by at most a quarter of what its logit moves by.
        tolerance = case.z.tolerance(key) / 4 + 1e-6
        np.testing.assert_allclose(masks, jax.nn.sigmoid(case.z[key]), atol=tolerance)


def test_masks_of_all_classes(case):
    best = detection_order(case, 0)[0]
    classes = np.arange(case.meta["num_classes"])[None]
    features = case.stages["mask_features"][:1, [best] * classes.size]
    ours = case.model.apply(
        case.variables, features, classes, method=lambda model, *args: model.mask_head(*args)
    )
    case.z.assert_close(ours, "eval.mask_logits_all_classes")


def test_losses(case, part):
    ours = getattr(case, part)
    assert set(ours["losses"]) == {name for name in LOSSES if f"{part}.{name}" in case.z}
    for name in ours["losses"]:
        key = f"{part}.{name}"
        np.testing.assert_allclose(
            ours["losses"][name], case.z.exact(key), atol=case.z.tolerance(key), err_msg=key
        )


def test_counts_and_rois(case, part):
    ours = getattr(case, part)
    stages = ours["stages"]
    np.testing.assert_array_equal(stages["anchor_counts"], case.z[f"{part}.anchor_counts"])
    np.testing.assert_array_equal(stages["roi_counts"], case.z[f"{part}.roi_counts"])
    for i in range(case.num_images):
        valid = stages["roi_valid"][i]
        order = case.z.matching_order(f"{part}.rois.{i}", stages["rois"][i][valid])
        labels = stages["roi_labels"][i][valid][order]
        np.testing.assert_array_equal(labels, case.z[f"{part}.roi_labels.{i}"])
        # Ours is 0 where there is no object.
        reference = np.where(labels > 0, case.z[f"{part}.roi_matched.{i}"], 0)
        np.testing.assert_array_equal(stages["roi_matched"][i][valid][order], reference)


def test_gradient_norms(case, part):
    ours = getattr(case, part)
    key = f"{part}.gradient_norms"
    norms = np.array([np.linalg.norm(ours["gradients"][n]) for n in case.meta["gradient_names"]])
    error = np.abs(norms - case.z.exact(key))
    assert (error <= case.z.gradient_tolerance(key)).all(), part


def test_gradients(case, part):
    ours = getattr(case, part)
    keys = list(case.z.keys(f"{part}.gradient."))
    assert keys
    for key in keys:
        gradient = ours["gradients"][key.removeprefix(f"{part}.gradient.")]
        if gradient.shape != case.z[key].shape:  # a part of the weights of a convolution
            gradient = gradient[:8, ::8]
        tolerance = case.z.gradient_tolerance(key)
        np.testing.assert_allclose(gradient, case.z[key], rtol=0, atol=tolerance, err_msg=key)


def test_what_torchvision_trains_by_default_is_3_plus(case, part):
    params = case.variables["params"]
    mask = trainable_mask(params, case.config, "3+")
    mask = jax.tree.map(lambda array, is_trained: np.full(array.shape, is_trained), params, mask)
    trainable = torchvision.export_state(
        {"params": mask, "batch_stats": case.variables["batch_stats"]}, case.config
    )
    for name, gradient in getattr(case, part)["gradients"].items():
        if "running_" not in name:
            is_trained = name in case.meta["gradient_names"]
            assert trainable[name].all() == is_trained, name
            assert gradient.any() or not is_trained, name


def test_running_statistics(case, part):
    ours = getattr(case, part)
    if part == "train":
        for name, array in ours["after"].items():  # weights, too, are those that there were
            np.testing.assert_array_equal(array, case.state[name], err_msg=name)
    keys = list(case.z.keys(f"{part}.after."))
    assert bool(keys) == (part == "train_bn")
    for key in keys:
        case.z.assert_close(ours["after"][key.removeprefix(f"{part}.after.")], key)
