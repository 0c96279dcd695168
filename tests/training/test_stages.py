"""Stages of training: the words they are written in, and what each of them changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from maskrcnn_jax.checkpoints.state import create
from maskrcnn_jax.config_json import set_values
from maskrcnn_jax.layer_groups import parse_layers
from maskrcnn_jax.models.build import abstract_variables, make_model
from maskrcnn_jax.parallel.mesh import replicated
from maskrcnn_jax.training.optimizer import make_schedule
from maskrcnn_jax.training.stages import entered, make_stages, stage_at, stage_of_state


@pytest.mark.parametrize(
    ("text", "stages"),
    [
        ("3+", [("3+", 0)]),
        ("all", [("all", 0)]),
        ("heads:2000, 4+:6000, all", [("heads", 0), ("4+", 2000), ("all", 6000)]),
        (" heads : 1,5+ ", [("heads", 0), ("5+", 1)]),
    ],
)
def test_stages_are_read(text, stages):
    assert parse_layers(text) == stages


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "'' is none of them"),
        ("head", "'head' is none of them"),
        ("3", "'3' is none of them"),
        ("heads, all", "'heads' must end in a step above 0"),
        ("heads:0, all", "'heads:0' must end in a step above 0"),
        ("heads:20, 4+:20, all", r"'4\+:20' must end in a step above 20"),
        ("heads:-5, all", "'heads:-5' must end in a step above 0"),
        ("heads:many, all", "'heads:many' must end in a step"),
        ("heads:20, all:30", "the last stage goes to the end of the run; take '30' away"),
        ("all:", "the last stage goes to the end"),
        ("heads:20,", "'' is none of them"),
    ],
)
def test_faulty_stages_are_explained(text, fault):
    with pytest.raises(ValueError, match=f"{fault}.*heads, 5") as error:
        parse_layers(text)
    assert "'heads:2000, 4+:6000, all'" in str(error.value)


@pytest.fixture
def staged(tiny_config, one_device_mesh):
    """The stages of the tiny detector, and the shapes of its variables."""
    set_values(
        tiny_config.train,
        dict(layers="heads:3, 4+:8, all", learning_rate=0.5, weight_decay=0.0, clip_norm=0.0),
    )
    model = make_model(tiny_config.model, 3)
    variables = abstract_variables(model)
    return make_stages(tiny_config, model, variables["params"], one_device_mesh), variables


def test_which_stage_it_is(staged):
    stages, _ = staged
    steps = (0, 2, 3, 7, 8, 99)
    assert [stage_at(stages, step).layers for step in steps] == [
        "heads", "heads", "4+", "4+", "all", "all",
    ]  # fmt: skip
    assert [stage_of_state(stages, step).layers for step in (0, 3, 4, 8, 9)] == [
        "heads", "heads", "4+", "4+", "all",
    ]  # fmt: skip


def test_the_rate_follows_the_steps_of_the_whole_run(staged, tiny_config):
    stages, variables = staged
    schedule = make_schedule(tiny_config.train)
    params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), variables["params"])
    for stage in stages:
        updates, _ = stage.optimizer.update(params, stage.optimizer.init(params), params)
        bias = updates["rpn"]["conv_0"]["bias"]
        np.testing.assert_allclose(bias, -schedule(stage.start), rtol=1e-6)
    assert float(schedule(0)) < float(schedule(3))


def test_a_stage_begins_with_a_new_state_of_its_own_optimiser(staged, one_device_mesh):
    (first, second, _), variables = staged
    ones = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), variables)
    state = create(ones, first.optimizer)
    state = state.replace(
        step=jnp.int32(3), opt_state=jax.tree.map(lambda x: x + 1, state.opt_state)
    )
    state = jax.device_put(state, replicated(one_device_mesh))
    after = entered(second, state, one_device_mesh)
    assert int(after.step) == 3
    expected = second.optimizer.init(ones["params"])
    assert jax.tree.structure(after.opt_state) == jax.tree.structure(expected)
    assert not any(leaf.any() for leaf in jax.tree.leaves(after.opt_state))
    assert all((leaf == 1).all() for leaf in jax.tree.leaves(after.variables))


def test_the_way_back_through_what_is_frozen_is_not_computed(
    tiny_config, one_device_mesh, random_batch
):
    """The backward pass through a layer costs about twice the forward pass."""
    model = make_model(tiny_config.model, 3)
    variables = abstract_variables(model)
    batch = random_batch(2, (64, 64), tiny_config)

    def cost(layers):
        tiny_config.train.layers = layers
        (stage,) = make_stages(tiny_config, model, variables["params"], one_device_mesh)
        state = jax.eval_shape(lambda tree: create(tree, stage.optimizer), variables)
        return stage.train_step.lower(state, batch).cost_analysis()["flops"]

    def backbone(variables, image):
        return model.apply(variables, image, method=lambda model, image: model.backbone(image))

    image = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
    forward = jax.jit(backbone).lower(variables, image).cost_analysis()["flops"]
    costs = [cost(layers) for layers in ("heads", "4+", "all")]
    assert costs == sorted(costs)
    assert 1.7 * forward < costs[-1] - costs[0] < 2.3 * forward
