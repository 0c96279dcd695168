"""Recomputing in the backward pass: the same values from the same parameters, less memory."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from maskrcnn_jax.checkpoints.state import create
from maskrcnn_jax.models.build import abstract_variables, initial_variables, make_model
from maskrcnn_jax.models.layers import rematerialised
from maskrcnn_jax.parallel.mesh import make_state, shard_batch
from maskrcnn_jax.training.train_step import make_train_step


class Block(nn.Module):
    """Four layers of which each keeps its output for the backward pass."""

    @nn.compact
    def __call__(self, x, statistics_parts=0):
        assert isinstance(statistics_parts, int)
        for _ in range(4):
            x = jnp.tanh(nn.Dense(32)(x))
        return x


class Deep(nn.Module):
    """Six blocks, in the place of the detector."""

    remat: str

    def setup(self):
        kind = Block if self.remat == "none" else rematerialised(Block)
        self.block = [kind() for _ in range(6)]

    def __call__(self, x):
        for block in self.block:
            x = block(x, True)
        return x

    def losses(self, batch, rng):
        loss = jnp.square(self(batch["image"])).mean()
        counts = jnp.ones((1, 3))
        return {"loss_total": loss}, {"anchor_counts": counts, "roi_counts": counts}


def test_the_parameters_have_the_same_names(tiny_config):
    plain, *others = (
        abstract_variables(make_model(tiny_config.model, 3, remat=remat))
        for remat in ("none", "backbone", "all")
    )
    assert all(other == plain for other in others)


def test_blocks_and_heads_are_what_is_computed_again(tiny_config, random_batch):
    batch = random_batch(1, (64, 64), tiny_config)
    numbers = []
    for remat in ("none", "backbone", "all"):
        model = make_model(tiny_config.model, 3, remat=remat)

        def losses(variables, batch, model=model):
            return model.apply(variables, batch, jax.random.key(0), method="losses")[0]

        program = str(jax.make_jaxpr(losses)(abstract_variables(model), batch))
        numbers.append(program.count("= remat2["))
    assert numbers == [0, 8, 8 + 4]  # the blocks of ResNet-18; FPN, RPN, box head, mask head


def _one_step(model, variables, batch, mesh):
    """Returns the program, and what it gives: as gradient, the first state of the momentum."""
    optimizer = optax.trace(0.9)
    trainable = jax.tree.map(lambda _: True, variables["params"])
    step = make_train_step(model, optimizer, optax.constant_schedule(1.0), trainable, 0, mesh)
    state = make_state(lambda variables: create(variables, optimizer), mesh, variables)
    program = step.lower(state, batch).compile()
    state, _ = jax.device_get(program(state, batch))
    return program, {"gradient": state.opt_state.trace, "batch_stats": state.batch_stats}


def _assert_close(found, expected):
    """To the rounding of float32, as sums are made in another order."""
    leaves = jax.tree_util.tree_leaves_with_path(expected)
    for (path, a), b in zip(leaves, jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-4 * np.abs(a).max(), err_msg=str(path))


def test_gradients_are_the_same_and_memory_is_less(one_device_mesh):
    """Compiled for real, as a compiler could merge again what is computed twice."""
    image = np.random.default_rng(0).normal(size=(2, 4096, 32)).astype(np.float32)
    batch = shard_batch({"image": image}, one_device_mesh)
    variables = Deep("none").init(jax.random.key(0), image)
    plain, expected = _one_step(Deep("none"), variables, batch, one_device_mesh)
    twice, found = _one_step(Deep("all"), variables, batch, one_device_mesh)
    _assert_close(found, expected)
    # 24 products there and 48 back, and most of the 24 once more.
    assert twice.cost_analysis()["flops"] > 1.15 * plain.cost_analysis()["flops"]
    # Kept are 24 outputs, or 6 and those of one block.
    temporary = [p.memory_analysis().temp_size_in_bytes for p in (plain, twice)]
    assert temporary[1] < 0.6 * temporary[0]


@pytest.mark.slow
def test_the_whole_detectors_gradients_are_the_same(tiny_config, one_device_mesh, random_batch):
    tiny_config.model.backbone.norm = tiny_config.model.fpn.norm = "bn"
    tiny_config.model.box_head.dense_norm = tiny_config.model.mask_head.norm = "bn"
    batch = shard_batch(random_batch(4, (64, 64), tiny_config), one_device_mesh)
    variables = initial_variables(make_model(tiny_config.model, 3), jax.random.key(0))
    results = [
        _one_step(make_model(tiny_config.model, 3, remat), variables, batch, one_device_mesh)[1]
        for remat in ("none", "backbone", "all")
    ]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(results[0]))
    for result in results[1:]:
        _assert_close(result, results[0])
