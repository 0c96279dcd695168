"""Attention between the patches of an image, of all of it or within windows (Li et al. 2022)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from maskrcnn_jax.models.backbones import resizing
from maskrcnn_jax.models.backbones.layers import narrow_normal
from maskrcnn_jax.models.layers import Dense
from maskrcnn_jax.parallel import partition


def to_windows(x: jax.Array, side: int) -> jax.Array:
    """Returns [B, N, side, side, C]: the windows of x [B, H, W, C], row by row.

    Those at the bottom and at the right are filled up with zeros. As in Detectron2 these are not
    masked: the patches of their windows attend to them.
    """
    images, height, width, channels = x.shape
    down, across = -(-height // side), -(-width // side)
    more = ((0, 0), (0, down * side - height), (0, across * side - width), (0, 0))
    x = jnp.pad(x, more).reshape(images, down, side, across, side, channels)
    return x.swapaxes(2, 3).reshape(images, down * across, side, side, channels)


def from_windows(windows: jax.Array, height: int, width: int) -> jax.Array:
    """Returns [B, height, width, C] of what `to_windows` made, without what it filled up."""
    images, _, side, _, channels = windows.shape
    down, across = -(-height // side), -(-width // side)
    x = windows.reshape(images, down, across, side, side, channels).swapaxes(2, 3)
    return x.reshape(images, down * side, across * side, channels)[:, :height, :width]


def relative(table: jax.Array, size: int) -> jax.Array:
    """Returns what belongs to each pair of positions on an axis, [size, size, C]: query, key.

    Args:
        table: [2 S - 1, C]; row S - 1 + d is of a query d positions behind its key. It is
            interpolated where `size` is not S.
        size: positions.
    """
    distances = 2 * size - 1
    position = jnp.arange(size)
    chosen = jax.nn.one_hot(position[:, None] - position + size - 1, distances)
    resized = partition.whole(table)
    if table.shape[0] != distances:
        matrix = resizing.linear(distances, table.shape[0])
        resized = jnp.einsum("dt,tc->dc", matrix, resized, precision="highest")
    # Chosen by a product, whose gradient is a product, too, and no scatter.
    return jnp.einsum("qkd,dc->qkc", chosen, resized, precision="highest")


class Attention(nn.Module):
    """Each patch takes from all those of its window, by their content and by where they lie.

    To the product of query and key is added what the query makes of how many rows and how many
    columns the key is away: decomposed relative positions (Li et al. 2022, "MViTv2", section 4.1).

    Attributes:
        heads: parts of the channels, each with an attention of its own.
        grid: side of the window or image whose relative positions are stored.
        dtype: of dense layers and products; the softmax is float32.
    """

    heads: int
    grid: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns [B, N, h, w, C] for the windows x [B, N, h, w, C]."""
        channels, size = x.shape[-1], x.shape[-1] // self.heads
        qkv = Dense(3 * channels, self.dtype, narrow_normal, name="qkv")(x)
        parts = jnp.moveaxis(qkv.reshape(*x.shape[:-1], 3, self.heads, size), (4, 5), (0, 2))
        # [B, heads, N, h, w, size]; devices that share images have some of the heads each.
        query, key, value = (partition.rois(part) for part in parts)

        def product(what: str, a: jax.Array, b: jax.Array) -> jax.Array:
            b = b.astype(self.dtype)
            # Also in the backward pass: left alone, XLA got the gradient of `columns` wrong by as
            # much as its size where an image's rows are split, too (jax 0.10.2).
            return partition.rois(jnp.einsum(what, a, b, preferred_element_type=jnp.float32))

        shape = (2 * self.grid - 1, size)
        rows, columns = (
            self.param(f"relative_{axis}", nn.initializers.zeros, shape)
            for axis in ("rows", "columns")
        )
        rows, columns = relative(rows, x.shape[2]), relative(columns, x.shape[3])
        logits = product("bnphwc,bnpijc->bnphwij", query * size**-0.5, key)
        logits += product("bnphwc,hic->bnphwi", query, rows)[..., None]
        logits += product("bnphwc,wjc->bnphwj", query, columns)[..., None, :]
        weights = jax.nn.softmax(logits, axis=(-2, -1)).astype(self.dtype)
        mixed = jnp.moveaxis(product("bnphwij,bnpijc->bnphwc", weights, value), 1, 4)
        return Dense(channels, self.dtype, narrow_normal, name="project")(mixed.reshape(x.shape))
