"""Elementwise losses, and sums over the valid part of padded arrays. All arithmetic is float32.

Padding can hold NaN or infinity. Multiplying a loss by a mask does not remove them (0 * NaN is
NaN), and selecting after the loss still leaves NaN in its gradient. So the *inputs* of a loss are
selected by `masked` first, and `masked_sum` or `masked_mean` reduce it.
"""

import jax
import jax.numpy as jnp
from jax import Array


def smooth_l1(pred: Array, target: Array, beta: float) -> Array:
    """Absolute difference with a quadratic bottom (Fast R-CNN, eq. 3, where beta is 1).

    Args:
        pred: any shape, any float type.
        target: broadcasts with `pred`.
        beta: the difference at which it turns from quadratic to linear; 0 is the plain absolute
            difference.

    Returns:
        float32, elementwise: `d^2 / (2 beta)` below beta, `d - beta / 2` above.
    """
    difference = jnp.abs(pred.astype(jnp.float32) - target.astype(jnp.float32))
    if beta <= 0:
        return difference
    quadratic = 0.5 / beta * difference**2
    return jnp.where(difference < beta, quadratic, difference - 0.5 * beta)


def sigmoid_cross_entropy(logits: Array, targets: Array) -> Array:
    """Binary cross-entropy of independent sigmoids, without overflow for large logits.

    Args:
        logits: any shape, any float type.
        targets: broadcasts with `logits`; probabilities 0..1 (soft targets are fine).

    Returns:
        float32, elementwise, nats.
    """
    logits, targets = logits.astype(jnp.float32), targets.astype(jnp.float32)
    return jax.nn.softplus(logits) - targets * logits


def softmax_cross_entropy(logits: Array, labels: Array) -> Array:
    """Cross-entropy of a softmax with the class to be predicted.

    Args:
        logits: `[..., K + 1]`, any float type; class 0 is the background.
        labels: `[...]` int, 0..K; clipped to that, so that padding may hold anything.

    Returns:
        `[...]` float32, nats.
    """
    logits = logits.astype(jnp.float32)
    labels = jnp.clip(labels, 0, logits.shape[-1] - 1)
    chosen = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    return jax.nn.logsumexp(logits, axis=-1) - chosen


def _expand(mask: Array, values: Array) -> Array:
    """The mask with axes of length 1 for the trailing axes that `values` has more."""
    return mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim))


def masked(values: Array, mask: Array) -> Array:
    """Zeros where the mask is False; neither value nor gradient passes from there.

    Args:
        values: `[..., *rest]`.
        mask: `[...]` bool: the leading axes of `values`.

    Returns:
        `values` with zeros in the invalid slots.
    """
    return jnp.where(_expand(mask, values), values, jnp.zeros_like(values))


def masked_sum(values: Array, mask: Array) -> Array:
    """Sum over the valid slots.

    Args:
        values: `[..., *rest]`.
        mask: `[...]` bool: the leading axes of `values`.

    Returns:
        Scalar.
    """
    return jnp.sum(masked(values, mask))


def masked_mean(values: Array, mask: Array) -> Array:
    """Mean over the elements of the valid slots; 0 where there are none.

    Args:
        values: `[..., *rest]`.
        mask: `[...]` bool: the leading axes of `values`.

    Returns:
        Scalar.
    """
    count = jnp.sum(jnp.broadcast_to(_expand(mask, values), values.shape))
    return masked_sum(values, mask) / jnp.maximum(count, 1)
