"""The distributions that new kernels are drawn from.

JAX compiles a random draw once for each shape, and compiling takes far longer than drawing: 0.3 to
1 s each on a CPU. So numbers are drawn here in blocks of one size, which one compiled program
serves for all shapes.
"""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

Shape = tuple[int, ...]
Initializer = Callable[..., jax.Array]  # (key, shape, dtype) -> array, as Flax calls it

_BLOCK = 2**16


def normal(deviation: float | Callable[[Shape], float]) -> Initializer:
    """Returns the initialiser of a normal distribution around zero.

    Args:
        deviation: the standard deviation, or what gives it for a shape.
    """
    return partial(_drawn, jax.random.normal, deviation)


def uniform(limit: float | Callable[[Shape], float]) -> Initializer:
    """Returns the initialiser of the uniform distribution over [-limit, limit).

    Args:
        limit: the number, or what gives it for a shape.
    """
    return partial(_drawn, _symmetric_uniform, limit)


def fan_in(shape: Shape) -> int:
    """Returns how many inputs each output of a kernel [..., Cout] has."""
    return math.prod(shape[:-1])


def fan_out(shape: Shape) -> int:
    """Returns how many outputs each input of a kernel [..., Cin, Cout] has."""
    return math.prod(shape[:-2]) * shape[-1]


def _drawn(draw, scale, key, shape, dtype=jnp.float32) -> jax.Array:
    scale = scale(shape) if callable(scale) else scale
    return jnp.asarray(_numbers(draw, key, shape) * scale, dtype)


def _numbers(draw: Callable[..., jax.Array], key: jax.Array, shape: Shape) -> jax.Array:
    """Draws the same numbers whether it is traced or not."""
    size = math.prod(shape)
    count = -(-size // _BLOCK)
    if isinstance(key, jax.core.Tracer):
        blocks = jax.vmap(lambda index: _block(draw, key, index))(jnp.arange(count))
    else:
        blocks = np.stack(jax.device_get([_block(draw, key, index) for index in range(count)]))
    return blocks.reshape(-1)[:size].reshape(shape)


@partial(jax.jit, static_argnums=0)
def _block(draw: Callable[..., jax.Array], key: jax.Array, index: int) -> jax.Array:
    return draw(jax.random.fold_in(key, index), (_BLOCK,), jnp.float32)


def _symmetric_uniform(key, shape, dtype):
    return jax.random.uniform(key, shape, dtype, -1.0, 1.0)


# He et al. 2015 for layers that a ReLU follows, and the small normal of the detection predictors.
he_normal = normal(lambda shape: math.sqrt(2 / fan_out(shape)))
he_normal_fan_in = normal(lambda shape: math.sqrt(2 / fan_in(shape)))
he_uniform = uniform(lambda shape: math.sqrt(3 / fan_in(shape)))
small_normal = normal(0.01)
