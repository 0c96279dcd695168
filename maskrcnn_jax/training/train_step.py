"""One training step: losses, gradients, update."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import Mesh

from maskrcnn_jax.training import sharding
from maskrcnn_jax.training.state import TrainState

TrainStep = Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, dict[str, jax.Array]]]


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    trainable: Any,
    seed: int,
    mesh: Mesh,
) -> TrainStep:
    """Returns the compiled step `(state, batch) -> (state, metrics)`.

    It is compiled once for each shape of batch. The state given is donated: its arrays are gone
    after the call. Everything random in step s comes from `fold_in(key(seed), s)`.

    Args:
        model: has `losses(batch, rng) -> (losses, stages)` as `MaskRCNN` does; of the stages,
            `anchor_counts` and `roi_counts` are used.
        optimizer: as `make_optimizer` returns it.
        schedule: the learning rate, for the metrics.
        trainable: pytree of bool like the parameters.
        seed: `config.seed`.
        mesh: as `sharding.make_mesh` returns it.

    Returns:
        The step. Its metrics are `[] float32`: the model's losses, `learning_rate`, `grad_norm`
        (of the trainable parameters, before clipping), and how many anchors and RoIs an image
        had on average.
    """

    def train_step(state: TrainState, batch: dict[str, jax.Array]):
        rng = jax.random.fold_in(jax.random.key(seed), state.step)

        def loss_of(params):
            # Nothing flows back into what is frozen, so none of it is computed.
            params = jax.tree.map(
                lambda p, t: p if t else jax.lax.stop_gradient(p), params, trainable
            )
            variables = {"params": params, "batch_stats": state.batch_stats}
            (losses, stages), updated = model.apply(
                variables, batch, rng, method="losses", mutable=["batch_stats"]
            )
            return losses["loss_total"], (losses, _counts(stages), updated)

        gradient, (losses, counts, updated) = jax.grad(loss_of, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        metrics = {
            **losses,
            "learning_rate": schedule(state.step),
            "grad_norm": optax.global_norm(gradient),
            **counts,
        }
        new_state = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=updated.get("batch_stats", state.batch_stats),
            opt_state=opt_state,
        )
        return new_state, jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), metrics)

    replicated = sharding.state_sharding(mesh)
    return jax.jit(
        train_step,
        in_shardings=(replicated, sharding.batch_sharding(mesh)),
        out_shardings=(replicated, replicated),
        donate_argnums=0,
    )


def _counts(stages: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Returns means over the images of what was matched and sampled."""
    anchors = stages["anchor_counts"].mean(axis=0, dtype=jnp.float32)
    rois = stages["roi_counts"].mean(axis=0, dtype=jnp.float32)
    return {"anchors_positive": anchors[0], "rois_sampled": rois[0], "rois_positive": rois[1]}
