"""Which points of a mask are looked at: those where it is least certain.

The uncertainty of a logit is -|logit|: it is largest where the probability is 1/2. Everything here
is of one image; N are its RoIs or detections.
"""

import jax
import jax.numpy as jnp

from maskrcnn_jax.models.point_rend.config import PointRendConfig
from maskrcnn_jax.ops.points import sample_grid


def training_points(rng: jax.Array, logits: jax.Array, config: PointRendConfig) -> jax.Array:
    """Draws the points that each RoI is trained at (paper, 3.3).

    Of `oversampling` times as many random points the most uncertain ones are taken, and to them
    some random ones are added.

    Args:
        rng: key of this image.
        logits: `[N, S, S]` float32, coarse masks of the RoIs' classes.
        config: `config.model.point_rend`.

    Returns:
        `[N, train_points, 2]` float32, x and y, 0..1 over the box.
    """
    total = config.train_points
    number = int(config.importance * total)
    keys, counts = jax.random.split(rng), (int(config.oversampling * total), total - number)
    many, rest = (
        random_points(key, len(logits), count) for key, count in zip(keys, counts, strict=True)
    )
    return jnp.concatenate([most_uncertain(many, logits, number), rest], axis=1)


def random_points(rng: jax.Array, number: int, count: int) -> jax.Array:
    """Returns uniformly drawn points `[number, count, 2]` float32, 0..1."""
    return jax.random.uniform(rng, (number, count, 2))


def most_uncertain(points: jax.Array, logits: jax.Array, number: int) -> jax.Array:
    """Returns those `[N, number, 2]` of the points at which the coarse masks are least certain.

    A mask is uncertain between a cell of 1 and a cell of -1, though neither of them is: its value
    at the point counts, not that of the cells.

    Args:
        points: `[N, P, 2]` float32, x and y, 0..1 over the box.
        logits: `[N, S, S]` float32.
        number: of points of each RoI.
    """
    uncertainty = -jnp.abs(sample_grid(logits[..., None], points)[..., 0])
    _, index = jax.lax.top_k(uncertainty, number)
    return jnp.take_along_axis(points, index[..., None], axis=1)


def uncertain_cells(logits: jax.Array, number: int) -> tuple[jax.Array, jax.Array]:
    """Returns the cells of a mask that are least certain, and where their centres lie.

    Args:
        logits: `[N, M, M]` float32.
        number: P, of cells of each mask.

    Returns:
        `[N, P]` int32, row * M + column, and `[N, P, 2]` float32, x and y, 0..1 over the box.
    """
    size = logits.shape[-1]
    _, index = jax.lax.top_k(-jnp.abs(logits.reshape(len(logits), -1)), min(number, size**2))
    row, column = jnp.divmod(index, size)
    return index, (jnp.stack([column, row], axis=-1).astype(jnp.float32) + 0.5) / size


def all_cells(size: int) -> jax.Array:
    """Returns the centres of all cells, `[size^2, 2]` float32, row by row."""
    centre = (jnp.arange(size, dtype=jnp.float32) + 0.5) / size
    return jnp.stack([jnp.tile(centre, size), jnp.repeat(centre, size)], axis=-1)


def doubled(logits: jax.Array) -> jax.Array:
    """Returns masks `[..., M, M]` with twice the side, interpolated bilinearly."""
    for axis in (-2, -1):
        x = jnp.moveaxis(logits, axis, -1)
        # Each cell becomes two, whose centres lie a quarter of it towards its neighbours.
        before = jnp.concatenate([x[..., :1], x[..., :-1]], axis=-1)
        after = jnp.concatenate([x[..., 1:], x[..., -1:]], axis=-1)
        pairs = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis=-1)
        logits = jnp.moveaxis(pairs.reshape(*x.shape[:-1], -1), -1, axis)
    return logits


def first_size(config: PointRendConfig) -> tuple[int, int]:
    """Returns the side at which all of a mask's points are predicted, and the doublings after it.

    As long as a mask has no more cells than points would be chosen of it, choosing is in vain.

    Args:
        config: `config.model.point_rend`.
    """
    size, steps = config.coarse_size, config.subdivisions
    while steps and (2 * size) ** 2 <= config.subdivision_points:
        size, steps = 2 * size, steps - 1
    return size, steps
