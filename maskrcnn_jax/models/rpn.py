"""Region proposal network (Ren et al. 2015): pyramid -> objectness, deltas -> proposals."""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from maskrcnn_jax.models.initializers import small_normal
from maskrcnn_jax.models.layers import Conv
from maskrcnn_jax.ops import boxes as box_ops
from maskrcnn_jax.ops.nms import nms_sorted
from maskrcnn_jax.parallel import partition


class RPNHead(nn.Module):
    """3x3 convolutions, then an objectness and four deltas for each anchor of each cell.

    Attributes:
        channels: of the convolutions.
        anchors_per_cell: R.
        convs: 3x3 convolutions before the predictors.
        dtype: of the convolutions.
    """

    channels: int = 256
    anchors_per_cell: int = 3
    convs: int = 1
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        def conv(features, size):
            return Conv(features, size, dtype=self.dtype, kernel_init=small_normal)

        self.conv = [conv(self.channels, 3) for _ in range(self.convs)]
        self.logits = conv(self.anchors_per_cell, 1)
        self.deltas = conv(4 * self.anchors_per_cell, 1)

    def __call__(self, pyramid: dict[str, jax.Array]) -> tuple[list[jax.Array], list[jax.Array]]:
        """Returns objectness logits and deltas of every level's anchors.

        Args:
            pyramid: p2 to p6, [B, h, w, C] each; all pass the same layers.

        Returns:
            Two lists with one array a level: [B, h * w * R] and [B, h * w * R, 4] float32, in the
            order of `ops.anchors.pyramid_anchors`: row, column, anchor of the cell.
        """
        logits, deltas = [], []
        for x in pyramid.values():
            for conv in self.conv:
                x = nn.relu(conv(x))
            batch = x.shape[0]
            # Proposals are the best of a whole image.
            level_logits = partition.images(self.logits(x).astype(jnp.float32))
            level_deltas = partition.images(self.deltas(x).astype(jnp.float32))
            logits.append(level_logits.reshape(batch, -1))
            deltas.append(level_deltas.reshape(batch, -1, 4))
        return logits, deltas


class Proposals(NamedTuple):
    """Where objects may be, best first: boxes [..., N, 4], scores [..., N] in 0..1, valid [..., N].

    Boxes are float32, xyxy, input pixels; invalid slots hold zeros.
    """

    boxes: jax.Array
    scores: jax.Array
    valid: jax.Array


def propose(
    logits: Sequence[jax.Array],
    deltas: Sequence[jax.Array],
    anchors: Sequence[np.ndarray | jax.Array],
    limits: jax.Array,
    *,
    pre_nms_top_n: int,
    post_nms_top_n: int,
    nms_threshold: float,
    min_size: float,
    coder_weights: Sequence[float],
    joint: bool = False,
) -> Proposals:
    """Selects the proposals of one image, as torchvision 0.28 does.

    Each level gives its best `pre_nms_top_n` anchors, which are decoded, clipped and suppressed
    among themselves; the best `post_nms_top_n` of all levels remain. No gradient flows.

    Args:
        logits: one [A_l] float32 a level.
        deltas: one [A_l, 4] float32 a level.
        anchors: one [A_l, 4] float32 a level, xyxy, input pixels.
        limits: [2] float32, the largest y and x of a proposal, pixels.
        pre_nms_top_n: proposals of a level before NMS.
        post_nms_top_n: proposals of an image after it.
        nms_threshold: IoU from which on the lower of two scores goes.
        min_size: proposals with a shorter side go, pixels.
        coder_weights: as `config.model.rpn` has them.
        joint: treat the anchors of all levels as those of a single one, as matterport does.

    Returns:
        N = post_nms_top_n proposals, or fewer where the pyramid has not as many anchors.
    """
    if joint:
        logits, deltas, anchors = ([jnp.concatenate(x)] for x in (logits, deltas, anchors))
    slots = max(min(pre_nms_top_n, level.shape[0]) for level in logits)

    def best_of_level(logits, deltas, anchors):
        number = min(pre_nms_top_n, logits.shape[0])
        top_logits, index = jax.lax.top_k(logits, number)
        boxes = box_ops.decode(deltas[index], jnp.asarray(anchors)[index], coder_weights)
        # Levels are padded to one shape, so that a single program suppresses all of them.
        padding = (0, slots - number)
        return (
            jnp.pad(box_ops.clip(boxes, limits[0], limits[1]), (padding, (0, 0))),
            jnp.pad(jax.nn.sigmoid(top_logits), padding),
            jnp.arange(slots) < number,
        )

    levels = jax.lax.stop_gradient(
        [best_of_level(*level) for level in zip(logits, deltas, anchors, strict=True)]
    )
    boxes, scores, valid = (jnp.stack(parts) for parts in zip(*levels, strict=True))  # [L, slots]
    valid &= box_ops.is_at_least(boxes, min_size)
    keep = jax.vmap(lambda boxes, valid: nms_sorted(boxes, valid, nms_threshold))(boxes, valid)

    number = min(post_nms_top_n, keep.size)
    _, index = jax.lax.top_k(jnp.where(keep, scores, -1.0).reshape(-1), number)
    valid = keep.reshape(-1)[index]
    return Proposals(
        boxes=jnp.where(valid[:, None], boxes.reshape(-1, 4)[index], 0.0),
        scores=jnp.where(valid, scores.reshape(-1)[index], 0.0),
        valid=valid,
    )
