"""One training step: losses, gradients, update."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import Mesh

from maskrcnn_jax.checkpoints.ema import updated_average
from maskrcnn_jax.checkpoints.state import TrainState
from maskrcnn_jax.parallel import partition
from maskrcnn_jax.parallel.mesh import as_state, replicated

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]
TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
# (params, batch_stats, batch, key) -> gradient, new batch_stats, metrics
Gradient = Callable[[Any, Any, Batch, jax.Array], tuple[Any, Any, Metrics]]


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    trainable: Any,
    seed: int,
    mesh: Mesh,
    *,
    accumulate: int = 1,
    ema_decay: float = 0.0,
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
        mesh: as `make_mesh` returns it.
        accumulate: parts of the batch that are worked on one after the other (`accumulated`).
        ema_decay: of the moving average, where the state has one.

    Returns:
        The step. Its metrics are `[] float32`: the model's losses, `learning_rate`, `grad_norm`
        (of the trainable parameters, before clipping), and how many anchors and RoIs an image
        had on average.
    """
    gradient_of = accumulated(_gradient(model, trainable, mesh), accumulate)

    def train_step(state: TrainState, batch: Batch):
        rng = jax.random.fold_in(jax.random.key(seed), state.step)
        gradient, batch_stats, metrics = gradient_of(state.params, state.batch_stats, batch, rng)
        metrics |= {
            "learning_rate": schedule(state.step),
            "grad_norm": optax.global_norm(gradient),
        }
        new_state = _updated(state, gradient, batch_stats, optimizer, ema_decay)
        metrics = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), metrics)
        return as_state(new_state, mesh), metrics

    # State and batch come as `sharding` lays them out, and the state stays so.
    return jax.jit(
        train_step,
        out_shardings=(None, replicated(mesh)),
        donate_argnums=0,
        compiler_options=_compiler_options(model, mesh),
    )


def _compiler_options(model: nn.Module, mesh: Mesh) -> dict[str, str] | None:
    """Returns what the compiler for the mesh's devices must be told.

    On a CPU, to keep apart what is computed twice where the model is rematerialised: XLA has
    barriers against its being merged again, and drops them too early there. On a GPU, to choose
    convolutions alone that add in one order, where the model is deterministic.
    """
    platform = mesh.devices.flat[0].platform
    if platform == "cpu" and getattr(model, "remat", "none") != "none":
        return {"xla_disable_hlo_passes": "cse_barrier_expander"}
    if platform in ("gpu", "cuda", "rocm") and getattr(model, "deterministic", False):
        return {"xla_gpu_exclude_nondeterministic_ops": "true"}
    return None


def _gradient(model: nn.Module, trainable: Any, mesh: Mesh) -> Gradient:
    """Returns the function that gives the gradient of a batch's total loss, split as the state."""

    def loss_of(params, batch_stats, batch, rng):
        # Nothing flows back into what is frozen, so none of it is computed.
        params = jax.tree.map(lambda p, t: p if t else jax.lax.stop_gradient(p), params, trainable)
        variables = {"params": params, "batch_stats": batch_stats}
        (losses, stages), updated = model.apply(
            variables, batch, rng, method="losses", mutable=["batch_stats"]
        )
        batch_stats = updated.get("batch_stats", batch_stats)
        return losses["loss_total"], (batch_stats, losses | _counts(stages))

    def gradient_of(*arguments):
        with partition.over(mesh):
            gradient, (batch_stats, metrics) = jax.grad(loss_of, has_aux=True)(*arguments)
        return as_state(gradient, mesh), batch_stats, metrics

    return gradient_of


def accumulated(gradient_of: Gradient, parts: int) -> Gradient:
    """Returns a function that takes a batch in parts, of which only one is in memory at a time.

    The images i, i + parts, i + 2 parts, ... are part i, so that each device works on images that
    it has, and what is computed does not depend on how many devices there are. Gradient and metrics
    are means over the parts, each weighted by its valid images. So every loss has the normalisers
    of its own part, as where each of several devices has its own, and a part without a valid image
    changes nothing. Running statistics pass from part to part. The key of part i is
    `fold_in(key, i)`, except where there is one part alone, which has the key itself.

    Args:
        gradient_of: what is done with a part, a batch with `image_valid` among its arrays.
        parts: how many; they divide the images.
    """
    if parts == 1:
        return gradient_of

    def gradient_of_parts(params, batch_stats, batch, rng):
        batch = jax.tree.map(
            lambda x: x.reshape(-1, parts, *x.shape[1:]).swapaxes(0, 1), dict(batch)
        )

        def add_part(carry, part):
            index, batch = part
            total, batch_stats = carry
            key = jax.random.fold_in(rng, index)
            gradient, batch_stats, metrics = gradient_of(params, batch_stats, batch, key)
            total = jax.tree.map(
                lambda sum, x: sum + weights[index] * x, total, (gradient, metrics)
            )
            return (total, batch_stats), None

        valid = batch["image_valid"].sum(axis=1, dtype=jnp.float32)
        weights = valid / jnp.maximum(valid.sum(), 1.0)
        first = jax.tree.map(lambda x: x[0], batch)
        shapes = jax.eval_shape(gradient_of, params, batch_stats, first, rng)
        zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (shapes[0], shapes[2]))
        (total, batch_stats), _ = jax.lax.scan(
            add_part, (zero, batch_stats), (jnp.arange(parts), batch)
        )
        gradient, metrics = total
        return gradient, batch_stats, metrics

    return gradient_of_parts


def _updated(
    state: TrainState,
    gradient: Any,
    batch_stats: Any,
    optimizer: optax.GradientTransformation,
    ema_decay: float,
) -> TrainState:
    """Returns the state after the optimiser's step, and its average with the new variables."""
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
    new = state.replace(  # type: ignore[attr-defined]  # flax adds it
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        opt_state=opt_state,
    )
    if state.ema is None:
        return new
    return new.replace(ema=updated_average(state.ema, new.variables, state.step, ema_decay))


def _counts(stages: dict[str, jax.Array]) -> Metrics:
    """Returns means over the images of what was matched and sampled."""
    anchors = stages["anchor_counts"].mean(axis=0, dtype=jnp.float32)
    rois = stages["roi_counts"].mean(axis=0, dtype=jnp.float32)
    return {"anchors_positive": anchors[0], "rois_sampled": rois[0], "rois_positive": rois[1]}
