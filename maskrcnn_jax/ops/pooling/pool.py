"""Weighted sums of feature vectors, over pairs of a row and a column: what RoIAlign comes to.

The same sums in three forms, since no single one is fast everywhere:

- `gathers.py`, `gathers_gradient.py`: one pair of taps of all bins at a time, for CPUs and GPUs;
  the gradient is a scatter.
- `products.py`: matrix products with a whole level. Their gradient has one order of additions, so
  it is the same to the bit whenever it is computed: for GPUs where that is asked for. And for what
  kernels are not for on a TPU: single points, and exported programs.
- `windows.py`, `windows_gradient.py`: kernels for TPUs, which have neither gathers nor scatters in
  hardware. They bring the cells that each box lies on, and no others. Deterministic, too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from maskrcnn_jax.ops.pooling.gathers import gather
from maskrcnn_jax.ops.pooling.taps import Levels, Shapes, Taps
from maskrcnn_jax.parallel import partition

_KERNELS = ContextVar("kernels", default=True)


@contextmanager
def without_kernels() -> Iterator[None]:
    """Traces pooling without Pallas kernels: a TPU takes products.

    JAX lowers no program with kernels for several kinds of devices at a time, or for batches of any
    size, as exported programs are. What was traced before stays as it is.
    """
    token = _KERNELS.set(False)
    try:
        yield
    finally:
        _KERNELS.reset(token)


def pool(features: Levels, level: Array, rows: Taps, columns: Taps, deterministic: bool) -> Array:
    """Adds up, for each bin of each box, the cells of its level that its taps name.

    Differentiable by the features alone. Sums are float32.

    Args:
        features: one `[B, h, w, C]` float array per level, of one dtype.
        level: `[B, N]` int32, index into `features`.
        rows: of each box, S of them.
        columns: of each box, T of them.
        deterministic: the gradient in the form of products on a GPU, too, which otherwise adds by
            atomics, in an order that changes from run to run: 3.7 ms for a step of 8 images on an
            H200, against 23.

    Returns:
        `[B, N, S, T, C]` in the dtype of the features.
    """
    static = _Static(
        shapes=tuple((f.shape[1], f.shape[2]) for f in features),
        deterministic=deterministic,
        # For a box of one bin, a window would be too much.
        has_windows=_KERNELS.get() and (rows.cell.shape[2], columns.cell.shape[2]) != (1, 1),
    )
    return _pool(static, features, level, rows, columns)


class _Static(NamedTuple):
    """What a program is made for, besides the shapes of its arguments."""

    shapes: Shapes
    deterministic: bool
    has_windows: bool


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _pool(static: _Static, features, level, rows, columns) -> Array:
    from maskrcnn_jax.ops.pooling.products import products

    on_tpu = _windows if static.has_windows else products
    arguments = (features, level, rows, columns)
    return jax.lax.platform_dependent(*arguments, tpu=on_tpu, default=gather)


def _pool_forward(static, features, level, rows, columns):
    return _pool(static, features, level, rows, columns), (level, rows, columns)


def _pool_backward(static, residuals, cotangent):
    from maskrcnn_jax.ops.pooling.gathers_gradient import CHUNK_BYTES, scatter
    from maskrcnn_jax.ops.pooling.products import products_gradient

    def rounded(form, *arguments):
        gradients = form(static.shapes, *arguments)
        return tuple(gradient.astype(cotangent.dtype) for gradient in gradients)

    in_chunks = partial(scatter, chunk_bytes=CHUNK_BYTES)
    # A GPU's compiler fuses the expansion with the scatter: chunks would only make it start and
    # read its result again, which took half of the time on an H200.
    elsewhere = products_gradient if static.deterministic else partial(scatter, chunk_bytes=None)
    on_tpu = _windows_gradient if static.has_windows else products_gradient
    gradient = jax.lax.platform_dependent(
        cotangent,
        *residuals,
        cpu=partial(rounded, in_chunks),
        tpu=partial(rounded, on_tpu),
        default=partial(rounded, elsewhere),
    )
    return gradient, None, None, None


_pool.defvjp(_pool_forward, _pool_backward)


def _windows(features: Levels, level: Array, rows: Taps, columns: Taps) -> Array:
    from maskrcnn_jax.ops.pooling.windows import pool_windows

    kinds = ("images", "rois", "rois", "rois")
    alone = partition.alone(pool_windows, kinds, "rois", level.shape[1])
    return alone(features, level, rows, columns)


def _windows_gradient(
    shapes: Shapes, cotangent: Array, level: Array, rows: Taps, columns: Taps
) -> Levels:
    from maskrcnn_jax.ops.pooling.windows_gradient import windows_gradient

    number = level.shape[1]
    # What several devices add up is rounded afterwards.
    dtype = jnp.float32 if partition.rois_are_split(number) else cotangent.dtype
    gradient = partial(windows_gradient, shapes, dtype)
    alone = partition.alone(gradient, ("rois",) * 4, "images", number)
    return alone(cotangent, level, rows, columns)
