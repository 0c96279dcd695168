"""ViTDet with Detectron2's weights gives its pyramid, heads and gradients (tests/parity)."""

import pickle
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.models.backbones.interface import make_backbone, pyramid_class
from maskrcnn_jax.models.box_head import BoxHead
from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.models.mask_head import MaskHead
from maskrcnn_jax.models.rpn import RPNHead
from maskrcnn_jax.pretrained import convert
from maskrcnn_jax.pretrained.tables import detectron2
from maskrcnn_jax.pretrained.tables.mapping import export_arrays
from tests.parity import weights
from tests.parity.reference import Reference

FILE = Path(__file__).resolve().parents[2] / "parity" / "values" / "vitdet_d2.npz"
LEVELS = ("p2", "p3", "p4", "p5", "p6")


class Case:
    """The reference values, the weights as ours, and what comes of them."""

    def __init__(self, path):
        self.reference = Reference(FILE)
        meta = self.reference.meta
        self.state = weights.detectron2_state(
            meta["names_and_shapes"], meta["seed"], meta["classes"]
        )
        path.write_bytes(pickle.dumps({"model": self.state, "__author__": "Detectron2 Model Zoo"}))
        self.weights = convert.load(path)
        self.config = ModelConfig()
        set_values(self.config, self.weights.model | self.weights.settings)
        self.table = detectron2.table(self.config)
        self.params = self.weights.variables["params"]

    def noise(self, shape, number):
        """An image or features, with channels last."""
        seed = self.reference.meta["seed"] + number
        return np.moveaxis(weights.noise_image(tuple(shape), seed), 1, -1)

    def run(self):
        config, meta = self.config, self.reference.meta
        backbone = make_backbone(config.backbone, jnp.float32, False)
        section = config.fpn
        pyramid = pyramid_class(config.backbone)(section.channels, section.norm, section.norm_eps)
        rpn = RPNHead(section.channels, convs=config.rpn.convs)
        box = BoxHead(
            meta["classes"],
            convs=4,
            conv_channels=config.box_head.conv_channels,
            dense_channels=config.box_head.dense_channels,
            norm="ln",
            norm_eps=config.box_head.norm_eps,
        )
        mask = MaskHead(meta["classes"], 4, config.mask_head.channels, "ln", 1e-6)

        def loss(params, image):
            c4, captured = backbone.apply(
                {"params": params["backbone"]},
                image,
                capture_intermediates=lambda module, _: module.name in ("block_0", "block_1"),
            )
            blocks = {name: x["__call__"][0] for name, x in captured["intermediates"].items()}
            levels = pyramid.apply({"params": params["fpn"]}, c4)
            half = sum(jnp.square(x).mean() / 2 for x in levels.values())
            return half, (c4 | blocks | levels)

        def heads(params, levels, boxes, masks):
            # The mask head predicts one class of a RoI.
            classes = jnp.arange(1, meta["classes"] + 1)[:, None].repeat(masks.shape[1], 1)
            masks = jnp.broadcast_to(masks, (meta["classes"], *masks.shape[1:]))
            return (
                rpn.apply({"params": params["rpn"]}, levels),
                box.apply({"params": params["box_head"]}, boxes),
                mask.apply({"params": params["mask_head"]}, masks, classes),
            )

        def run(params, image, boxes, masks):
            of_features = {name: params[name] for name in ("backbone", "fpn")}
            (_, found), gradient = jax.value_and_grad(loss, has_aux=True)(of_features, image)
            levels = {level: found[level] for level in LEVELS}
            return found, gradient, heads(params, levels, boxes, masks)

        boxes, masks = self.noise(meta["box_shape"], 1)[None], self.noise(meta["mask_shape"], 2)
        self.features, self.gradient, self.heads = jax.device_get(
            jax.jit(run)(self.params, self.noise(meta["image_shape"], 0), boxes, masks[None])
        )


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    found = Case(tmp_path_factory.mktemp("vitdet") / "model_final.pkl")
    found.run()
    return found


def test_the_layers_are_read_from_the_weights(case):
    assert case.weights.kind == "detectron2_vitdet"
    assert len(case.weights.class_names) == case.reference.meta["classes"]
    assert case.weights.data["buckets"] == ((1024, 1024),)
    vit = case.config.backbone.vit
    assert (vit.depth, vit.channels, vit.heads, vit.window) == (4, 32, 2, 3)
    assert (vit.global_blocks, vit.position_grid, vit.relative_grid) == ((1, 3), 3, 4)
    assert (case.config.fpn.channels, case.config.mask_head.channels) == (16, 8)
    assert (case.config.rpn.convs, case.config.box_head.convs) == (2, 4)


@pytest.mark.parametrize("name", ["block_0", "block_1", "c4", *LEVELS])
def test_features(case, name):
    """Blocks with windows that are filled up, and without; then all levels."""
    x = case.features[name].transpose(0, 3, 1, 2)
    channels = {"block_0": 4, "block_1": 4, "c4": 2}.get(name, 1)
    stride = case.reference.meta["strides"].get(name, 1)
    case.reference.assert_close(x[:, ::channels, ::stride, ::stride], name)


def test_heads(case):
    (logits, deltas), (class_logits, box_deltas), mask_logits = case.heads
    meta = case.reference.meta

    def as_map(flat, height, width, channels):
        return flat.reshape(1, height, width, channels).transpose(0, 3, 1, 2)

    case.reference.assert_close(as_map(logits[2], 6, 8, 3), "rpn_logits.p4")
    case.reference.assert_close(as_map(deltas[3], 3, 4, 12), "rpn_deltas.p5")
    # Its background is the last class, which has no box.
    case.reference.assert_close(np.roll(class_logits[0], -1, axis=-1), "class_logits")
    rois = meta["box_shape"][0]
    case.reference.assert_close(box_deltas[0, :, 1:].reshape(rois, -1), "box_deltas")
    case.reference.assert_close(mask_logits.swapaxes(0, 1), "mask_logits")


def test_gradients(case):
    tree = case.params | case.gradient
    ours = export_arrays({"params": tree, "batch_stats": {}}, case.table)
    assert case.reference.assert_gradients_close(ours) > 0


def test_weights_go_back_to_the_bit(case):
    exported = export_arrays({"params": case.params}, case.table)
    assert exported.keys() == case.state.keys()
    for name, array in exported.items():
        expected = case.state[name].copy()
        if name.endswith("pos_embed"):
            expected[:, 0] = 0  # of the class token, which nobody reads
        np.testing.assert_array_equal(array, expected, err_msg=name)
