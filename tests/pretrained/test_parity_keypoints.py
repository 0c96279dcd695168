"""Keypoints against what torchvision's and Detectron2's Keypoint R-CNN computed with the same
weights.

The fixtures are `keypoints_*.npz` of tests/parity/values, or of the folder given as --parity;
tests/parity/README.md describes the arrays. What comes before the keypoints is compared in
`test_parity_torchvision.py` and `test_parity_detectron2.py`, and here in the slow test.
"""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.config import get_config
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.models.build import abstract_variables, make_model
from maskrcnn_jax.models.keypoints.head import KeypointHead
from maskrcnn_jax.models.keypoints.heatmaps import heatmap_targets, heatmaps_to_keypoints
from maskrcnn_jax.ops.losses import masked_mean, softmax_cross_entropy
from maskrcnn_jax.pretrained import sources
from maskrcnn_jax.pretrained.convert import checkpoint_config, load
from maskrcnn_jax.pretrained.tables.mapping import export_arrays, import_arrays
from tests.parity import scene, weights
from tests.parity.reference import Reference
from tests.pretrained.narrow import write
from tests.pretrained.parity import KEYS

ORIGINALS = ("torchvision", "detectron2")


@pytest.fixture(scope="module", params=ORIGINALS)
def case(request, parity_dir):
    with jax.default_matmul_precision("float32"):
        yield Case(request.param, Reference(parity_dir / f"keypoints_{request.param}.npz"))


class Case:
    """The fixture, the weights and the detector that they are for."""

    def __init__(self, original, reference):
        self.z, self.meta = reference, reference.meta
        names = json.loads(str(reference["state.names_and_shapes"]))
        self.classes, seed = self.meta["classes"], self.meta["seed"]
        if original == "torchvision":
            self.state = weights.torchvision_state(names, seed)
        else:
            self.state = weights.detectron2_state(names, seed, self.classes)
        self.source = sources.recognised(self.state, "the fixture")
        config = get_config().model
        set_values(config, {**self.source.model, **self.source.settings, "masks": False})
        for name, value in self.meta["settings"].items():
            for key in KEYS.get(name, ()):
                set_values(config, {key: value})
        points = range(self.meta["keypoints"])
        config.keypoints.names = tuple(f"keypoint_{i + 1}" for i in points)
        config.keypoints.channels = self.meta["settings"]["pyramid"]
        self.config, self.table = config, self.source.table(config)
        self.model = make_model(config, self.classes)
        self.variables = import_arrays(
            self.state, self.table, abstract_variables(self.model), what="it",
            ignored=self.source.ignored,
        ).variables  # fmt: skip

    def given(self, name):
        return jnp.asarray(self.z[f"head.{name}"])


def test_weights_are_those_of_the_fixture(case):
    checksums = weights.checksums(case.state)
    np.testing.assert_allclose(checksums, case.z["state.checksums"], rtol=1e-5, atol=1e-5)


def test_import_and_export_are_inverse(case):
    exported = export_arrays(case.variables, case.table)
    for name in exported:
        np.testing.assert_array_equal(exported[name], case.state[name], err_msg=name)
    assert {name for name in case.state if name not in exported} <= {
        name for name in case.state if name.endswith("num_batches_tracked")
    }


def test_a_file_is_read_with_its_keypoints(case, tmp_path):
    found = load(write(tmp_path / "keypoints.safetensors", case.state))
    assert found.kind == case.source.name
    assert found.model["keypoints.names"] == case.config.keypoints.names
    assert found.model["keypoints.channels"] == case.config.keypoints.channels
    assert found.model["keypoints.half_pixel"] == (found.kind == "detectron2_keypoints")
    assert found.settings["masks"] is False
    config = checkpoint_config(found)
    assert config["data"]["val"]["annotations"] == "annotations/person_keypoints_val2017.json"


def test_the_head_its_loss_and_their_gradients(case):
    settings = case.config.keypoints
    head = KeypointHead(len(settings.names), settings.convs, settings.channels)
    features = case.given("features").astype(jnp.float32).transpose(0, 2, 3, 1)[None]
    boxes, matched, points = (case.given(name) for name in ("boxes", "matched", "points"))

    def loss(params, features):
        logits = head.apply({"params": params}, features)
        cells, valid = heatmap_targets(points, boxes, matched, logits.shape[-1])
        entropy = softmax_cross_entropy(logits[0].reshape(*logits.shape[1:3], -1), cells)
        return masked_mean(entropy, valid), (logits[0], cells, valid)

    step = jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))
    params = case.variables["params"]["keypoint_head"]
    (value, (logits, cells, valid)), (gradients, of_features) = step(params, features)
    stride = case.meta["heatmap_stride"]
    case.z.assert_close(logits[..., ::stride, ::stride], "head.logits")
    np.testing.assert_array_equal(valid, case.z["head.valid"])
    np.testing.assert_array_equal(cells, case.z["head.cells"])
    assert 5 < valid.sum() < valid.size
    np.testing.assert_allclose(value, case.z["head.loss"], atol=case.z.tolerance("head.loss"))
    case.z.assert_close(jax.jit(heatmaps_to_keypoints)(logits, boxes), "head.keypoints")
    tree = {"params": {"keypoint_head": gradients}}
    of_head = [entry for entry in case.table if entry.path[1] == "keypoint_head"]
    named = export_arrays(tree, of_head)
    named["features"] = np.asarray(of_features)[0, :2].transpose(0, 3, 1, 2)
    keys = list(case.z.keys("head.gradient."))
    assert len(keys) == 4
    for key in keys:
        gradient = named[key.removeprefix("head.gradient.")]
        tolerance = case.z.gradient_tolerance(key)
        np.testing.assert_allclose(gradient, case.z[key], rtol=0, atol=tolerance, err_msg=key)
    norms = [np.linalg.norm(named[name]) for name in case.meta["gradient_names"]]
    tolerance = case.z.gradient_tolerance("head.gradient_norms")
    np.testing.assert_allclose(norms, case.z["head.gradient_norms"], rtol=0, atol=tolerance)


@pytest.mark.slow
def test_detections(case):
    size, seed = case.meta["size"], case.meta["seed"]
    padded = np.zeros((1, *(-(-side // 32) * 32 for side in size), 3), np.uint8)
    padded[0, : size[0], : size[1]] = scene.image(*size, 100 * seed)
    predict = jax.jit(partial(case.model.apply, method="predict"))
    arguments = case.variables, padded, np.float32([size])
    found, stages = jax.tree.map(lambda x: x[0], jax.device_get(predict(*arguments)))
    order = case.z.matching_order(
        "eval.boxes", found.boxes[found.valid], case.z["eval.classes"], found.classes[found.valid]
    )
    case.z.assert_close(found.scores[order], "eval.scores")
    stride = 2 * case.meta["heatmap_stride"]
    case.z.assert_close(stages["keypoint_logits"][order][..., ::stride, ::stride], "eval.logits")
    given = case.z["eval.keypoints"]
    case.z.assert_close(found.keypoints[order][..., : given.shape[-1]], "eval.keypoints")
