"""Backbones with other projects' weights give their feature maps and gradients (tests/parity)."""

from functools import cached_property
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.models.backbones.interface import make_backbone
from maskrcnn_jax.models.build import abstract_variables, make_model
from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.pretrained import sources
from maskrcnn_jax.pretrained.tables.mapping import export_arrays, flat, import_arrays
from tests.parity import weights
from tests.parity.reference import Reference

VALUES = Path(__file__).resolve().parents[2] / "parity" / "values"
KINDS = {
    "timm_convnext": "timm_convnext",
    "torchvision_resnext": "torchvision_resnet",
    "detectron2_resnext": "detectron2_resnet",
}


class Case:
    """A file of reference values, the weights as ours, and, when run, what comes of them."""

    def __init__(self, name: str):
        self.reference = Reference(VALUES / f"backbone_{name}.npz")
        meta = self.reference.meta
        self.state = weights.backbone_state(meta["names_and_shapes"], meta["seed"])
        self.source = sources.recognised(self.state, "the file")
        self.config = ModelConfig()
        layers = self.source.layers(self.state)
        set_values(self.config, {**self.source.model, **layers, "backbone.norm_eps": 1e-5})
        if self.config.backbone.kind == "convnext":
            # timm's maps, which have no norm behind them.
            self.config.backbone.convnext.norm_features = False
        else:
            self.config.backbone.width = 16
        self.config.validate()
        self.table = self.source.table(self.config)
        expected = abstract_variables(make_model(self.config, 3))
        ignored = self.source.ignored
        found = import_arrays(self.state, self.table, expected, what="it", ignored=ignored)
        self.variables = {name: tree["backbone"] for name, tree in found.variables.items() if tree}

    def _module_and_image(self):
        meta = self.reference.meta
        image = weights.noise_image(tuple(meta["image_shape"]), meta["seed"]).transpose(0, 2, 3, 1)
        norm = "bn" if self.config.backbone.kind == "resnet" else "frozen_bn"
        self.config.backbone.norm = norm  # with stored statistics, but a gradient
        return make_backbone(self.config.backbone, jnp.float32, False), image

    @cached_property
    def features(self):
        module, image = self._module_and_image()
        return jax.device_get(jax.jit(module.apply)(self.variables, image))

    @cached_property
    def gradient(self):
        module, image = self._module_and_image()

        def loss(params):
            features = module.apply({**self.variables, "params": params}, image)
            return sum(jnp.square(x).mean() / 2 for x in features.values())

        return jax.device_get(jax.jit(jax.grad(loss))(self.variables["params"]))


# Detectron2's ResNeXt is torchvision's computation; its names and dialect are below.
_SLOW = pytest.param("detectron2_resnext", marks=pytest.mark.slow)


@pytest.fixture(scope="module", params=["timm_convnext", "torchvision_resnext", _SLOW])
def case(request):
    found = Case(request.param)
    assert found.source.name == KINDS[request.param]
    return found


@pytest.mark.parametrize("name", ["c2", "c3", "c4", "c5"])
def test_feature_maps(case, name):
    case.reference.assert_close(case.features[name].transpose(0, 3, 1, 2), name)


# Compiling eighteen blocks of depthwise convolutions takes 15 s.
@pytest.mark.parametrize(
    "case",
    [pytest.param("timm_convnext", marks=pytest.mark.slow), "torchvision_resnext", _SLOW],
    indirect=True,
)
def test_gradients(case):
    statistics = jax.tree.map(np.zeros_like, case.variables.get("batch_stats", {}))
    tree = {"params": {"backbone": case.gradient}, "batch_stats": {"backbone": statistics}}
    ours = export_arrays(tree, case.table)
    assert case.reference.assert_gradients_close(ours) > 0


def test_weights_go_back_to_the_bit(case):
    exported = export_arrays({n: {"backbone": t} for n, t in case.variables.items()}, case.table)
    left = {name for name in case.state if name not in exported}
    assert all("num_batches_tracked" in name or name.startswith(("head.", "fc.")) for name in left)
    for name, array in exported.items():
        np.testing.assert_array_equal(array, case.state[name], err_msg=name)


def test_the_names_of_torchvisions_convnext_are_another_table_of_the_same_arrays():
    case = Case("timm_convnext")
    case.config.backbone.convnext.norm_features = True
    source = next(s for s in sources.SOURCES if s.name == "torchvision_convnext")
    table = source.table(case.config)
    expected = abstract_variables(make_model(case.config, 3))
    rng = np.random.default_rng(0)
    tree = jax.tree.map(lambda x: rng.standard_normal(x.shape, np.float32), expected["params"])
    state = export_arrays({"params": tree}, table)
    assert sources.recognised(state, "the file") is source
    assert source.layers(state) == {
        "backbone.convnext.blocks": (1, 1, 4, 1),
        "backbone.convnext.channels": (8, 16, 24, 32),
    }
    assert {
        "features.0.0.weight": (8, 3, 4, 4),
        "features.5.3.block.0.weight": (24, 1, 7, 7),
        "features.6.1.weight": (32, 24, 2, 2),
        "features.7.0.layer_scale": (32, 1, 1),
        "features.1.0.block.3.weight": (32, 8),
    }.items() <= {name: array.shape for name, array in state.items()}.items()
    classifier = {
        f"classifier.{i}.{kind}": np.zeros(3) for i in (0, 2) for kind in ("weight", "bias")
    }
    back = import_arrays(state | classifier, table, expected, what="it", ignored=source.ignored)
    assert back.left == list(classifier)
    ours = flat({"params": {"backbone": tree["backbone"]}})
    for path, array in flat(back.variables).items():
        if path[2].startswith("norm_c"):  # of a detector alone: the identity
            assert (array == (path[-1] == "scale")).all()
        else:
            np.testing.assert_array_equal(array, ours[path])


def test_a_resnexts_dialect_is_its_own():
    """Detectron2's ResNeXt-101: another deviation of the pixels, and the stride in the 3x3."""
    names = Reference(VALUES / "backbone_detectron2_resnext.npz").meta["names_and_shapes"]
    backbone = {name: np.broadcast_to(np.float32(0), shape) for name, shape in names}
    detector = {f"backbone.bottom_up.{name}": array for name, array in backbone.items()}
    source = next(s for s in sources.SOURCES if s.name == "detectron2")
    assert source.layers(detector) == {
        "backbone.depth": 50,
        "backbone.groups": 4,
        "backbone.width_per_group": 16,
        "backbone.stride_in_1x1": False,
        "pixel.std": (57.375, 57.12, 58.395),
    }
    scaled = {"pixel_std": np.array([57.375, 57.12, 58.395])}
    source.todays_names(detector | scaled)
    with pytest.raises(ValueError, match=r"trained with pixel_std \[57.*not \[1.0, 1.0, 1.0\]"):
        source.todays_names(scaled)
    with pytest.raises(ValueError, match=r"pixel_std \[1.0, 1.0, 1.0\], not \[57"):
        source.todays_names(detector | {"pixel_std": np.ones(3)})
