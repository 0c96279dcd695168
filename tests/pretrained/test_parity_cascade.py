"""The cascade against what Detectron2's Cascade Mask R-CNN computed with the same weights.

The fixture is `cascade_d2.npz` of tests/parity/values, or of the folder given as --parity;
tests/parity/README.md describes the arrays. What comes before the proposals is compared in
`test_parity_detectron2.py`.
"""

import json
from functools import cached_property, partial

import jax
import numpy as np
import pytest

from maskrcnn_jax.config import get_config
from maskrcnn_jax.config_json import copied, set_values
from maskrcnn_jax.models.build import abstract_variables, make_model
from maskrcnn_jax.pretrained import sources
from maskrcnn_jax.pretrained.convert import load
from maskrcnn_jax.pretrained.tables.mapping import export_arrays, import_arrays
from tests.parity import weights
from tests.parity.reference import Reference
from tests.pretrained.narrow import write
from tests.pretrained.parity import KEYS

SUFFIXES = ("", "_2", "_3")  # of the stages of each head


@pytest.fixture(scope="module")
def case(parity_dir):
    with jax.default_matmul_precision("float32"):
        yield Case(Reference(parity_dir / "cascade_d2.npz"))


class Case:
    """The fixture, and what our detector computes for it, once."""

    def __init__(self, reference):
        self.z, self.meta = reference, reference.meta
        names = json.loads(str(reference["state.names_and_shapes"]))
        self.classes = self.meta["classes"]
        self.state = weights.detectron2_state(names, self.meta["seed"], self.classes)
        self.source = sources.recognised(self.state, "the fixture")
        config = get_config().model
        set_values(config, {**self.source.model, **self.source.settings})
        for name, value in self.meta["settings"].items():
            set_values(config, dict.fromkeys(KEYS[name], value))
        # Nothing is sampled away, as in the fixture.
        config.roi.samples_per_image = len(reference["train.stage_boxes.0"]) + 3
        config.roi.positive_fraction = 1.0
        self.config = config
        self.table = self.source.table(config)
        self.variables = import_arrays(
            self.state, self.table, abstract_variables(self.model), what="the fixture"
        ).variables

    @property
    def model(self):
        return make_model(self.config, self.classes)

    @cached_property
    def predicted(self):
        """Detections and stages of the only image, without the axis of the batch."""
        predict = jax.jit(partial(self.model.apply, method="predict"))
        image = self.z["image"][None]
        size = np.array([image.shape[1:3]], np.float32)
        return jax.tree.map(lambda x: x[0], jax.device_get(predict(self.variables, image, size)))

    @cached_property
    def order(self):
        """Which of our proposals is Detectron2's i-th."""
        stages = self.predicted[1]
        ours = stages["proposals"][stages["proposal_valid"]]
        return self.z.matching_order("eval.stage_boxes.0", ours)

    @cached_property
    def trained(self):
        """Losses, stages and gradients, under Detectron2's names, of the box heads' losses.

        The detector has no mask head here, as that of the fixture's step.
        """
        config = copied(self.config)
        config.masks = False
        model = make_model(config, self.classes)
        boxes, classes = self.z["gt_boxes"], self.z["gt_classes"]
        image = self.z["image"][None]
        batch = {
            "image": image,
            "image_size": np.array([image.shape[1:3]], np.float32),
            "gt_boxes": boxes[None],
            "gt_classes": classes[None].astype(np.int32),
            "gt_masks": np.zeros((1, len(boxes), 8, 8), np.uint8),
            "gt_crowd": np.zeros((1, len(boxes)), bool),
            "gt_valid": np.ones((1, len(boxes)), bool),
            "image_valid": np.ones(1, bool),
        }

        def total(params):
            variables = {**self.variables, "params": params}
            losses, stages = model.apply(variables, batch, jax.random.key(0), method="losses")
            keep = {name: stages[name][0] for name in stages if name.startswith("roi")}
            return sum(losses[name] for _, name in names_of_losses()), (losses, keep)

        params = {k: v for k, v in self.variables["params"].items() if k != "mask_head"}
        step = jax.jit(jax.value_and_grad(total, has_aux=True))
        (_, (losses, stages)), gradients = jax.device_get(step(params))
        tree = {"params": gradients, "batch_stats": self.variables["batch_stats"]}
        return losses, stages, export_arrays(tree, self.source.table(config))


def names_of_losses():
    """Detectron2's names and ours."""
    for k, suffix in enumerate(SUFFIXES):
        yield f"loss_cls_stage{k}", f"loss_classifier{suffix}"
        yield f"loss_box_reg_stage{k}", f"loss_box_reg{suffix}"


def test_weights_are_those_of_the_fixture(case):
    checksums = weights.checksums(case.state)
    np.testing.assert_allclose(checksums, case.z["state.checksums"], rtol=1e-5, atol=1e-5)


def test_import_and_export_are_inverse(case):
    assert case.source.name == "detectron2_cascade"
    exported = export_arrays(case.variables, case.table)
    assert exported.keys() == case.state.keys()
    for name, array in case.state.items():
        np.testing.assert_array_equal(exported[name], array, err_msg=name)


def test_a_file_is_read_with_its_own_widths(case, tmp_path):
    found = load(write(tmp_path / "cascade.safetensors", case.state))
    assert found.kind == "detectron2_cascade"
    assert found.model["cascade.ious"] == (0.6, 0.7)
    assert found.model["box_head.dense_channels"] == case.config.box_head.dense_channels
    assert found.settings["rpn.post_nms_top_n_train"] == 2000


def test_every_head(case):
    stages = case.predicted[1]
    for k, suffix in enumerate(SUFFIXES):
        for ours, theirs in (("proposals", "boxes"), ("box_deltas", "deltas")):
            found = stages[f"{ours}{suffix}"][case.order].reshape(len(case.order), 4)
            case.z.assert_close(found, f"eval.stage_{theirs}.{k}")
        logits = np.roll(stages[f"class_logits{suffix}"][case.order], -1, axis=1)
        case.z.assert_close(logits, f"eval.stage_logits.{k}")  # the background last, as theirs


def test_detections(case):
    found, stages = case.predicted
    valid = found.valid
    order = case.z.matching_order(
        "eval.boxes", found.boxes[valid], case.z["eval.classes"] + 1, found.classes[valid]
    )
    case.z.assert_close(found.scores[order], "eval.scores")
    case.z.assert_close(found.scores[: len(order)], "eval.scores")
    case.z.assert_close(stages["mask_logits"][order], "eval.mask_logits")


def test_rois_of_every_head(case):
    _, stages, _ = case.trained
    for k, suffix in enumerate(SUFFIXES):
        valid = stages[f"roi_valid{suffix}"]
        order = case.z.matching_order(f"train.stage_boxes.{k}", stages[f"rois{suffix}"][valid])
        theirs = case.z[f"train.stage_labels.{k}"]
        labels = np.where(theirs == case.classes, 0, theirs + 1)
        np.testing.assert_array_equal(stages[f"roi_labels{suffix}"][valid][order], labels)
        assert (labels > 0).any()


def test_losses(case):
    losses, _, _ = case.trained
    for theirs, ours in names_of_losses():
        key = f"train.{theirs}"
        np.testing.assert_allclose(
            losses[ours], case.z[key], rtol=0, atol=case.z.tolerance(key), err_msg=key
        )


def test_gradients(case):
    assert case.z.assert_gradients_close(case.trained[2], "train.") > 5
