"""What the detector asks of every kind of backbone, and what it refuses."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.models.backbones.config import KINDS, BackboneConfig
from maskrcnn_jax.models.backbones.interface import (
    FEATURES,
    backbone_stages,
    make_backbone,
    pyramid_class,
)
from maskrcnn_jax.models.backbones.names import backbone_name
from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.models.fpn import STRIDES
from maskrcnn_jax.models.mask_rcnn import MaskRCNN
from maskrcnn_jax.models.trainable import trainable_mask


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_what_its_pyramid_takes_and_names_its_layers(kind):
    config = BackboneConfig(kind=kind)
    config.validate()
    assert backbone_name(config)
    module = make_backbone(config, jnp.bfloat16, remat=True)
    image = jax.ShapeDtypeStruct((1, 64, 96, 3), jnp.float32)
    features, variables = jax.eval_shape(module.init_with_output, jax.random.key(0), image)
    assert tuple(features) == (("c4",) if kind == "vit" else FEATURES)
    for name, feature in features.items():
        stride = 2 ** int(name[1])
        assert feature.shape[:3] == (1, 64 // stride, 96 // stride)
        assert feature.dtype == jnp.bfloat16
    pyramid = pyramid_class(config)(16, dtype=jnp.bfloat16)
    levels, _ = jax.eval_shape(pyramid.init_with_output, jax.random.key(0), features)
    assert [x.shape for x in levels.values()] == [
        (1, -(-64 // stride), -(-96 // stride), 16) for stride in STRIDES.values()
    ]
    stages = backbone_stages(config)
    assert list(stages) == ["stem", *FEATURES]
    names = {name for stage in stages.values() for layer in stage for name in layer}
    assert set(variables["params"]) <= names


@pytest.mark.parametrize(
    ("layers", "first"), [("all", "stem"), ("3+", "downsample_c3"), ("5+", "downsample_c5")]
)
def test_stages_of_a_convnext_are_frozen_by_their_words(layers, first):
    model = ModelConfig()
    model.backbone.kind = "convnext"
    module = make_backbone(model.backbone, jnp.float32, remat=False)
    image = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    params = jax.eval_shape(module.init, jax.random.key(0), image)["params"]
    mask = trainable_mask({"backbone": params}, model, layers)["backbone"]
    order = [
        n for stage in backbone_stages(model.backbone).values() for part in stage for n in part
    ]
    order = [name for name in order if name in params]
    trained = [all(jax.tree.leaves(mask[name])) for name in order]
    assert trained == [i >= order.index(first) for i in range(len(order))]
    assert sum(jax.tree.leaves(mask)) == len(
        jax.tree.leaves([params[name] for name in order[order.index(first) :]])
    )


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        (
            {"kind": "convnext", "depth": 101},
            r"backbone.depth is 101, which is for the kind 'resnet', and .*kind is 'convnext'; "
            r"leave it at 50",
        ),
        (
            {"convnext.stochastic_depth": 0.5},
            r"backbone.convnext.stochastic_depth is 0.5, which is for the kind 'convnext'",
        ),
        (
            {"depth": 34, "groups": 32},
            r"backbone.groups is 32, which needs the bottlenecks of 50 layers",
        ),
        ({"depth": 18, "width_per_group": 8}, r"backbone.width_per_group is 8, which needs"),
        (
            {"width": 8, "groups": 32, "width_per_group": 4},
            r"backbone.width = 8 and .* leave a group without channels",
        ),
        (
            {"kind": "convnext", "convnext.blocks": (3, 3, 0, 3)},
            r"backbone.convnext.blocks is .*; expected within",
        ),
        ({"kind": "vgg"}, r"backbone.kind is 'vgg'; expected resnet \| convnext \| vit"),
        ({"kind": "vit", "convnext.blocks": (3, 3, 9, 4)}, r"backbone.convnext.blocks is .* 'vit'"),
        ({"norm": "ln"}, r"backbone.norm is 'ln'; expected frozen_bn \| bn \| gn"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(changes, fault):
    model = ModelConfig()
    set_values(model.backbone, changes)
    with pytest.raises(ValueError, match=f"^config.model.{fault}"):
        model.validate()


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "ResNet-50"),
        ({"groups": 32, "width_per_group": 4}, "ResNeXt-50 32x4d"),
        ({"depth": 101, "width_per_group": 128}, "Wide ResNet-101"),
        ({"kind": "convnext", "convnext.blocks": (3, 3, 27, 3)}, "ConvNeXt-S"),
        ({"kind": "convnext", "convnext.blocks": (1, 1, 2, 1)}, "ConvNeXt of 5 blocks"),
        ({"kind": "vit"}, "ViT-B"),
        ({"kind": "vit", "vit.depth": 4}, "ViT of 4 blocks"),
    ],
)
def test_a_backbone_has_a_name(changes, name):
    config = BackboneConfig()
    set_values(config, changes)
    assert backbone_name(config) == name


@pytest.mark.parametrize("training", [True, False])
def test_randomness_comes_from_the_steps_key_and_in_training_alone(tiny_config, batch, training):
    """The key that `losses` is given, which the step makes of its number: so a resumed run draws
    what it would have drawn."""
    given = []

    def note(next_function, args, kwargs, context):
        if context.module.name == "backbone" and context.method_name == "__call__":
            given.append(args[3])
        return next_function(*args, **kwargs)

    model = MaskRCNN(tiny_config, 3)
    with nn.intercept_methods(note):
        jax.eval_shape(
            lambda key: model.init_with_output(
                key, batch, key, batch_statistics=training, method="losses"
            ),
            jax.random.key(0),
        )
    assert len(given) == 1
    assert (given[0] is not None) == training


def test_a_convnext_draws_the_same_for_the_same_key():
    config = BackboneConfig(kind="convnext")
    set_values(config.convnext, dict(blocks=(1, 1, 1, 1), channels=(4, 4, 4, 4), layer_scale=1.0))
    config.convnext.stochastic_depth = 0.5
    module = make_backbone(config, jnp.float32, remat=False)
    image = np.random.default_rng(0).standard_normal((4, 32, 32, 3), np.float32)
    variables = module.init(jax.random.key(0), image)
    run = jax.jit(lambda rng: module.apply(variables, image, 0, None, rng)["c5"])
    first, again, other = (np.asarray(run(jax.random.key(seed))) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    stored = module.apply(variables, image)["c5"]
    assert not np.array_equal(stored, first)
