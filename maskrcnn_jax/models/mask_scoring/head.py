"""The MaskIoU head of Mask Scoring R-CNN (Huang et al. 2019, section 3.3).

features of a RoI, 14 x 14 x 256  -+
                                   +-> 4 convolutions -> 7 x 7 -> 2 dense layers -> an IoU
its mask, 28 x 28, pooled by two  -+                                            for each class
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from maskrcnn_jax.models.config import ModelConfig
from maskrcnn_jax.models.initializers import small_normal
from maskrcnn_jax.models.layers import Conv, Dense


class MaskIoUHead(nn.Module):
    """Convolutions, the last of which halves the side, dense layers, and an output for each class.

    Attributes:
        num_classes: K.
        convs: 3x3 convolutions.
        channels: of these.
        dense_layers: before the predictor.
        dense_channels: of these.
        dtype: of the computation.
    """

    num_classes: int
    convs: int = 4
    channels: int = 256
    dense_layers: int = 2
    dense_channels: int = 1024
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        last = self.convs - 1
        self.conv = [
            Conv(self.channels, 3, stride=2 if i == last else 1, dtype=self.dtype)
            for i in range(self.convs)
        ]
        self.dense = [Dense(self.dense_channels, self.dtype) for _ in range(self.dense_layers)]
        self.iou = Dense(self.num_classes, self.dtype, small_normal)

    def __call__(self, x: jax.Array, mask_logits: jax.Array, classes: jax.Array) -> jax.Array:
        """Returns the predicted IoU of each mask with the true one, [B, N] float32.

        It is a regression: about 0..1, and not held to it.

        Args:
            x: [B, N, S, S, C], what the mask head was given.
            mask_logits: [B, N, 2S, 2S] float32, what it made of that.
            classes: [B, N] int32, 1..K; of 0 the result has no meaning.
        """
        masks = max_pooled(jax.nn.sigmoid(mask_logits))
        x = jnp.concatenate([x, masks[..., None].astype(x.dtype)], axis=-1)
        for conv in self.conv:
            x = nn.relu(conv(x))
        x = x.reshape((*x.shape[:-3], -1))
        for dense in self.dense:
            x = nn.relu(dense(x))
        ious = self.iou(x).astype(jnp.float32)
        own = jnp.maximum(classes - 1, 0)
        return jnp.take_along_axis(ious, own[..., None], axis=-1)[..., 0]


def scores_of_masks(scores: jax.Array, ious: jax.Array, valid: jax.Array) -> jax.Array:
    """Returns the scores of masks, [B, D] float32: those of their boxes, times the predicted IoU.

    Args:
        scores: [B, D] float32, of the boxes.
        ious: [B, D] float32, as the head predicts them.
        valid: [B, D] bool; 0 in the other slots.
    """
    return scores * jnp.where(valid, jnp.clip(ious, 0, 1), 0.0)


def max_pooled(masks: jax.Array) -> jax.Array:
    """Returns the largest of each 2x2 block, `[..., H / 2, W / 2]` of masks `[..., H, W]`."""
    *leading, height, width = masks.shape
    return masks.reshape(*leading, height // 2, 2, width // 2, 2).max(axis=(-3, -1))


def make_head(
    config: ModelConfig,
    num_classes: int,
    part: Callable[[type[nn.Module]], type[nn.Module]],
    dtype: jnp.dtype,
) -> nn.Module:
    """Returns the head that `config.model.mask_scoring` describes.

    Args:
        config: `config.model`.
        num_classes: K.
        part: takes a kind of module, to compute it again in the backward pass, say.
        dtype: of convolutions and dense layers.
    """
    settings = config.mask_scoring
    return part(MaskIoUHead)(
        num_classes=num_classes,
        convs=settings.convs,
        channels=settings.channels,
        dense_layers=settings.dense_layers,
        dense_channels=settings.dense_channels,
        dtype=dtype,
    )
