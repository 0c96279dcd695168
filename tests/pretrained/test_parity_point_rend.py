"""PointRend's heads against what Detectron2's PointRend computed with the same weights.

The fixture is `point_rend_d2.npz` of tests/parity/values, or of the folder given as --parity;
tests/parity/README.md describes the arrays. The heads are given its features and boxes: what comes
before is compared in `test_parity_detectron2.py`.
"""

import json
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.config import get_config
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.models.build import abstract_variables, make_model
from maskrcnn_jax.models.point_rend import sampling
from maskrcnn_jax.models.point_rend.inference import subdivided_masks
from maskrcnn_jax.models.point_rend.losses import point_rend_losses
from maskrcnn_jax.models.targets import GroundTruth, RoIs
from maskrcnn_jax.pretrained import sources
from maskrcnn_jax.pretrained.convert import load
from maskrcnn_jax.pretrained.tables.mapping import export_arrays, import_arrays
from tests.parity import weights
from tests.parity.reference import Reference
from tests.pretrained.narrow import write
from tests.pretrained.parity import KEYS


@pytest.fixture(scope="module")
def case(parity_dir):
    with jax.default_matmul_precision("float32"), pytest.MonkeyPatch.context() as patch:
        case = Case(Reference(parity_dir / "point_rend_d2.npz"))
        # The same random points for every RoI, as in the fixture.
        draws = {len(case.z[key]): case.z[key] for key in case.z.keys("draws.")}
        patch.setattr(
            sampling,
            "random_points",
            lambda key, number, count: jnp.broadcast_to(draws[count], (number, count, 2)),
        )
        yield case


class Case:
    """The fixture, and what our heads compute for it, once."""

    def __init__(self, reference):
        self.z, self.meta = reference, reference.meta
        names = json.loads(str(reference["state.names_and_shapes"]))
        self.state = weights.detectron2_state(names, self.meta["seed"], self.meta["classes"])
        self.source = sources.recognised(self.state, "the fixture")
        self.config = get_config().model
        set_values(self.config, {**self.source.model, **self.source.settings})
        for name, value in self.meta["settings"].items():
            set_values(self.config, dict.fromkeys(KEYS.get(name, ()), value))
        set_values(self.config.point_rend, self.meta["point_rend"])
        self.config.validate()
        self.model = make_model(self.config, self.meta["classes"])
        self.table = self.source.table(self.config)
        self.variables = import_arrays(
            self.state, self.table, abstract_variables(self.model), what="the fixture"
        ).variables
        self.p2 = np.moveaxis(reference["eval.p2"], 1, -1)

    @cached_property
    def predicted(self):
        """Logits and stages of the detections, without the axis of the batch."""

        def masks(params, p2, boxes, classes):
            return self.model.apply(
                {"params": params}, {"p2": p2}, boxes, classes, method=subdivided_masks
            )

        boxes, classes = self.z["eval.boxes"][None], self.z["eval.classes"][None] + 1
        found = jax.jit(masks)(self.variables["params"], self.p2, boxes, classes)
        return jax.tree.map(lambda x: x[0], jax.device_get(found))

    @cached_property
    def trained(self):
        """Losses, stages and gradients: by P2, and by the heads' weights under theirs names."""
        labels, true = self.z["train.labels"] + 1, self.z["train.true_boxes"]
        number = len(labels)
        rois = RoIs(
            boxes=self.z["train.rois"],
            labels=labels,
            matched=np.arange(number),
            valid=np.ones(number, bool),
            deltas=np.zeros((number, 4), np.float32),
        )
        deltas = self.z["train.deltas"].reshape(number, -1, 4)
        deltas = np.concatenate([np.full_like(deltas[:, :1], np.nan), deltas], axis=1)
        truth = GroundTruth(
            boxes=true,
            classes=labels,
            masks=np.full((number, 8, 8), 255, np.uint8),  # which fill their boxes
            is_object=np.ones(number, bool),
            is_crowd=np.zeros(number, bool),
            image_valid=np.array(True),
        )
        rois, truth, deltas = jax.tree.map(lambda x: jnp.asarray(x)[None], (rois, truth, deltas))

        def total(head, p2):
            losses, stages = self.model.apply(
                {"params": {"mask_head": head}}, {"p2": p2}, rois, truth, deltas,
                jax.random.split(jax.random.key(0), 1), method=point_rend_losses,
            )  # fmt: skip
            return sum(losses.values()), (losses, stages)

        step = jax.jit(jax.value_and_grad(total, argnums=(0, 1), has_aux=True))
        head = self.variables["params"]["mask_head"]
        (_, (losses, stages)), (by_head, by_p2) = jax.device_get(step(head, self.p2))
        table = [entry for entry in self.table if entry.path[1] == "mask_head"]
        gradients = export_arrays({"params": {"mask_head": by_head}}, table)
        gradients = {k.removeprefix("roi_heads.mask_head."): v for k, v in gradients.items()}
        gradients["p2"] = np.moveaxis(by_p2, -1, 1)[:, ::4]
        return losses, {name: value[0] for name, value in stages.items()}, gradients


def test_weights_are_those_of_the_fixture(case):
    checksums = weights.checksums(case.state)
    np.testing.assert_allclose(checksums, case.z["state.checksums"], rtol=1e-5, atol=1e-5)


def test_import_and_export_are_inverse(case):
    assert case.source.name == "detectron2_point_rend"
    exported = export_arrays(case.variables, case.table)
    assert exported.keys() == case.state.keys()
    for name, array in case.state.items():
        np.testing.assert_array_equal(exported[name], array, err_msg=name)


def test_a_file_is_read_with_its_own_widths(case, tmp_path):
    found = load(write(tmp_path / "point_rend.safetensors", case.state))
    assert found.kind == "detectron2_point_rend"
    assert found.model["point_rend.enabled"] is True
    assert "masks" not in found.settings
    for key in ("dense_channels", "point_channels"):
        assert found.model[f"point_rend.{key}"] == case.meta["point_rend"][key]


def test_coarse_masks(case):
    _, stages = case.predicted
    features = np.moveaxis(stages["mask_features"], -1, 1)
    case.z.assert_close(features[: len(case.z["eval.features"])], "eval.features")
    case.z.assert_close(np.moveaxis(stages["coarse_logits"], -1, 1), "eval.coarse_logits")


def test_every_subdivision(case):
    logits, stages = case.predicted
    case.z.assert_close(stages["mask_logits_14"], "eval.mask_logits.14")
    for size in (28, 56):
        column, row = np.moveaxis(np.floor(stages[f"mask_points_{size}"] * size), -1, 0)
        np.testing.assert_array_equal(
            np.sort(row * size + column, axis=1), case.z[f"eval.cells.{size}"]
        )
    case.z.assert_close(logits, "eval.mask_logits.56")
    np.testing.assert_array_equal(logits, stages["mask_logits"])


def test_training_points(case):
    _, stages, _ = case.trained
    points = stages["mask_points"]
    order = np.argsort(points[..., 0], axis=1)
    points = np.take_along_axis(points, order[..., None], axis=1)
    case.z.assert_close(points, "train.points")
    labels = np.take_along_axis(stages["point_targets"], order, axis=1)
    np.testing.assert_array_equal(labels, case.z["train.point_labels"])
    assert 0 < labels.mean() < 1


def test_losses(case):
    losses = case.trained[0]
    for name in ("loss_mask", "loss_mask_point"):
        key = f"train.{name}"
        tolerance = case.z.tolerance(key)
        np.testing.assert_allclose(losses[name], case.z[key], rtol=0, atol=tolerance, err_msg=key)


def test_gradients(case):
    assert case.z.assert_gradients_close(case.trained[2], "train.") > 5
