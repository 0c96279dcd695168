"""The two heads of PointRend (Kirillov et al. 2020), as Detectron2's projects/PointRend has them.

features of the finest level, 14 x 14 in the box -> coarse head -> coarse masks, 7 x 7
features and coarse masks at a point             -> point head  -> its logit
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from maskrcnn_jax.models.initializers import he_normal, normal
from maskrcnn_jax.models.layers import Dense, add_bias
from maskrcnn_jax.models.mask_head import chosen_channel
from maskrcnn_jax.parallel import partition

_of_prediction = normal(0.001)


class PointRendHead(nn.Module):
    """Both heads.

    Attributes:
        coarse_head: makes the `CoarseHead`.
        point_head: makes the `PointHead`.
    """

    coarse_head: Callable[[], nn.Module]
    point_head: Callable[[], nn.Module]

    def setup(self):
        self.coarse = self.coarse_head()
        self.point = self.point_head()

    def coarse_masks(self, x: jax.Array) -> jax.Array:
        """Returns what the `CoarseHead` does."""
        return self.coarse(x)

    def point_logits(self, x: jax.Array, coarse: jax.Array, classes: jax.Array) -> jax.Array:
        """Returns what the `PointHead` does."""
        return self.point(x, coarse, classes)


class CoarseHead(nn.Module):
    """A convolution that halves the side, dense layers, and a predictor of a mask for each class.

    Attributes:
        num_classes: K.
        size: side of a mask.
        layers: dense ones.
        channels: of these.
        dtype: of the computation.
    """

    num_classes: int
    size: int = 7
    layers: int = 2
    channels: int = 1024
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        self.conv = BlockConv(self.dtype)
        self.dense = [Dense(self.channels, self.dtype) for _ in range(self.layers)]
        self.coarse_logits = ClassGrid(self.size**2, self.num_classes, self.dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns mask logits `[B, N, size, size, K]` float32 for features `[B, N, S, S, C]`."""
        x = nn.relu(self.conv(x))
        x = x.reshape((*x.shape[:-3], -1))
        for dense in self.dense:
            x = nn.relu(dense(x))
        logits = self.coarse_logits(x).astype(jnp.float32)
        return logits.reshape((*x.shape[:-1], self.size, self.size, self.num_classes))


class BlockConv(nn.Module):
    """Convolution of 2x2 blocks with stride 2, as many channels out as in.

    Attributes:
        dtype: of the computation and the output.
    """

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `[..., H / 2, W / 2, C]` for x `[..., H, W, C]`."""
        *leading, height, width, channels = x.shape
        kernel = self.param("kernel", he_normal, (2, 2, channels, channels))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        kernel = partition.whole(kernel.astype(self.dtype))
        blocks = x.astype(self.dtype).reshape(*leading, height // 2, 2, width // 2, 2, channels)
        return add_bias(jnp.einsum("...yaxbi,abio->...yxo", blocks, kernel), bias)


class ClassGrid(nn.Module):
    """Dense layer that predicts a grid of values for each class.

    Attributes:
        cells: of the grid.
        num_classes: K.
        dtype: of the computation and the output.
    """

    cells: int
    num_classes: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns `[..., cells, K]` for x `[..., C]`."""
        shape = (self.cells, self.num_classes)
        kernel = self.param("kernel", _of_prediction, (x.shape[-1], *shape))
        bias = self.param("bias", nn.initializers.zeros, shape)
        kernel = partition.whole(kernel.astype(self.dtype))
        return add_bias(jnp.einsum("...i,ick->...ck", x.astype(self.dtype), kernel), bias)


class PointHead(nn.Module):
    """A perceptron that is applied to each point alone; each layer is given the coarse masks, too.

    Attributes:
        num_classes: K.
        layers: before the predictor.
        channels: of these.
        dtype: of the computation.
    """

    num_classes: int
    layers: int = 3
    channels: int = 256
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        self.layer = [Dense(self.channels, self.dtype, he_normal) for _ in range(self.layers)]
        self.point_logits = OwnClass(self.num_classes, self.dtype)

    def __call__(self, x: jax.Array, coarse: jax.Array, classes: jax.Array) -> jax.Array:
        """Returns the logits of each RoI's class at its points, `[B, N, P]` float32.

        Args:
            x: `[B, N, P, C]`, features at the points.
            coarse: `[B, N, P, K]` float32, logits of the coarse masks there.
            classes: `[B, N]` int32, 1..K; of 0 the result has no meaning.
        """
        x, coarse = x.astype(self.dtype), coarse.astype(self.dtype)
        for layer in self.layer:
            x = nn.relu(layer(jnp.concatenate([x, coarse], axis=-1)))
        x = jnp.concatenate([x, coarse], axis=-1)
        return self.point_logits(x, classes).astype(jnp.float32)


class OwnClass(nn.Module):
    """Dense layer with an output for each class, of which each RoI needs a single one.

    Attributes:
        num_classes: K.
        dtype: of the computation and the output.
    """

    num_classes: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, classes: jax.Array) -> jax.Array:
        """Returns `[B, N, P]` for x `[B, N, P, C]` and classes `[B, N]` int32, 1..K."""
        kernel = self.param("kernel", _of_prediction, (x.shape[-1], self.num_classes))
        bias = self.param("bias", nn.initializers.zeros, (self.num_classes,))
        weights, bias = chosen_channel(kernel, bias, classes - 1, self.dtype)
        return jnp.einsum("bnpc,bnc->bnp", x, weights) + bias[..., None]
