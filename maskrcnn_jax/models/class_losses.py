"""Losses of the box head's classes: softmax, independent sigmoids, and the federated loss.

With a thousand classes, most of them rare, nearly every RoI tells the output of a rare class to be
low, and hardly any to be high. The federated loss (Zhou et al. 2021, "Probabilistic two-stage
detection", appendix D, for LVIS) asks of an image the classes that it shows and a few others, drawn
at random, frequent ones more often: a rare class is then seldom told to be low.
"""

import jax
import jax.numpy as jnp
import numpy as np

from maskrcnn_jax.models.config import BoxHeadConfig
from maskrcnn_jax.models.targets import RoIs
from maskrcnn_jax.ops.losses import masked, sigmoid_cross_entropy, softmax_cross_entropy
from maskrcnn_jax.parallel import partition

_CLASSES = 3  # what is folded into a step's key to draw classes


def class_loss(
    class_logits: jax.Array, rois: RoIs, config: BoxHeadConfig, rng: jax.Array | None
) -> jax.Array:
    """Returns the loss of each RoI's class, [B, N] float32; of invalid RoIs it has no meaning.

    Sigmoids are as Detectron2's `FastRCNNOutputLayers` (v0.6) has them with `USE_SIGMOID_CE`: a sum
    over the foreground classes, in which the background is to be low everywhere.

    Args:
        class_logits: [B, N, K + 1] float32; that of the background counts with softmax alone.
        rois: with leading axis B.
        config: `config.model.box_head`.
        rng: key of the step; only the federated loss needs it.

    Raises:
        ValueError: `class_image_counts` are not of K classes.
    """
    if config.class_loss == "softmax":
        return softmax_cross_entropy(class_logits, rois.labels)
    logits = masked(class_logits[..., 1:], rois.valid)
    targets = jax.nn.one_hot(rois.labels - 1, logits.shape[-1])
    losses = sigmoid_cross_entropy(logits, targets)
    if config.class_loss == "federated":
        assert rng is not None
        losses = losses * _asked(rng, rois, logits.shape[-1], config)[:, None]
    return losses.sum(axis=-1)


def _asked(rng, rois: RoIs, num_classes: int, config: BoxHeadConfig) -> jax.Array:
    """Returns which classes are in the loss of each image, [B, K] float32.

    Detectron2 chooses for all images of a GPU together; here each image has its own, as there with
    one image on each GPU: so the loss does not depend on how many devices there are.
    """
    counts = np.asarray(config.class_image_counts or (1,) * num_classes, np.float32)
    if len(counts) != num_classes:
        raise ValueError(
            f"config.model.box_head.class_image_counts has {len(counts)} values, the model "
            f"{num_classes} classes; give one for each, or none: training counts them itself"
        )
    weights = counts**config.federated_power
    keys = jax.random.split(jax.random.fold_in(rng, _CLASSES), rois.labels.shape[0])

    def of_image(key, labels, valid):
        return federated_classes(key, labels, valid, weights, config.federated_classes)

    return partition.per_image(of_image)(keys, rois.labels, rois.valid).astype(jnp.float32)


def federated_classes(
    rng: jax.Array, labels: jax.Array, valid: jax.Array, weights: np.ndarray, number: int
) -> jax.Array:
    """Draws the classes of the federated loss of one image.

    As Detectron2's `get_fed_loss_classes`: those of the RoIs, and as many others as `number` leaves
    room for, where the background counts as one. Others are drawn one after the other without
    replacement, each with a probability proportional to its weight; adding Gumbel noise to the
    logarithms of the weights and taking the highest is the same (Efraimidis and Spirakis 2006;
    Vieira 2014).

    Args:
        rng: key of the image.
        labels: [N] int32, 0..K.
        valid: [N] bool.
        weights: [K] float32; what has 0 is never drawn.
        number: of classes, where the RoIs have no more.

    Returns:
        [K] bool.
    """
    shown = (jax.nn.one_hot(labels, len(weights) + 1, dtype=bool) & valid[:, None]).any(axis=0)
    noise = jax.random.gumbel(rng, weights.shape)
    logarithms = np.log(np.where(weights > 0, weights, 1))
    order = jnp.where(shown[1:] | (weights <= 0), -jnp.inf, logarithms + noise)
    rank = jnp.argsort(jnp.argsort(-order))
    return shown[1:] | ((rank < number - shown.sum()) & (order > -jnp.inf))
