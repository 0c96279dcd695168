"""Box head of Fast R-CNN (Girshick 2015): pooled features -> class logits and box deltas."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from maskrcnn_jax.models.heads_config import BoxHeadConfig
from maskrcnn_jax.models.initializers import normal, small_normal
from maskrcnn_jax.models.layers import ConvNorm, Dense, norm_layer


class BoxHead(nn.Module):
    """Two dense layers, or four convolutions and one dense layer; then the two predictors.

    Attributes:
        num_classes: K, foreground classes.
        convs: 3x3 convolutions before the dense layers; with any, there is one dense layer.
        conv_channels: of those.
        dense_channels: of the dense layers.
        dense_norm: none | frozen_bn | bn, of the dense layers, before their ReLU. These have a
            bias only where there is no norm.
        norm: none | frozen_bn | bn | gn | ln, of the convolutions.
        norm_eps: added to the variance, in both.
        class_agnostic: one box for all classes.
        dtype: of the convolutions and dense layers.
    """

    num_classes: int
    convs: int = 0
    conv_channels: int = 256
    dense_channels: int = 1024
    dense_norm: str = "none"
    norm: str = "none"
    norm_eps: float = 1e-5
    class_agnostic: bool = False
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        kind: dict[str, Any] = dict(norm=self.norm, norm_eps=self.norm_eps, dtype=self.dtype)
        self.conv = [ConvNorm(self.conv_channels, 3, **kind) for _ in range(self.convs)]
        has_bias = self.dense_norm == "none"
        self.dense = [
            Dense(self.dense_channels, self.dtype, use_bias=has_bias)
            for _ in range(1 if self.convs else 2)
        ]
        if self.dense_norm != "none":
            self.dense_norm_layer = [
                norm_layer(self.dense_norm, self.dense_channels, self.norm_eps) for _ in self.dense
            ]
        self.class_logits = Dense(self.num_classes + 1, self.dtype, small_normal)
        self.boxes = 1 if self.class_agnostic else self.num_classes + 1
        self.box_deltas = Dense(4 * self.boxes, self.dtype, normal(0.001))

    def __call__(
        self, x: jax.Array, statistics_parts: int = 0, mask: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Returns what each RoI is and where its object lies, for every class.

        Args:
            x: [B, N, S, S, C], pooled features.
            statistics_parts: see Norm.
            mask: [B, N] bool, the RoIs that enter the batch statistics.

        Returns:
            class_logits [B, N, K + 1] float32 and box_deltas [B, N, K + 1, 4] float32; class 0 is
            the background, whose deltas nobody reads: torchvision's weights have them. With
            `class_agnostic` box_deltas are [B, N, 1, 4].
        """
        for conv in self.conv:
            x = nn.relu(conv(x, statistics_parts, mask))
        x = x.reshape((*x.shape[:-3], -1))
        for i, dense in enumerate(self.dense):
            x = dense(x)
            if self.dense_norm != "none":
                x = self.dense_norm_layer[i](x, statistics_parts, mask)
            x = nn.relu(x)
        deltas = self.box_deltas(x).astype(jnp.float32)
        deltas = deltas.reshape((*x.shape[:-1], self.boxes, 4))
        return self.class_logits(x).astype(jnp.float32), deltas


def class_scores(class_logits: jax.Array, config: BoxHeadConfig) -> jax.Array:
    """Returns the scores of logits [..., K + 1], 0..1, of the same shape; of sigmoids without sum.

    Args:
        class_logits: of the box head, or of several.
        config: `config.model.box_head`.
    """
    scores = jax.nn.softmax if config.class_loss == "softmax" else jax.nn.sigmoid
    return scores(class_logits)
