"""torchvision itself takes what is exported for it, strictly, and computes the same."""

from functools import partial

import jax
import numpy as np
import pytest

from maskrcnn_jax.models.build import make_model
from maskrcnn_jax.pretrained import export
from maskrcnn_jax.pretrained.tables import torchvision
from tests.end_to_end import tiny
from tests.parity import weights
from tests.pretrained.narrow import random_variables
from tests.pretrained.test_export import CHANGED, OWN, builder, configured, own_config

pytest.importorskip("torchvision", reason="not installed: pip install torchvision")
torch = pytest.importorskip("torch")


def test_torchvision_takes_them():
    """Strictly, and with the settings, where it is installed."""
    for generation in ("v1", "v2"):
        assert_torchvision_takes(generation)


def assert_torchvision_takes(generation):
    config = configured(generation, **CHANGED)
    if generation == "v1":
        config.model.backbone.norm_eps, config.model.mask_head.norm = 0.0, "none"
    names = {}
    exec(builder(config, 2), names)
    model = names["model"]
    state = export.torchvision_state(random_variables(config.model, 2), config.model)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    np.testing.assert_array_equal(
        model.roi_heads.box_predictor.cls_score.bias.detach().numpy(),
        state["roi_heads.box_predictor.cls_score.bias"],
    )
    assert model.backbone.body.bn1.eps == {"v1": 0.0, "v2": 1e-5}[generation]
    if generation == "v2":
        assert model.roi_heads.box_head[0][1].eps == 1e-3
        assert model.roi_heads.mask_head[0][1].eps == 1e-5
    assert model.transform.min_size == (640,)
    np.testing.assert_allclose(model.transform.image_mean, [0.2, 0.4, 0.6])
    assert model.rpn.anchor_generator.sizes == ((8.0,), (16.0,), (32.0,), (64.0,), (128.0,))
    assert model.rpn._post_nms_top_n["testing"] == 300
    assert model.roi_heads.score_thresh == 0.2
    assert model.roi_heads.box_roi_pool.canonical_scale == 112
    assert model.roi_heads.mask_roi_pool.output_size == (14, 14)


@pytest.mark.parametrize("generation", ["v1", "v2"])
def test_torchvision_takes_boxes_alone(generation):
    config, names = configured(generation, model__masks=False), {}
    exec(builder(config, 2), names)
    state = export.torchvision_state(random_variables(config.model, 2), config.model)
    names["model"].load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    assert names["model"].roi_heads.mask_predictor is None


@pytest.mark.parametrize("channels", [512, 24])
def test_torchvision_takes_keypoints(channels):
    changes = dict(model__masks=False, model__keypoints__names=("a", "b", "c"))
    changes |= dict(model__keypoints__channels=channels, model__roi__sampling_ratio=3)
    config, names = configured("v1", **changes), {}
    exec(builder(config, 2), names)
    state = export.torchvision_state(random_variables(config.model, 2), config.model)
    names["model"].load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    assert names["model"].roi_heads.has_keypoint()
    assert names["model"].roi_heads.keypoint_roi_pool.sampling_ratio == 3


@pytest.mark.parametrize("name", OWN)
def test_torchvision_takes_layers_of_our_own(name):
    config, names = own_config(name), {}
    exec(builder(config, 2), names)
    state = export.torchvision_state(random_variables(config.model, 2), config.model)
    names["model"].load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    assert (
        names["model"].roi_heads.box_roi_pool.output_size == (config.model.box_head.pool_size,) * 2
    )


def weights_that_detect(config):
    """Random weights under torchvision's names, scaled so that scores and boxes are spread."""
    shapes = torchvision.export_state(random_variables(config.model, 3), config.model)
    state = weights.torchvision_state([(n, a.shape) for n, a in shapes.items()], seed=1)
    return torchvision.import_state(state, config.model, 3)


def test_torchvision_detects_the_same_with_them():
    """A ResNet-18 of width 8 with group norm, the smallest run's model: all of its detections."""
    config, names = tiny.get_config(), {}
    exec(builder(config, 3), names)
    variables = weights_that_detect(config)
    state = export.torchvision_state(variables, config.model)
    names["model"].load_state_dict({name: torch.from_numpy(a) for name, a in state.items()})
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    with torch.inference_mode():
        pixels = torch.from_numpy(image).permute(2, 0, 1) / 255
        theirs = names["model"].eval()([pixels])[0]
    predict = jax.jit(partial(make_model(config.model, 3).apply, method="predict"))
    ours, _ = predict(variables, image[None], np.float32([[64, 64]]))
    found = int(ours.valid.sum())
    assert found == len(theirs["boxes"]) > 2
    np.testing.assert_allclose(ours.boxes[0, :found], theirs["boxes"], atol=1e-3)
    np.testing.assert_allclose(ours.scores[0, :found], theirs["scores"], atol=1e-5)
    np.testing.assert_array_equal(ours.classes[0, :found], theirs["labels"])
